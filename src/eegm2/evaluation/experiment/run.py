"""``eegm2 evaluate``: run an experiment cell by cell, go on where it stopped, and write its results."""

from __future__ import annotations

import contextlib
import json
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eegm2.config import to_dict
from eegm2.data.config import sha256_json
from eegm2.data.storage import remove_stale_temporaries
from eegm2.data.store import RecordingStore
from eegm2.errors import ConfigError, EEGM2Error
from eegm2.evaluation.experiment.cells import Cell, CellFolder, StoredCell
from eegm2.evaluation.experiment.config import Plan, PretrainPlan
from eegm2.evaluation.experiment.results import Finished, machine, write_results
from eegm2.evaluation.experiment.runners import DataSource, Runner, baseline_options
from eegm2.evaluation.experiment.splits import NamedSplit, named_splits
from eegm2.evaluation.experiment.weights import WeightSource
from eegm2.evaluation.outcome import Outcome, evaluate
from eegm2.evaluation.representation import usable_device
from eegm2.training.checkpoint import provenance
from eegm2.training.runfolder import locked

Say = Callable[[str], None]


@dataclass
class Evaluated:
    """What a call came to.

    Attributes
    ----------
    rows : list of dict
        Contents of results.json.
    failures : dict
        Cell → message.
    stale : list of str
        Cells that belong to an earlier form of the experiment.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    stale: list[str] = field(default_factory=list)


class Experiment:
    """A plan with its data, opened and checked, before anything is computed.

    Parameters
    ----------
    plan : Plan
        From :func:`read_plan`.
    out : str or Path
        Folder of the experiment.
    only : sequence of str
        Names of models to run; all if empty.
    device : str
        Where to compute.

    Raises
    ------
    ConfigError
        If a name is unknown, or a pretraining's data differ from the experiment's.
    DataError
        If labels or subjects do not suffice for the splits.
    """

    def __init__(self, plan: Plan, out: str | Path, *, only: Sequence[str] = (), device: str = "cpu") -> None:
        usable_device(device)
        self.plan, self.out, self.device = plan, Path(out), device
        names = [model.name for model in plan.models]
        unknown = [name for name in only if name not in names]
        if unknown:
            raise ConfigError(f"--only: got '{unknown[0]}', {plan.path} has {', '.join(names)}")
        self.only = set(only or names)
        _refuse_foreign_folder(self.out)
        self.store = RecordingStore(plan.data.store)
        self.data = DataSource(plan, self.store)
        self.splits = named_splits(plan, self.store, self.data.labelled)
        self.weights = WeightSource(plan, self.store, self.out, device)
        self.folder = CellFolder(self.out / "cells")
        for model in plan.models:
            if model.name in self.only:
                if model.baseline:
                    baseline_options(model, device)
                else:
                    self.weights.check(model)
        self._units = {split.name: split.units(self.data.labelled) for split in self.splits}
        self.cells = [Cell(m, s, seed) for m in plan.models for s in self.splits for seed in plan.seeds]

    def key(self, cell: Cell) -> str | None:
        """Return a cell's hash, None while its weights are not there."""
        if cell.model.baseline:
            fingerprint: str | None = sha256_json(to_dict(baseline_options(cell.model)))
        else:
            fingerprint = self.weights.fingerprint(cell.model, cell.split, cell.seed)
        if fingerprint is None:
            return None
        identity = self.data.identity(cell.model.scaling)
        return cell.key(self._units[cell.split.name], identity, fingerprint)

    def stored(self, cell: Cell) -> StoredCell | None:
        """Return a cell's result if it is finished."""
        key = self.key(cell)
        return None if key is None else self.folder.read(cell, key)

    def state(self, cell: Cell) -> str:
        """Return done, to do, after pretraining, or not needed (chance plays no part in the model)."""
        if self.stored(cell) is not None:
            return "done"
        first = self.stored(Cell(cell.model, cell.split, self.plan.seeds[0]))
        if first is not None and first.deterministic:
            return "not needed"
        return "to do" if self.key(cell) is not None else "after pretraining"

    def finished(self) -> list[Finished]:
        """Return all cells of the plan with their results."""
        return [Finished(cell, self.stored(cell)) for cell in self.cells]

    def stale(self) -> list[str]:
        """Return the cells on disk that are none of the plan's."""
        keys = ((cell, self.key(cell)) for cell in self.cells)
        return self.folder.stale(self.folder.path(cell, key) for cell, key in keys if key is not None)

    def statements(self) -> dict[str, dict[str, str]]:
        """Return what pretraining saw of each split's test part, by model and split."""
        said: dict[str, dict[str, str]] = {}
        for model in self.plan.models:
            for split in self.splits:
                with contextlib.suppress(EEGM2Error):
                    said.setdefault(model.name, {})[split.name] = self.weights.statement(model, split)
        return said


def run_experiment(experiment: Experiment, say: Say = print) -> Evaluated:
    """Run what is to do, then write results.json, details.json and results.md.

    A cell that fails is recorded, and the rest goes on. Ctrl-C leaves what is finished.

    Parameters
    ----------
    experiment : Experiment
        Opened and checked.
    say : callable
        Takes the lines of progress; they are kept in evaluate.log too.
    """
    with locked(experiment.out):
        log = _log(experiment.out / "evaluate.log", say)
        for name in ("", "cells", "features", "splits"):  # what a killed process was writing
            remove_stale_temporaries(experiment.out / name)
        done = Evaluated()
        try:
            _run(experiment, done, log)
        finally:
            done.stale = experiment.stale()
            done.rows = write_results(
                experiment.out,
                experiment.plan,
                experiment.data.labelled,
                experiment.finished(),
                statements=experiment.statements(),
                failures=done.failures,
                stale=done.stale,
                device=experiment.device,
            )
        log(f"{len(done.rows)} rows in results.json; {len(done.failures)} cells failed")
    return done


def _run(experiment: Experiment, done: Evaluated, log: Say) -> None:
    """Run the cells that need no pretraining, then each pretraining followed by its own cells."""
    runner = Runner(experiment.data, experiment.weights, experiment.out, experiment.device)
    mine = [cell for cell in experiment.cells if cell.model.name in experiment.only]
    groups: dict[str, list[Cell]] = {}
    for cell in mine:
        source = _source(experiment, cell)
        groups.setdefault(
            "" if source is None else str(experiment.weights.place(source, cell.split)), []
        ).append(cell)
    clock = _Clock([cell for cell in mine if experiment.state(cell) not in ("done", "not needed")])
    log(f"{experiment.plan.path.name}: {len(mine)} cells, {clock.left} to do")
    log(json.dumps({**provenance(), **machine(experiment.device)}))
    for place in sorted(groups, key=lambda name: name != ""):
        todo = [cell for cell in groups[place] if experiment.state(cell) not in ("done", "not needed")]
        if not todo:
            continue
        source = _source(experiment, todo[0])
        if source is not None and not source.run:
            log(f"pretraining {Path(place).relative_to(experiment.out)}")
            message = _attempt(lambda: experiment.weights.pretrain(source, todo[0].split), log)  # noqa: B023
            if message:
                done.failures |= {cell.label: f"pretraining {source.name}: {message}" for cell in todo}
                log(f"FAILED pretraining {source.name}: {message}")
                clock.skip(todo)
                continue
        for cell in todo:
            if experiment.state(cell) == "not needed":
                clock.skip([cell])
            else:
                _one(experiment, runner, cell, done, clock, log)


def _source(experiment: Experiment, cell: Cell) -> PretrainPlan | None:
    return (
        None if cell.model.fresh or cell.model.baseline else experiment.plan.pretrain[cell.model.pretrained]
    )


def _one(
    experiment: Experiment, runner: Runner, cell: Cell, done: Evaluated, clock: _Clock, log: Say
) -> None:
    """Run a cell, keep it, and say how it went."""
    began = time.monotonic()
    facts: dict[str, Any] = {}

    def work() -> None:
        outcome = runner(cell)
        key = experiment.key(cell)
        assert key is not None
        facts.update(_facts(experiment, cell, outcome, time.monotonic() - began))
        experiment.folder.write(cell, key, facts, _arrays(experiment, cell.split, outcome))

    message = _attempt(work, log)
    timing = clock.tick(cell, time.monotonic() - began)
    if message:
        done.failures[cell.label] = message
        log(f"{clock.place} {cell.label}: FAILED: {message} {timing}")
        return
    metrics = facts["result"]["metrics"]
    main = [name for name in ("balanced_accuracy", "auroc", "r2", "mae") if name in metrics]
    shown = ", ".join(f"{name} {metrics[name]:.3f}" for name in main if metrics[name] is not None)
    log(f"{clock.place} {cell.label}: {shown} {timing}")


def _attempt(work: Callable[[], None], log: Say) -> str:
    """Do something; return an empty string, or what went wrong in one line."""
    from eegm2.training.state import Interrupted

    try:
        work()
    except Interrupted:
        raise
    except EEGM2Error as error:
        return str(error)
    except Exception as error:
        for line in traceback.format_exc().splitlines():
            log(f"  {line}")
        return " ".join(f"{type(error).__name__}: {error}".split())
    return ""


def _facts(experiment: Experiment, cell: Cell, outcome: Outcome, seconds: float) -> dict[str, Any]:
    result = evaluate(outcome, experiment.data.labelled, cell.split.indices.test)
    about: dict[str, Any] = {"model": cell.model.name, "split": cell.split.name, "seed": cell.seed}
    if cell.split.n_labelled is not None:
        about["train_subjects"] = cell.split.n_labelled
    saw = experiment.weights.statement(cell.model, cell.split)
    where = {"device": experiment.device, "seconds": round(seconds, 2)}
    return {**about, "pretraining_saw": saw, **where, "result": {**result, "seed": cell.seed}}


def _arrays(experiment: Experiment, split: NamedSplit, outcome: Outcome) -> dict[str, np.ndarray]:
    data, test = experiment.data.labelled, split.indices.test
    return {
        "score": np.asarray(outcome.score),
        "y_true": data.y[test],
        "subject": data.subject[test].astype(str),
        "recording": data.recording[test].astype(str),
        "start_s": np.asarray(data.start_s)[test],
    }


class _Clock:
    """Counts cells and foretells how long the rest takes: as long as the same model's cells took."""

    def __init__(self, cells: Sequence[Cell]) -> None:
        self.total = len(cells)
        self.rest = Counter(cell.model.name for cell in cells)
        self.spent: dict[str, list[float]] = {}

    @property
    def left(self) -> int:
        return self.rest.total()

    @property
    def place(self) -> str:
        return f"[{self.total - self.left}/{self.total}]"

    def skip(self, cells: Sequence[Cell]) -> None:
        self.rest.subtract(cell.model.name for cell in cells)

    def tick(self, cell: Cell, seconds: float) -> str:
        self.skip([cell])
        self.spent.setdefault(cell.model.name, []).append(seconds)
        every = [value for values in self.spent.values() for value in values]
        rest = sum(n * float(np.mean(self.spent.get(name, every))) for name, n in self.rest.items())
        return f"({_span(seconds)}; {_span(sum(every))} so far, about {_span(rest)} left)"


def _span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _log(path: Path, say: Say) -> Say:
    def write(line: str) -> None:
        say(line)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

    return write


def _refuse_foreign_folder(out: Path) -> None:
    """Refuse a folder that holds a run, a store or a probe."""
    for name in ("run.json", "store.json", "predictions.npz"):
        if (out / name).exists():
            raise ConfigError(f"--out {out}: holds {name} of something else; choose another folder")
    if out.is_file():
        raise ConfigError(f"--out {out}: is a file; choose a folder")


def states(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Yield (cell, state) of the models asked for; nothing is computed or written."""
    for cell in experiment.cells:
        if cell.model.name in experiment.only:
            yield cell.label, experiment.state(cell)
