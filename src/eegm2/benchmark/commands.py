"""Whole commands on recordings, against what they cannot do without: the bare step, forward pass or read.

Each runs as its command does, in one process whose kernels have been compiled; imports are not counted (the
suite "first" has those).
"""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eegm2.benchmark.timing import clock_of, spread

#: Where the recordings are; the bundled ones where it is not set.
VARIABLE = "EEGM2_BENCHMARK_DATA"
EPOCHS, EPOCH_WINDOWS, BARE_STEPS = 2, 512, 6
RUNS = 3
TRAIN_SHARE = 0.7


def measure_command(m: Any) -> dict[str, Any]:
    """Measure a work of `eegm2.benchmark.suites.COMMANDS`.

    Returns
    -------
    dict
        ``status``, ``seconds`` of the runs (pretrain: of an epoch), ``rate`` in ``unit``, ``bare_rate`` of
        ``bare`` in the same unit, ``files`` and ``windows``.

    Raises
    ------
    EEGM2Error
        If the recordings cannot be used; the message says why.
    """
    from eegm2.ops import keep_freed_memory

    keep_freed_memory()
    with tempfile.TemporaryDirectory(prefix="eegm2-commands-") as name:
        return {"status": "ok", **WORKS[m.work](m, Path(name))}


def recordings() -> Path:
    """Return the folder of recordings."""
    from eegm2.benchmark.first import recording

    return Path(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else recording().parent


def prepared(folder: Path) -> Any:
    """Return a store of the recordings."""
    from eegm2 import RecordingStore, prepare

    prepare(recordings(), folder / "store")
    return RecordingStore(folder / "store")


def _prepare(m: Any, folder: Path) -> dict[str, Any]:
    from eegm2 import RecordingStore, prepare

    files = [path for path in recordings().rglob("*") if path.is_file()]
    n_bytes = sum(path.stat().st_size for path in files)
    read = [clock_of(lambda: [path.read_bytes() for path in files]) for _ in range(RUNS)]
    stores = [folder / f"store-{i}" for i in range(RUNS)]
    times = [clock_of(functools.partial(prepare, recordings(), store)) for store in stores]
    store = RecordingStore(stores[0])
    return {
        "seconds": spread(times),
        "unit": "MB/s",
        "rate": n_bytes / 1e6 / spread(times)["median"],
        "bare": "reading the files",
        "bare_rate": n_bytes / 1e6 / spread(read)["median"],
        "files": len(store.recordings),
        "files_per_min": 60 * len(store.recordings) / spread(times)["median"],
    }


def _pretrain(m: Any, folder: Path) -> dict[str, Any]:
    from eegm2 import pretrain

    store = prepared(folder)
    seconds = sum(r.n_times for r in store.recordings) / store.sfreq_hz
    stride_s = max(0.25, TRAIN_SHARE * seconds / EPOCH_WINDOWS)
    config = _config(m, store, epochs=EPOCHS, batch_size=m.batch, stride_s=stride_s)
    speed = pretrain(store, folder / "run", config, say=lambda line: None).performance
    bare = bare_step(store, folder / "run", config)
    return {
        "seconds": spread([m.batch / speed["windows_per_s"]]),
        "unit": "windows/s",
        "rate": speed["windows_per_s"],
        "bare": "the training step alone",
        "bare_rate": bare,
        "files": len(store.recordings),
    }


def _config(m: Any, store: Any, **options: Any) -> Any:
    from eegm2 import PretrainConfig

    if m.model == "covariance":
        options["objective"] = "oscillatory"  # it has no decoder
    window_s = m.n_times / store.sfreq_hz
    return PretrainConfig(preset=m.model, width=m.width, window_s=window_s, **options)


def bare_step(store: Any, run: Path, config: Any) -> float:
    """Return the windows per second of loss, backward pass and AdamW on one batch of a run's windows."""
    import torch

    from eegm2.data.windows.pool import StorePool
    from eegm2.training.first_network import first_network
    from eegm2.training.learner import Learner
    from eegm2.training.loaders import make_loader
    from eegm2.training.orders import EvaluationOrder
    from eegm2.training.run_record import run_splits, run_windows

    pool = StorePool(store)
    train, val = run_windows(pool, run_splits(run, pool, config, write=False), config)
    learner = Learner(first_network(pool, config, None), config, train, val)
    order = EvaluationOrder(train.sizes, batch_size=config.batch_size, rank=0, world_size=1, first=None)
    batch = next(iter(make_loader(train, order, workers=0, pin=False)))
    optimizer = torch.optim.AdamW(learner.model.parameters())

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        learner.losses(learner.model, batch, 0, train)[0].backward()
        optimizer.step()

    step()
    return len(batch["x"]) / spread([clock_of(step) for _ in range(BARE_STEPS)])["median"]


@dataclass(frozen=True)
class Trained:
    """A run of random weights on a store."""

    store: Any
    run: Path


def _trained(m: Any, folder: Path) -> Trained:
    from eegm2 import pretrain

    store = prepared(folder)
    config = _config(m, store, batch_size=8, fast_dev_run=True)
    pretrain(store, folder / "run", config, say=lambda line: None)
    return Trained(store, folder / "run")


def _against_forward(
    m: Any, trained: Trained, work: Callable[[], object], n_windows: int, files: int
) -> dict[str, Any]:
    """Time a command that encodes windows, and the encoding of as many of noise."""
    import torch

    from eegm2 import load_checkpoint

    times = [clock_of(work) for _ in range(RUNS)]
    network = load_checkpoint(trained.run).model.eval()
    x = torch.randn(m.batch, network.config.n_chans, m.n_times)
    with torch.inference_mode():
        network.encode(x)
        each = spread([clock_of(lambda: network.encode(x)) for _ in range(BARE_STEPS)])["median"] / m.batch
    seconds = spread(times)
    return {
        "seconds": seconds,
        "unit": "files/min",
        "rate": 60 * files / seconds["median"],
        "bare": "the forward pass alone",
        "bare_rate": 60 * files / (each * n_windows),
        "files": files,
        "windows": n_windows,
    }


def _embed(m: Any, folder: Path) -> dict[str, Any]:
    from eegm2.evaluation.config import EmbedConfig
    from eegm2.evaluation.features.embedding import embed

    trained, config = _trained(m, folder), EmbedConfig(batch_size=m.batch)
    made: list[Any] = []

    def work() -> None:
        made[:] = [embed(trained.run, trained.store.url, folder / "embedding.npz", config)]

    work()
    return _against_forward(m, trained, work, len(made[0].values), len(trained.store.recordings))


def _probe(m: Any, folder: Path) -> dict[str, Any]:
    from eegm2 import ProbeConfig, probe

    trained, config = _trained(m, folder), ProbeConfig(protocols=("linear",), batch_size=m.batch)
    made: list[Any] = []

    def work() -> None:
        made[:] = [probe(trained.run, trained.store.url, folder / "probe", config)]

    work()
    n_windows = made[0].results["task"]["n_windows"]
    return _against_forward(m, trained, work, n_windows, len(trained.store.recordings))


WORKS: dict[str, Callable[[Any, Path], dict[str, Any]]] = {
    "prepare": _prepare,
    "pretrain": _pretrain,
    "embed": _embed,
    "probe": _probe,
}
