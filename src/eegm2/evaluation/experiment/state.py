"""An experiment opened and checked: its data, splits and cells, and which of them are done."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from eegm2.data.store.recording_store import RecordingStore
from eegm2.errors import ConfigError, EEGM2Error
from eegm2.evaluation.experiment import choice
from eegm2.evaluation.experiment.cells import Cell, CellFolder, StoredCell
from eegm2.evaluation.experiment.config import Plan
from eegm2.evaluation.experiment.results import Finished
from eegm2.evaluation.experiment.runners import DataSource
from eegm2.evaluation.experiment.settings import Settings, baseline_options, settings_of
from eegm2.evaluation.experiment.splits import named_splits
from eegm2.evaluation.experiment.weights import WeightSource
from eegm2.evaluation.features.representation import usable_device
from eegm2.plugins import consent


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
        consent(plan.data, *(source.options for source in plan.pretrain.values()), *plan.models)
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
                elif model.protocol:
                    self.weights.check(model)
        self._settings: dict[str, Settings] = {}
        self._units = {split.name: split.units(self.data.labelled) for split in self.splits}
        self.cells = [Cell(m, s, seed) for m in plan.models for s in self.splits for seed in plan.seeds_of(m)]

    def settings(self, cell: Cell) -> Settings:
        """Return the choices that decide a cell's result, resolved."""
        model = cell.model
        if model.name not in self._settings:
            network = self.weights.fresh_config(model) if model.fresh else None
            windows = self.plan.data.windows(model.scaling)
            self._settings[model.name] = settings_of(model, windows, network)
        return self._settings[model.name]

    def key(self, cell: Cell) -> str | None:
        """Return a cell's hash, None while its weights (the cells it chooses among) are not there."""
        if cell.model.choose:
            candidates = self.candidates(cell)
            fingerprint = choice.fingerprint(list(candidates.values())) if candidates else None
        elif cell.model.baseline or cell.model.fresh:
            fingerprint = ""  # the settings say it all
        else:
            fingerprint = self.weights.fingerprint(cell.model, cell.split, cell.seed)
        if fingerprint is None:
            return None
        return cell.key(self.settings(cell), self._units[cell.split.name], self.data.identity(), fingerprint)

    def stored(self, cell: Cell) -> StoredCell | None:
        """Return a cell's result if it is finished."""
        key = self.key(cell)
        return None if key is None else self.folder.read(cell, key, self.settings(cell))

    def result(self, cell: Cell) -> StoredCell | None:
        """Return a cell's result, the first seed's where that says that chance plays no part in the model."""
        stored = self.stored(cell)
        if stored is None:
            first = self.stored(replace(cell, seed=self.plan.seeds_of(cell.model)[0]))
            return first if first is not None and first.deterministic else None
        return stored

    def candidates(self, cell: Cell) -> dict[str, StoredCell]:
        """Return the results that a cell chooses among, by model; empty while one is missing."""
        found = {
            model.name: self.result(replace(cell, model=model)) for model in self.plan.candidates(cell.model)
        }
        there = {name: stored for name, stored in found.items() if stored is not None}
        return there if len(there) == len(found) else {}

    def state(self, cell: Cell) -> str:
        """Return done, to do, after pretraining (its candidates), or not needed (no chance in the model)."""
        if self.stored(cell) is not None:
            return "done"
        if self.result(cell) is not None:
            return "not needed"
        if self.key(cell) is not None:
            return "to do"
        return "after its candidates" if cell.model.choose else "after pretraining"

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
                    of = self.plan.candidates(model) or [model]
                    texts = dict.fromkeys(self.weights.statement(each, split) for each in of)
                    said.setdefault(model.name, {})[split.name] = "; ".join(texts)
        return said


def states(experiment: Experiment) -> Iterator[tuple[str, str]]:
    """Yield (cell, state) of the models asked for; nothing is computed or written."""
    for cell in experiment.cells:
        if cell.model.name in experiment.only:
            yield cell.label, experiment.state(cell)


def _refuse_foreign_folder(out: Path) -> None:
    """Refuse a folder that holds a run, a store or a probe."""
    for name in ("run.json", "store.json", "predictions.npz"):
        if (out / name).exists():
            raise ConfigError(f"--out {out}: holds {name} of something else; choose another folder")
    if out.is_file():
        raise ConfigError(f"--out {out}: is a file; choose a folder")
