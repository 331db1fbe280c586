"""What a run is told and keeps: devices, loaders, ranks, folders, the state of chance, names of windows."""

from __future__ import annotations

import random
import resource
import signal
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from eegm2.data.windows.dataset import WindowDataset, collate_windows
from eegm2.data.windows.pool import StorePool
from eegm2.data.windows.pooled import PoolWindows
from eegm2.data.windows.splits import SplitManifest
from eegm2.errors import CheckpointError, ConfigError, DataError, EEGM2Error
from eegm2.training.config import PretrainConfig
from eegm2.training.devices import make_fabric, quiet_lightning
from eegm2.training.loaders import make_loader
from eegm2.training.nonfinite import name_windows
from eegm2.training.objectives.base import Origin
from eegm2.training.orders import BatchOrder
from eegm2.training.pretrain import _opening_windows, _plain_errors, _result
from eegm2.training.pretrain_step import Place
from eegm2.training.processes import gather
from eegm2.training.recorder import Recorder
from eegm2.training.run_record import environment_rank, open_run, run_splits, run_windows, with_windows
from eegm2.training.state import peak_memory_mb, random_state, read_state, set_random_state
from tests.training.stores import tiny_store

TINY = PretrainConfig(preset="s5", width=4, window_s=1.0, epochs=3, batch_size=6, accelerator="cpu")


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> StorePool:
    folder = tmp_path_factory.mktemp("data")
    large = tiny_store(folder / "large", subjects=5, seconds=6)
    return StorePool([large, tiny_store(folder / "small", subjects=3, seconds=4, seed=1)])


@pytest.mark.parametrize(
    ("variables", "rank"),
    [
        ({}, 0),
        ({"RANK": "2", "LOCAL_RANK": "1"}, 2),
        ({"SLURM_PROCID": "3", "LOCAL_RANK": "1"}, 3),
        ({"LOCAL_RANK": "1"}, 1),
        ({"RANK": "", "LOCAL_RANK": "1"}, 1),
        ({"RANK": "0", "SLURM_PROCID": "3"}, 0),
    ],
)
def test_the_rank_is_what_the_launcher_says(
    variables: dict[str, str], rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
        if name in variables:
            monkeypatch.setenv(name, variables[name])
    assert environment_rank() == rank


def test_windows_and_people_are_counted_store_by_store(pool: StorePool) -> None:
    names = [f"large/sub{i}" for i in range(5)] + [f"small/sub{i}" for i in range(3)]
    manifest = SplitManifest(
        (*names[:3], names[5]), (names[3],), (names[4], *names[6:]), stores=pool.hashes()
    )
    train, val = run_windows(pool, manifest, TINY)
    assert val is not None
    told = {"stores": [{"store": "large"}, {"store": "small"}]}
    found = with_windows(told, train, val, (0.75, 0.25))
    assert (found["n_train_windows"], found["n_val_windows"]) == (3 * 6 + 4, 6)
    keys = ("store", "share", "n_train_windows", "n_train_subjects", "n_val_windows", "n_val_subjects")
    assert [tuple(each[key] for key in keys) for each in found["stores"]] == [
        ("large", 0.75, 18, 3, 6, 1),
        ("small", 0.25, 4, 1, 0, 0),
    ]
    assert with_windows(told, train, None, (0.75, 0.25))["n_val_windows"] == 0
    assert _opening_windows(train, val, (0.75, 0.25)) == [
        "large: 18 windows of 3 channels × 32 samples to train on, 6 to validate; 75% of the training",
        "small: 4 windows of 3 channels × 32 samples to train on, none to validate; 25% of the training",
    ]
    alone = StorePool(pool.stores[0])
    one = run_windows(alone, SplitManifest(("sub0", "sub1"), (), ("sub2",)), TINY)[0]
    assert with_windows({"store": "large"}, one, None, (1.0,)) == {
        "store": "large",
        "n_train_windows": 12,
        "n_val_windows": 0,
    }
    assert _opening_windows(one, None, (1.0,)) == [
        "12 windows of 3 channels × 32 samples to train on, none to validate"
    ]


def test_each_window_is_of_its_store_and_recording(pool: StorePool) -> None:
    """A batch of a single window too, wherever it stands."""
    windows = PoolWindows(
        pool, {i: WindowDataset(s, TINY.window_config()) for i, s in enumerate(pool.stores)}
    )
    for number, store, recording in ((0, 0, 0), (29, 0, 4), (30, 1, 0), (41, 1, 2)):
        origin = Origin.of(windows, [number])
        assert (origin.store_number, list(origin.recording_numbers)) == (store, [recording])
        assert list(origin.numbers) == [number]
    assert list(Origin.of(windows, [33, 34]).recording_numbers) == [0, 1]


@pytest.mark.parametrize(("n", "end"), [(8, ""), (9, " and 1 more"), (12, " and 4 more")])
def test_eight_windows_are_named_and_the_others_counted(n: int, end: str, pool: StorePool) -> None:
    windows = PoolWindows(StorePool(pool.stores[0]), {0: WindowDataset(pool.stores[0], TINY.window_config())})
    said = name_windows(windows, list(range(n)))
    assert said == ", ".join(f"rec{i // 6} at {i % 6} s" for i in range(8)) + end


def test_of_several_windows_those_with_bad_samples_are_named() -> None:
    class Windows:
        def __getitem__(self, window: int) -> dict[str, torch.Tensor]:
            return {"x": torch.tensor([1.0, np.nan if window in (3, 5) else 2.0])}

        def describe(self, window: int) -> str:
            return f"w{window}"

    data: Any = Windows()
    assert name_windows(data, [1, 3, 4, 5]) == "w3, w5 (their samples are not finite)"
    assert name_windows(data, [1, 4]) == "w1, w4"
    assert gather(7) == [7]


def test_a_folder_and_a_split_that_are_no_runs_are_refused(pool: StorePool, tmp_path: Path) -> None:
    one = StorePool(pool.stores[0])
    for name in (".hidden", "notes.txt"):
        (tmp_path / name).write_text("x")
        if name == ".hidden":
            assert open_run(tmp_path, one, TINY, write=True)["finished"] is False
            (tmp_path / "run.json").unlink()
    with pytest.raises(ConfigError, match=r"holds notes\.txt and no run; choose an empty folder for --out"):
        open_run(tmp_path, one, TINY, write=True)
    assert open_run(tmp_path, one, TINY, write=False)["data"]["store"] == "large"
    assert not (tmp_path / "run.json").exists()
    nobody = SplitManifest((), ("sub0",), ("sub1",))
    nobody.to_json(tmp_path / "own.json")
    config = PretrainConfig(preset="s5", width=4, window_s=1.0, splits=str(tmp_path / "own.json"))
    with pytest.raises(
        DataError, match=r"own\.json: the split leaves nobody to train on; lower val and test"
    ):
        run_splits(tmp_path, one, config, write=False)


def test_a_run_that_has_begun_goes_on_as_it_began_and_as_nothing_else(
    pool: StorePool, tmp_path: Path
) -> None:
    one = StorePool(pool.stores[0])
    facts = open_run(tmp_path, one, TINY, write=True)
    split = run_splits(tmp_path, one, TINY, write=True)
    other = replace(TINY, seed=TINY.seed + 1, width=8)
    assert open_run(tmp_path, one, other, write=False)["pretrain"]["width"] == 8, "it has no checkpoint yet"
    redrawn = run_splits(tmp_path, one, replace(TINY, split_seed=5), write=True)
    assert redrawn != split
    assert SplitManifest.from_json(tmp_path / "splits.json").test == redrawn.test
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").write_bytes(b"")
    assert open_run(tmp_path, one, TINY, write=True) == facts
    assert open_run(tmp_path, one, replace(TINY, workers=3, devices="2"), write=True) == facts
    assert run_splits(tmp_path, one, replace(TINY, split_seed=9), write=True).test == redrawn.test
    with pytest.raises(
        ConfigError, match=r"other options: width is 4 there, got 8; seed is 0 there, got 1; give"
    ):
        open_run(tmp_path, one, other, write=True)
    with pytest.raises(ConfigError, match="cannot be lengthened; give the same options"):
        open_run(tmp_path, one, replace(TINY, epochs=9), write=True)
    with pytest.raises(DataError, match=r"the store is not the one the run in .* give that one, or choose"):
        open_run(tmp_path, StorePool(pool.stores[1]), TINY, write=True)


def test_every_store_has_somebody_to_train_on(pool: StorePool, tmp_path: Path) -> None:
    parts = SplitManifest(("large/sub0",), ("small/sub1",), ("small/sub2",))
    parts.to_json(tmp_path / "own.json")
    with pytest.raises(
        DataError, match="small: the split leaves nobody of this store to train on; leave the"
    ):
        run_splits(tmp_path, pool, replace(TINY, splits=str(tmp_path / "own.json")), write=False)


def test_fabric_is_told_what_was_asked_for() -> None:
    options = {"precision": "bf16-mixed", "devices": "1"}
    config = PretrainConfig(width=4, accelerator="cpu", **options)  # type: ignore[arg-type]
    with quiet_lightning():
        fabric = make_fabric(config)
    assert (fabric.world_size, fabric.device.type) == (1, "cpu")
    assert fabric.strategy.precision.precision == "bf16-mixed"
    assert make_fabric(replace(config, precision="32-true")).strategy.precision.precision == "32-true"
    with pytest.raises(ConfigError, match=r"devices 'many'.*eegm2 info shows what this machine has"):
        make_fabric(PretrainConfig(width=4, accelerator="cpu", devices="many"))


def test_tensorboard_goes_on_at_the_step_where_a_run_does(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, {}, ("loss",))
    fabric = SimpleNamespace(is_global_zero=True)
    recorder.begin(SimpleNamespace(place=Place(1, 2, 5), fabric=fabric))  # type: ignore[arg-type]
    board: Any = recorder.board
    assert (Path(board.log_dir), board._kwargs["purge_step"]) == (tmp_path / "logs" / "tensorboard", 5)


def test_lightnings_advice_is_kept_away_and_comes_back() -> None:
    import logging

    logger = logging.getLogger("lightning.fabric")
    before = logger.level
    advice = {"category": UserWarning, "filename": "x.py", "lineno": 1}
    warnings.simplefilter("error")  # pytest puts the filters back after each test
    with quiet_lightning():
        assert logger.level == logging.ERROR
        warnings.warn_explicit("consider this", module="lightning.fabric.connector", **advice)
        with pytest.raises(UserWarning, match="a warning of ours"):
            warnings.warn_explicit("a warning of ours", module="eegm2", **advice)
    assert logger.level == before
    with pytest.raises(UserWarning, match="consider this"):
        warnings.warn_explicit("consider this", module="lightning.fabric.connector", **advice)


def test_chance_goes_on_where_it_was() -> None:
    def draws() -> list[float]:
        legacy = np.random.standard_normal(3)  # noqa: NPY002 (NumPy's global state, with its second normal)
        return [random.gauss(0, 1), random.random(), *legacy.tolist(), *torch.randn(3).tolist()]

    state = None
    try:
        before = random_state()
        random.gauss(0, 1)
        np.random.standard_normal()  # noqa: NPY002
        state = random_state()
        expected = draws()
        draws()
        set_random_state(state)
        assert draws() == expected
    finally:
        set_random_state(before)


def test_a_state_that_cannot_be_gone_on_from_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_state(path)
    torch.save({"eegm2": {"format": 1}, "x": torch.ones(2)}, path)
    assert read_state(path)["x"].tolist() == [1, 1]
    torch.save({"eegm2": {"format": 2}}, path)
    with pytest.raises(CheckpointError, match="format 2, this eegm2 reads up to 1; upgrade eegm2"):
        read_state(path)
    torch.save({"other": 1}, path)
    with pytest.raises(CheckpointError, match="damaged"):
        read_state(path)


def test_the_peak_of_memory_is_in_megabytes() -> None:
    if sys.platform == "linux":
        assert peak_memory_mb() == pytest.approx(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    assert 10 < peak_memory_mb() < 1e6


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("CUDA out of memory"), True),
        (RuntimeError("can't allocate memory"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), True),
        (torch.OutOfMemoryError("x"), True),
        (MemoryError(), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
@pytest.mark.parametrize(("size", "half", "accumulate"), [(6, 3, 4), (1, 1, 4)])
def test_out_of_memory_is_told_with_what_to_do(
    error: Exception, told: bool, size: int, half: int, accumulate: int, tmp_path: Path
) -> None:
    config = PretrainConfig(width=4, window_s=2.0, batch_size=size, accumulate=2)
    with pytest.raises(type(error) if not told else EEGM2Error) as caught, _plain_errors(tmp_path, config):
        raise error
    if told:
        assert f"out of memory at {size} windows of 2 s" in str(caught.value)
        assert f"--batch-size {half} --accumulate {accumulate}" in str(caught.value)


def test_the_result_is_the_last_row(tmp_path: Path) -> None:
    assert (_result(tmp_path).epoch, _result(tmp_path).step, _result(tmp_path).metrics) == (0, 0, {})
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "metrics.csv").write_text("epoch,step,val_loss\n1,4,0.5\n2,8,\n")
    result = _result(tmp_path, performance={"seconds": 2.0})
    assert (result.epoch, result.step) == (2, 8)
    assert result.metrics == {"epoch": 2.0, "step": 8.0, "val_loss": None}
    assert (result.performance, result.already_finished) == ({"seconds": 2.0}, False)
    assert _result(tmp_path, already_finished=True).already_finished


def test_a_loader_is_set_up_as_asked() -> None:
    handler = signal.getsignal(signal.SIGINT)
    for workers in (0, 1, 2):
        order = BatchOrder(23, batch_size=6)
        loader = make_loader(TensorDataset(torch.arange(23)), order, workers=workers, pin=workers > 0)
        assert (loader.num_workers, loader.persistent_workers) == (workers, workers > 0)
        assert loader.pin_memory == (workers > 0)
        assert loader.batch_sampler is order
        assert loader.collate_fn is collate_windows
        assert loader.generator is not torch.default_generator
        assert loader.generator.initial_seed() == 0
    assert loader.worker_init_fn is not None
    try:
        loader.worker_init_fn(0)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN, "the main process alone decides"
    finally:
        signal.signal(signal.SIGINT, handler)
