"""``eegm2 evaluate``: run an experiment cell by cell, go on where it stopped, and write its results."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from eegm2.atomic import remove_stale_temporaries
from eegm2.errors import DataError, EEGM2Error
from eegm2.evaluation.experiment.cells import Cell
from eegm2.evaluation.experiment.choice import choose
from eegm2.evaluation.experiment.config import PretrainPlan
from eegm2.evaluation.experiment.log import Clock, Say, kept_log
from eegm2.evaluation.experiment.results import machine, write_results
from eegm2.evaluation.experiment.runners import CellRunner
from eegm2.evaluation.experiment.settings import resolved
from eegm2.evaluation.experiment.splits import NamedSplit
from eegm2.evaluation.experiment.state import Experiment
from eegm2.evaluation.scores.outcome import Outcome, evaluate, validation_row
from eegm2.training.checkpoint import provenance
from eegm2.training.runfolder import locked


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
        log = kept_log(experiment.out / "evaluate.log", say)
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
    """Run the cells that need no pretraining, then each pretraining with its own cells, then the choices."""
    runner = CellRunner(experiment.data, experiment.weights, experiment.out, experiment.device)
    mine = [cell for cell in experiment.cells if cell.model.name in experiment.only]
    groups: dict[str, list[Cell]] = {}
    for cell in (cell for cell in mine if not cell.model.choose):
        source = _source(experiment, cell)
        groups.setdefault(
            "" if source is None else str(experiment.weights.place(source, cell.split)), []
        ).append(cell)
    clock = Clock([cell for cell in mine if experiment.state(cell) not in ("done", "not needed")])
    log(f"{experiment.plan.path.name}: {len(mine)} cells, {clock.left} to do")
    log(json.dumps({**provenance(), **machine(experiment.device)}))
    for place in sorted(groups, key=lambda name: name != ""):
        todo = [cell for cell in groups[place] if experiment.state(cell) not in ("done", "not needed")]
        if not todo:
            continue
        source = _source(experiment, todo[0])
        if source is not None and not source.run:
            message = _attempt(lambda: experiment.weights.pretrain(source, todo[0].split, log), log)  # noqa: B023
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
    for cell in (cell for cell in mine if cell.model.choose):
        state = experiment.state(cell)
        if state == "not needed":
            clock.skip([cell])
        elif state != "done":
            _one(experiment, runner, cell, done, clock, log)


def _source(experiment: Experiment, cell: Cell) -> PretrainPlan | None:
    pretrained = cell.model.protocol and not cell.model.fresh
    return experiment.plan.pretrain[cell.model.pretrained] if pretrained else None


def _one(
    experiment: Experiment, runner: CellRunner, cell: Cell, done: Evaluated, clock: Clock, log: Say
) -> None:
    """Run a cell, keep it, and say how it went."""
    began = time.monotonic()
    facts: dict[str, Any] = {}

    def work() -> None:
        if cell.model.choose:
            outcome, made = _chosen(experiment, cell)
        else:
            outcome = runner(cell)
            made = _facts(experiment, cell, outcome, time.monotonic() - began)
        key = experiment.key(cell)
        assert key is not None
        facts.update({**made, "settings": resolved(experiment.settings(cell))})
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
    shown = f"{facts['chosen']} chosen: {shown}" if "chosen" in facts else shown
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


def _chosen(experiment: Experiment, cell: Cell) -> tuple[Outcome, dict[str, Any]]:
    """Return the predictions of the candidate that a cell takes, and the cell's facts."""
    candidates = experiment.candidates(cell)
    if not candidates:
        among = [replace(cell, model=model) for model in experiment.plan.candidates(cell.model)]
        absent = ", ".join(other.label for other in among if experiment.result(other) is None)
        raise DataError(f"chosen among what is not there yet: {absent}; run (or mend) that first")
    stored, facts = choose(cell, candidates)
    return stored.outcome, facts


def _facts(experiment: Experiment, cell: Cell, outcome: Outcome, seconds: float) -> dict[str, Any]:
    result = evaluate(outcome, experiment.data.labelled, cell.split.indices.test)
    about: dict[str, Any] = {"model": cell.model.name, "split": cell.split.name, "seed": cell.seed}
    if cell.split.n_labelled is not None:
        about["train_subjects"] = cell.split.n_labelled
    saw = experiment.weights.statement(cell.model, cell.split)
    where = {"device": experiment.device, "seconds": round(seconds, 2)}
    of_validation = validation_row(outcome, experiment.data.labelled, cell.split.indices.val)
    result = {**result, "seed": cell.seed, "validation": of_validation}
    return {**about, "pretraining_saw": saw, **where, "result": result}


def _arrays(experiment: Experiment, split: NamedSplit, outcome: Outcome) -> dict[str, np.ndarray]:
    data, test = experiment.data.labelled, split.indices.test
    return {
        "score": np.asarray(outcome.score),
        "y_true": data.y[test],
        "subject": data.subject[test].astype(str),
        "recording": data.recording[test].astype(str),
        "start_s": np.asarray(data.start_s)[test],
    }
