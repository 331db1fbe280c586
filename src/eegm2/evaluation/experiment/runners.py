"""From a cell to its predictions."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eegm2.atomic import write_atomic
from eegm2.config import to_dict
from eegm2.data.config import sha256_json
from eegm2.data.store.recording_store import RecordingStore
from eegm2.evaluation.experiment.cells import Cell
from eegm2.evaluation.experiment.config import ModelPlan, Plan
from eegm2.evaluation.experiment.settings import baseline_options
from eegm2.evaluation.experiment.weights import WeightSource
from eegm2.evaluation.features.representation import extract_features
from eegm2.evaluation.protocols.frozen import light_probe, linear_probe
from eegm2.evaluation.protocols.modes import run_protocol
from eegm2.evaluation.protocols.people import Views
from eegm2.evaluation.scores.outcome import Outcome
from eegm2.evaluation.windows.from_store import labelled_windows
from eegm2.evaluation.windows.labelled import LabelledWindows
from eegm2.model.features import feature_views, has_views


class DataSource:
    """Labelled windows of the experiment, under the scalings that its models ask for.

    Parameters
    ----------
    plan : Plan
        The experiment.
    store : RecordingStore
        Where the windows are.
    """

    def __init__(self, plan: Plan, store: RecordingStore) -> None:
        self.plan, self.store = plan, store
        self._made: dict[str, LabelledWindows] = {}
        self._manifest_sha256 = store.manifest_sha256
        self.labelled = self._cut(plan.data.scaling)

    def __call__(self, scaling: str = "") -> LabelledWindows:
        """Return the windows under a scaling ([data]'s where none is given), in memory where they fit."""
        scaling = scaling or self.plan.data.scaling
        if scaling not in self._made:
            self._made = {scaling: self._cut(scaling).in_memory()}
        return self._made[scaling]

    def identity(self) -> dict[str, Any]:
        """Return what tells these data from any other, but for how windows are cut."""
        return {"classes": list(self.labelled.classes), "manifest_sha256": self._manifest_sha256}

    def _cut(self, scaling: str) -> LabelledWindows:
        data = self.plan.data
        windows = data.windows(scaling)
        return labelled_windows(self.store, windows, data.classes, regression=data.regression)


class CellRunner:
    """Runs cells; frozen features are computed once and kept on disk.

    Parameters
    ----------
    data : DataSource
        The windows.
    weights : WeightSource
        The networks.
    out : Path
        Folder of the experiment; features are kept below ``features/``.
    device : str
        Where to compute.
    """

    def __init__(self, data: DataSource, weights: WeightSource, out: Path, device: str) -> None:
        self.data, self.weights, self.out, self.device = data, weights, out, device
        self._features: tuple[Path, NDArray[np.float32]] | None = None
        self._baselines: dict[str, Any] = {}

    def __call__(self, cell: Cell) -> Outcome:
        """Return a cell's predictions of the test windows."""
        model, split, seed = cell.model, cell.split.indices, cell.seed
        if model.baseline:
            if model.name not in self._baselines:  # they keep what they computed of all windows
                runner = baseline(model, self.data.store.sfreq_hz, self.device)
                self._baselines = {model.name: runner}
            outcome: Outcome = self._baselines[model.name](self.data.labelled, split, seed)
            return outcome
        data = self.data(model.scaling)
        config = model.fit_config(self.device)
        if model.protocol in ("fine", "scratch"):
            network = self.weights.network(model, cell.split, seed)
            return run_protocol(
                model.protocol,
                data,
                split,
                model=network,
                seed=seed,
                config=config,
                centre=model.centre,
            )
        features = self.features(cell, data)
        if model.protocol == "light":
            return light_probe(features, data, split, seed=seed, config=config, centre=model.centre)
        linear = linear_probe(
            features,
            data,
            split,
            c=model.c,
            threshold=model.threshold,
            centre=model.centre,
            views=self._views(cell),
        )
        facts = {**linear.facts, "deterministic": not model.fresh}
        return dataclasses.replace(linear, seed=seed, facts=facts)

    def features(self, cell: Cell, data: LabelledWindows) -> NDArray[np.float32]:
        """Return the frozen features of every window, from disk where they are known."""
        seed = cell.seed if cell.model.fresh else 0  # new channels' layers: the same for every seed
        fingerprint = self.weights.fingerprint(cell.model, cell.split, seed)
        windows = to_dict(self.data.plan.data.windows(cell.model.scaling))
        kind = cell.model.features
        what = {} if kind == "statistics" else {"features": kind}
        key = sha256_json([fingerprint, {**self.data.identity(), "windows": windows, **what}])
        path = self.out / "features" / f"{key[:32]}.npy"
        if self._features is not None and self._features[0] == path:
            return self._features[1]
        features = self._known(path, len(data))
        if features is None:
            network = self.weights.network(cell.model, cell.split, seed)
            features = extract_features(network, data, device=self.device, kind=kind)
            buffer = io.BytesIO()
            np.save(buffer, features, allow_pickle=False)
            write_atomic(path, [buffer.getbuffer()])
        self._features = (path, features)
        return features

    def _views(self, cell: Cell) -> Views:
        """Return the sets of features; the network is asked only where there can be several."""
        kind = cell.model.features
        if not has_views(kind):
            return {}
        config = self.weights.network(cell.model, cell.split, cell.seed).config
        return feature_views(kind, config)

    def _known(self, path: Path, n_windows: int) -> NDArray[np.float32] | None:
        """Return stored features, None where there are none or the file is damaged."""
        try:
            array: NDArray[np.float32] = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return array if array.ndim == 2 and len(array) == n_windows else None


def baseline(model: ModelPlan, sfreq_hz: float, device: str = "cpu") -> Any:
    """Return a baseline's runner; errors as :func:`baseline_options`, and where a library is missing."""
    from eegm2.evaluation.baselines import baseline_runner

    options = to_dict(baseline_options(model, device))
    return baseline_runner(model.baseline, sfreq_hz=sfreq_hz, options=options)
