"""What parts of one's own promise, checked: call these from a test of the part.

Each takes a name (``package.module:Name``, or one of ours) or the part itself, and its options, and raises a
`ConfigError` that says which promise is broken.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eegm2.data.config import DATASETS, WindowConfig
from eegm2.data.store.recording_store import RecordingStore
from eegm2.errors import ConfigError
from eegm2.evaluation.baselines.registry import find_baseline
from eegm2.evaluation.windows.labelled import LabelledWindows, Split
from eegm2.model.config import MIXERS, EEGM2Config
from eegm2.model.network import EEGM2
from eegm2.plugins import Registry, is_plugin, read_options, trusting
from eegm2.training.config import PretrainConfig
from eegm2.training.objectives.base import Objective, Origin, Setting
from eegm2.training.objectives.options import OBJECTIVES


def check_mixer(part: Any, options: Mapping[str, Any] | None = None, *, channels: int = 8) -> None:
    """Check a mixer: shapes, independent windows, gradients, weights; of a causal one its state too.

    Parameters
    ----------
    part : str or type
        A `Mixer`.
    options : mapping, optional
        Its options.
    channels : int
        Of the signal that it mixes.

    Raises
    ------
    ConfigError
        Naming the promise that it breaks.
    """
    mixer_class, promise = _part(MIXERS, part)
    chosen = read_options(mixer_class, options or {}, promise.what)
    arguments = (channels, EEGM2Config(), *(() if chosen is None else (chosen,)))
    torch.manual_seed(0)
    mixer = mixer_class(*arguments).eval()
    u = torch.randn(3, 24, channels)
    with torch.no_grad():
        whole, state = promise.kept(lambda: mixer(u), "returns (y, state)")
        for length in (1, 7, 24):
            shape = mixer(u[:, :length])[0].shape
            promise(shape == (3, length, channels), f"y has the shape of u at length {length}, got {shape}")
        promise(bool(torch.isfinite(whole).all()), "y is finite")
        promise.same(mixer(u)[0], whole, "in evaluation mode the same u gives the same y")
        promise.same(mixer(u[1:2])[0], whole[1:2], "windows of a batch do not see each other")
        other = mixer_class(*arguments).eval()
        other.load_state_dict(mixer.state_dict())
        promise.same(other(u)[0], whole, "the state dict holds everything that was learnt")
        if mixer.causal:
            _check_state(mixer, u, whole, state, promise)
    given = u.clone().requires_grad_()
    mixer(given)[0].square().sum().backward()
    promise(given.grad is not None and bool(given.grad.abs().sum() > 0), "a gradient reaches u")
    idle = [name for name, p in mixer.named_parameters() if p.requires_grad and p.grad is None]
    promise(not idle, f"every weight takes part in y; {', '.join(idle)} has no gradient")


def _check_state(mixer: Any, u: Tensor, whole: Tensor, state: Any, promise: Promise) -> None:
    """Check that a causal mixer goes on from its state, and begins with zeros as with none."""
    changed = torch.cat([u[:, :12], torch.randn_like(u[:, 12:])], dim=1)
    promise.same(mixer(changed)[0][:, :12], whole[:, :12], "a causal y depends on no later step")
    tensors = isinstance(state, tuple) and all(isinstance(part, Tensor) for part in state)
    promise(tensors and all(part.shape[0] == len(u) for part in state), "a state is tensors, the batch first")
    first, after = mixer(u[:, :5])
    rest, _ = mixer(u[:, 5:], after)
    promise.same(torch.cat([first, rest], dim=1), whole, "y goes on from the state that was returned")
    shapes = [tuple(part.shape) for part in after] == [tuple(part.shape) for part in state]
    promise(shapes, "a state keeps its shape")
    start = (
        type(state)(*map(torch.zeros_like, state))
        if hasattr(state, "_fields")
        else tuple(map(torch.zeros_like, state))
    )
    promise.same(mixer(u, start)[0], whole, "a state of zeros is the start of a recording")


def check_objective(part: Any, options: Mapping[str, Any] | None = None, **config: Any) -> None:
    """Check an objective: its terms, gradients, and that chance follows from the windows' seeds alone.

    Parameters
    ----------
    part : str or type
        An `Objective`.
    options : mapping, optional
        Its options.
    **config
        Of a `PretrainConfig`: ``preset="covariance"`` where it needs one.

    Raises
    ------
    ConfigError
        Naming the promise that it breaks.
    """
    task, promise = _part(OBJECTIVES, part)
    named = {"objective": part} if isinstance(part, str) else {}
    run = PretrainConfig(**{"width": 4, "window_s": 4.0, **named, **config})
    ch_names = ("Fz", "Cz", "Pz", "Oz", "C3", "C4")
    changes = {} if task.decoder else {"decoder": False}
    torch.manual_seed(0)
    shape = EEGM2Config.preset(run.preset, n_chans=len(ch_names), width=run.width, **changes).at_rate(64.0)
    network = EEGM2(shape)
    pool: Any = SimpleNamespace(montages=(ch_names,), sfreq_hz=64.0, names=("store",))
    setting = Setting(run, network, pool, read_options(task, options or {}, promise.what))
    x, seeds, origin = torch.randn(4, len(ch_names), 256), [11, 12, 13, 14], Origin(0, [0, 0, 1, 1])
    objective: Objective = task.build(setting)
    promise(objective.terms[:1] == ("loss",), "the first of its terms is loss")
    promise(len(set(objective.terms)) == len(objective.terms), "terms have different names")
    random = torch.get_rng_state()
    losses = objective.losses(network, x, seeds, origin)
    promise(
        bool(torch.equal(torch.get_rng_state(), random)), "chance is drawn from the seeds, not from torch's"
    )
    promise(all(bool(torch.isfinite(value).all()) for value in losses), "losses are finite")
    promise(not any(value.requires_grad for value in losses[1:]), "parts behind the loss are detached")
    losses[0].backward()
    found = [p.grad for p in network.parameters() if p.grad is not None]
    promise(any(bool(gradient.abs().sum() > 0) for gradient in found), "a gradient reaches the network")
    fresh = task.build(setting)
    fresh.load_state_dict(objective.state_dict())
    again = fresh.losses(network, x, seeds, origin)
    promise.same(again[0], losses[0], "the state dict and the seeds decide the loss")
    turned = fresh.losses(network, x.flip(0), seeds[::-1], Origin(0, [1, 1, 0, 0]))
    promise.same(turned[0], losses[0], "what is random about a window follows from its own seed")
    objective.follow(network, 0.5)


def check_baseline(
    part: Any, options: Mapping[str, Any] | None = None, *, sfreq_hz: float = 64.0, stops: bool = False
) -> None:
    """Check a baseline: it learns from training people alone, and test people decide nothing.

    Parameters
    ----------
    part : str or Baseline
    options : mapping, optional
        Its options.
    sfreq_hz : float
        Sampling rate that it is told.
    stops : bool
        It stops by the validation part, which may then change what is learnt.

    Raises
    ------
    ConfigError
        Naming the promise that it breaks.
    """
    baseline = find_baseline(part) if isinstance(part, str) else part
    promise = Promise(f"baseline {baseline.name}")
    chosen = read_options(baseline, {**baseline.defaults, **(options or {})}, promise.what)
    runner = baseline.factory(baseline.name, sfreq_hz, chosen)
    data, split = some_people()
    first = runner(data, split, 0)
    promise(len(first.score) == len(split.test), "there is a score of every test window")
    other = runner(with_mixed_channels(data, split.test), split, 0)
    promise.same(first.val_score, other.val_score, "test windows do not move what is learnt", exactly=True)
    promise(first.threshold == other.threshold, "test windows do not move the threshold")
    promise(not np.allclose(first.score, other.score, atol=1e-3), "scores are of the test windows")
    y = data.y.copy()
    y[split.test] = 1 - y[split.test]
    told = runner(dataclasses.replace(data, y=y), split, 0)
    promise.same(first.score, told.score, "labels of the test part are not looked at", exactly=True)
    if not stops:
        moved = runner(with_mixed_channels(data, split.val), split, 0)
        promise.same(first.score, moved.score, "validation windows do not move what is learnt", exactly=True)


def check_dataset(
    part: Any, store: str | Path | RecordingStore, options: Mapping[str, Any] | None = None, **config: Any
) -> None:
    """Check a data set: the same windows every time, one by one as together, of the people asked for.

    Parameters
    ----------
    part : str or type
        A `WindowDataset`.
    store : RecordingStore, path or URL
        Recordings of two people or more.
    options : mapping, optional
        Its options.
    **config
        Of a `WindowConfig`, such as ``window_s``.

    Raises
    ------
    ConfigError
        Naming the promise that it breaks.
    """
    dataset, promise = _part(DATASETS, part)
    opened = store if isinstance(store, RecordingStore) else RecordingStore(store)
    windows = WindowConfig(**config, dataset_options=dict(options or {}))
    data = dataset(opened, windows)
    promise(len(data) > 0, "there are windows")
    rows = list(range(min(len(data), 8)))
    items = [data[row] for row in rows]
    shape = (len(opened.ch_names), data.n_times)
    for row, item in zip(rows, items):
        promise(tuple(item["x"].shape) == shape, f"x has shape {shape}")
        promise(item["x"].dtype == torch.float32, "x is float32")
        promise(bool(torch.isfinite(item["x"]).all()), "x is finite")
        promise(int(item["index"]) == row, "index is the window's number")
    torch.manual_seed(1)
    again = torch.stack([dataset(opened, windows)[row]["x"] for row in rows])
    one_by_one = torch.stack([item["x"] for item in items])
    promise.same(again, one_by_one, "the same window is the same numbers every time", exactly=True)
    together = data.__getitems__(rows).batch["x"]
    promise.same(together, one_by_one, "windows read together are those read one by one", exactly=True)
    person = opened.subjects[0]
    own = dataset(opened, windows, subjects=[person])
    promise(set(own.subjects.tolist()) == {person}, "subjects= leaves the others out")
    for row in data.index:
        promise(
            0 <= row["start"] <= data.recordings[row["recording"]].n_times - data.n_times,
            "windows lie inside",
        )


class Promise:
    """Says which promise of a part is broken."""

    def __init__(self, what: str) -> None:
        self.what = what

    def __call__(self, kept: bool, promise: str) -> None:
        """Raise a ConfigError unless the promise is kept."""
        if not kept:
            raise ConfigError(f"{self.what}: breaks a promise: {promise}")

    def kept(self, work: Any, promise: str) -> Any:
        """Return the pair that `work` gives."""
        found = work()
        self(isinstance(found, tuple) and len(found) == 2, promise)
        return found

    def same(self, a: Any, b: Any, promise: str, *, exactly: bool = False) -> None:
        """Raise a ConfigError unless two arrays are equal, to rounding or exactly."""
        a, b = (np.asarray(value.detach() if isinstance(value, Tensor) else value) for value in (a, b))
        close = a.shape == b.shape and (
            np.array_equal(a, b) if exactly else np.allclose(a, b, rtol=1e-3, atol=1e-4)
        )
        self(bool(close), promise)


def some_people(n_subjects: int = 9, per_subject: int = 8, n_chans: int = 3) -> tuple[LabelledWindows, Split]:
    """Return noise of two amplitudes from several people, and a third of the people for each part."""
    y = np.tile(np.arange(per_subject) % 2, n_subjects)
    noise = np.random.default_rng(1).standard_normal((len(y), n_chans, 128))
    x = noise * np.where(y, 15.0, 10.0)[:, None, None]
    subject = np.repeat([f"s{i}" for i in range(n_subjects)], per_subject)
    data = LabelledWindows.from_arrays(x, y, subject, classes=("soft", "loud"))
    return data, Split(*(data.where_subject([f"s{i}" for i in range(p, n_subjects, 3)]) for p in range(3)))


def with_mixed_channels(data: LabelledWindows, part: np.ndarray) -> LabelledWindows:
    """Return the windows with the channels of one part mixed, which moves every mean, also Riemann's."""
    n_chans = data.x.shape[1]
    matrix = np.eye(n_chans) + np.random.default_rng(2).standard_normal((n_chans, n_chans))
    x = data.x.copy()
    x[part] = np.einsum("ij,bjt->bit", matrix, x[part]) * 3 + 40
    return dataclasses.replace(data, x=x)


def _part(registry: Registry, part: Any) -> tuple[Any, Promise]:
    """Return a part that the caller names or gives, and what checks its promises."""
    if not isinstance(part, str):
        return part, Promise(f"{registry.what} {part.__name__}")
    with trusting(*([part] if is_plugin(part) else [])):
        return registry.find(part), Promise(f"{registry.what} {part}")
