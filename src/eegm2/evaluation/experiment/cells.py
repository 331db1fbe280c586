"""The cells of an experiment, model × split × seed, each kept in two files that are complete or absent."""

from __future__ import annotations

import hashlib
import io
import re
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from eegm2.atomic import write_atomic
from eegm2.data.config import sha256_json
from eegm2.evaluation.experiment.config import ModelPlan
from eegm2.evaluation.experiment.settings import Settings, chosen, outdated
from eegm2.evaluation.experiment.splits import NamedSplit
from eegm2.evaluation.scores.outcome import Outcome
from eegm2.model.features import has_views
from eegm2.records import CELL, read_record
from eegm2.training.checkpoint import write_json

#: Part of every key: to be raised when the same settings give other results than before.
FORMAT = 2


@dataclass(frozen=True)
class Cell:
    """One model on one split with one seed."""

    model: ModelPlan
    split: NamedSplit
    seed: int

    @property
    def label(self) -> str:
        """Name for people."""
        return f"{self.model.name} {self.split.name} seed {self.seed}"

    @property
    def stem(self) -> str:
        """Start of its files' names."""
        name = re.sub(r"[^A-Za-z0-9_.+-]", "_", f"{self.model.name}-{self.split.name}")
        return f"{name[:80]}-s{self.seed}"

    def key(self, settings: Settings, units: dict[str, list[str]], data: dict[str, Any], weights: str) -> str:
        """Return the hash of everything that decides the result, options at their defaults left out.

        Parameters
        ----------
        settings : Settings
            From :func:`settings_of`.
        units : dict
            Subjects (recordings) of each part.
        data : dict
            Store and classes.
        weights : str
            Fingerprint of the first weights, or of what is chosen among.
        """
        parts = {"units": units, "by": self.split.manifest.by}
        views = ["views"] if self.model.protocol == "linear" and has_views(self.model.features) else []
        begun = ["people"] if self.model.fit.get("begin") == "probe" else []
        return sha256_json([FORMAT, chosen(settings), parts, self.seed, data, weights, *views, *begun])


@dataclass(frozen=True)
class StoredCell:
    """A finished cell: its facts, its scores of the test windows and its JSON file."""

    facts: dict[str, Any]
    score: np.ndarray
    path: Path

    @property
    def deterministic(self) -> bool:
        """Whether other seeds would give the same."""
        return bool(self.facts["result"].get("deterministic"))

    @property
    def validation(self) -> dict[str, Any]:
        """Metrics of the validation part; empty in a cell that an older eegm2 kept."""
        found: dict[str, Any] = self.facts["result"].get("validation") or {}
        return found

    @property
    def outcome(self) -> Outcome:
        """The predictions as a protocol returned them."""
        result = self.facts["result"]
        return Outcome(result["protocol"], result["seed"], self.score, result["threshold"])


class CellFolder:
    """Reads and writes finished cells.

    Parameters
    ----------
    folder : Path
        ``cells/`` of an experiment.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[Path, StoredCell] = {}

    def path(self, cell: Cell, key: str) -> Path:
        """Return the JSON file of a cell."""
        return self.folder / f"{cell.stem}-{key[:16]}.json"

    def read(self, cell: Cell, key: str, settings: Settings) -> StoredCell | None:
        """Return a finished cell, or None where there is none, a damaged one, or one of other settings."""
        path = self.path(cell, key)
        if path not in self._read:
            try:
                facts = read_record(path, CELL)
                data = path.with_suffix(".npz").read_bytes()
                if facts["key"] != key or hashlib.sha256(data).hexdigest() != facts["predictions_sha256"]:
                    return None
                with np.load(io.BytesIO(data), allow_pickle=False) as file:
                    self._read[path] = StoredCell(facts, file["score"], path)
            except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
                return None
        found = self._read[path]
        if outdated(found.facts.get("settings"), settings):
            return None
        return found

    def write(self, cell: Cell, key: str, facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
        """Write a cell: predictions first; the JSON with their hash makes it finished."""
        path = self.path(cell, key)
        self._read.pop(path, None)
        buffer = io.BytesIO()
        np.savez_compressed(buffer, allow_pickle=False, **arrays)
        write_atomic(path.with_suffix(".npz"), [buffer.getbuffer()])
        digest = hashlib.sha256(buffer.getbuffer()).hexdigest()
        write_json(path, {"format": FORMAT, "key": key, **facts, "predictions_sha256": digest})

    def stale(self, wanted: Iterable[Path]) -> list[str]:
        """Return the names of cells that belong to no cell wanted: of an earlier form of the experiment."""
        names = {path.name for path in wanted}
        return sorted(path.name for path in self.folder.glob("*.json") if path.name not in names)
