"""What a run keeps, stops by, learns from and takes for granted: its books kept a second time."""

from __future__ import annotations

import copy
import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from eegm2.data.config import PreprocessingConfig, SplitConfig, WindowConfig
from eegm2.data.store.recording_store import RecordingInfo, RecordingStore, StoreWriter
from eegm2.data.windows.pool import StorePool
from eegm2.data.windows.splits import SplitManifest, split_subjects, stratified_order
from eegm2.errors import ConfigError
from eegm2.model.config import ALL_PRESETS, EEGM2Config
from eegm2.training import loop as looping
from eegm2.training import recorder as recording
from eegm2.training.config import FREE_ON_RESUME, PretrainConfig
from eegm2.training.continued import of_shape
from eegm2.training.lr_finder import smooth, steepest
from eegm2.training.means import Means, together
from eegm2.training.orders import BatchOrder, EvaluationOrder, PooledOrder
from eegm2.training.pretrain import pretrain
from eegm2.training.pretrain_step import Place
from eegm2.training.recorder import Recorder
from eegm2.training.run_record import _refuse_other_options, run_windows
from tests.training.stores import tiny_store
from tests.training.test_pretrain import TINY, rows
from tests.training.test_pretrain_step import CONFIG, batch_of, step_of, take


class Book(Recorder):
    """A recorder that keeps what it saves in memory."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, {"sfreq_hz": 32.0}, ("loss", "part"))
        self.kept: list[tuple[bool, int, dict[str, Any]]] = []
        self.stopped = False

    def save(self, step: Any, *, best: bool = False) -> None:
        self.kept.append((best, self.worse_epochs, dict(self.last_row)))


def ended(
    book: Book,
    losses: list[float | None],
    *,
    patience: int = 0,
    epochs: int = 99,
    seconds: tuple[float, float] = (1.0, 1.0),
) -> None:
    """End one epoch after the other, with these validation losses (None: nobody is held out)."""
    config = SimpleNamespace(patience=patience, n_epochs=epochs)
    step: Any = SimpleNamespace(config=config, skipped=3, rate=0.25, place=Place())
    step.learner = SimpleNamespace(new_means=lambda: Means(("loss", "part")))
    alone = SimpleNamespace(reduce_boolean_decision=lambda value, all: value)
    step.fabric = SimpleNamespace(is_global_zero=True, strategy=alone)
    for epoch, loss in enumerate(losses):
        assert step.place == Place(epoch, 0, 10 * epoch)
        step.place = Place(epoch, 10, 10 * (epoch + 1))
        step.train_means = Means(("loss", "part"))
        step.train_means.add((100.0 - epoch, 7.0), 2)
        step.train_means.add((103.0 - epoch, 1.0), 1)
        val = {} if loss is None else {"loss": loss, "part": 2 * loss}
        book.end_epoch(step, val, 38, *seconds)
        assert step.train_means.sums == [0, 0, 0]
        if book.finished:
            break


def test_the_best_is_the_lowest_validation_and_patience_counts_epochs_since(tmp_path: Path) -> None:
    book = Book(tmp_path)
    ended(book, [5.0, 4.0, 4.5, 4.0, math.nan, 3.0, 3.5])
    assert [best for best, _, _ in book.kept] == [True, True, False, False, False, True, False]
    assert [worse for _, worse, _ in book.kept] == [0, 0, 1, 2, 3, 0, 1]
    assert book.best == 3.0
    assert not book.finished
    _, _, row = book.kept[2]
    expected = {
        "epoch": 3,
        "step": 30,
        "train_loss": 99.0,
        "train_part": 5.0,
        "val_loss": 4.5,
        "val_part": 9.0,
    }
    assert row == {**expected, "lr": 0.25, "skipped": 3}
    for patience, epochs in ((1, 3), (2, 4), (3, 5)):
        book = Book(tmp_path / str(patience))
        ended(book, [5.0, 4.0, 4.5, 4.4, 4.3, 4.2], patience=patience)
        assert len(book.kept) == epochs
        assert book.finished
    book = Book(tmp_path / "all")
    ended(book, [5.0, 4.0, 3.0, 2.0], epochs=3)
    assert len(book.kept) == 3
    assert book.finished


def test_without_validation_the_training_loss_is_watched(tmp_path: Path) -> None:
    book = Book(tmp_path)
    ended(book, [None, None, None])
    assert [best for best, _, _ in book.kept] == [True, True, True]
    assert book.best == pytest.approx(99.0)  # the mean of 98 twice and 101
    assert "val_loss" not in book.kept[0][2]


def test_a_first_loss_that_is_no_number_is_beaten_by_any(tmp_path: Path) -> None:
    book = Book(tmp_path)
    ended(book, [math.nan, 7.0, 8.0])
    assert [best for best, _, _ in book.kept] == [True, True, False]


def test_speed_is_windows_over_seconds_of_training(tmp_path: Path) -> None:
    book = Book(tmp_path)
    ended(book, [1.0], seconds=(4.5, 6.0))
    assert (book.speed["train_s"], book.speed["val_s"]) == (4.5, 6.0)
    assert book.speed["windows_per_s"] == pytest.approx(38 / 4.5, abs=0.01)


def test_the_clock_of_training_stands_still_while_there_is_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]

    def lasts(name: str, seconds: float) -> None:
        true = getattr(looping, name)

        def working(*args: Any) -> Any:
            now[0] += seconds
            return true(*args)

        monkeypatch.setattr(looping, name, working)

    lasts("train_epoch", 4.0)
    lasts("validate", 6.0)
    monkeypatch.setattr(looping, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    config = dataclasses.replace(TINY, epochs=2)
    pretrain(tiny_store(tmp_path / "store"), tmp_path / "run", config)
    for row in rows(tmp_path / "run", "performance"):
        assert (row["train_s"], row["val_s"]) == (4.0, 6.0)
        assert row["windows_per_s"] == 24 / 4


@pytest.mark.parametrize("average", [False, True])
@pytest.mark.parametrize("best", [False, True])
def test_what_is_kept_are_the_weights_that_were_validated_with_their_losses(
    average: bool, best: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: dict[str, tuple[Any, Any]] = {}
    monkeypatch.setattr(
        recording,
        "write_weights",
        lambda path, weights, header: written.update({path.name: (weights, header)}),
    )
    state = {"model.a": 1, "average.module.a": 2, "average.n_averaged": 9, "objective.model.a": 3}
    written_last: list[Any] = []
    monkeypatch.setattr(recording, "write_state", lambda path, state: written_last.extend((path, state)))
    counts = {"sums": [1.0]}
    step: Any = SimpleNamespace(
        place=Place(5, 2, 70),
        skipped=0,
        fabric=SimpleNamespace(is_global_zero=True, barrier=lambda: None),
        learner=SimpleNamespace(average=object() if average else None),
        state=lambda: {"state_dict": state},
        train_means=SimpleNamespace(**counts),
        interval_means=SimpleNamespace(**counts),
    )
    book = Recorder(tmp_path, {"sfreq_hz": 32.0}, ("loss",))
    book.last_row = {"epoch": 4, "step": 60, "val_loss": 0.5, "train_loss": 0.75}
    book.save(step, best=best)
    path, kept = written_last
    assert path == tmp_path / "checkpoints" / "last.ckpt"
    assert kept["state_dict"] is state
    assert [kept["eegm2"][name] for name in ("epoch", "batch", "step")] == [5, 2, 70]
    header = {"sfreq_hz": 32.0, "epoch": 4, "step": 70, "val_loss": 0.5, "train_loss": 0.75}
    names = {"last.safetensors", "best.safetensors"} if best else {"last.safetensors"}
    assert written == {name: ({"a": 2 if average else 1}, header) for name in names}


def test_whom_a_run_learns_from_and_whom_it_is_validated_on(tmp_path: Path) -> None:
    stores = [tiny_store(tmp_path / "a", subjects=5), tiny_store(tmp_path / "b", subjects=3, seed=4)]
    pool = StorePool(stores)
    parts = {
        "train": ("a/sub0", "a/sub3", "b/sub1"),
        "val": ("a/sub1", "b/sub2"),
        "test": ("a/sub2", "b/sub0"),
    }
    train, val = run_windows(pool, SplitManifest(**parts), PretrainConfig(window_s=1.0))
    assert val is not None
    for part, windows in (("train", train), ("val", val)):
        found = {
            pool.label(number, person)
            for number, data in zip(windows.numbers, windows.datasets)
            for person in data.subjects
        }
        assert found == set(parts[part])
    people = {"train": ("sub0",), "val": ("sub4",), "test": ("sub1", "sub2", "sub3")}
    train, val = run_windows(StorePool(stores[0]), SplitManifest(**people), PretrainConfig(window_s=1.0))
    assert val is not None
    assert {*train.datasets[0].subjects} == {"sub0"}
    assert {*val.datasets[0].subjects} == {"sub4"}
    assert (
        run_windows(StorePool(stores[0]), SplitManifest(("sub0",), (), ("sub1",)), PretrainConfig())[1]
        is None
    )


def test_all_that_decides_the_weights_stays_when_a_run_goes_on(tmp_path: Path) -> None:
    """And where it runs, how it is watched and how memory is spared may change."""
    free = "workers checkpoint_every_steps log_every_steps accelerator devices num_nodes strategy compile"
    assert {*free.split(), "checkpoint_blocks", "splits"} == FREE_ON_RESUME
    before = PretrainConfig()
    for field in dataclasses.fields(PretrainConfig):
        now = copy.copy(before)
        object.__setattr__(now, field.name, "another")
        if field.name in FREE_ON_RESUME:
            _refuse_other_options(tmp_path, before, now)
        else:
            with pytest.raises(ConfigError, match=f"{field.name} is .* there, got 'another'"):
                _refuse_other_options(tmp_path, before, now)


#: What a run is where nothing is said; stored results, documents and the paper count on it.
USUAL: dict[type, dict[str, Any]] = {
    PretrainConfig: {
        **{"preset": "eegm2", "width": 64, "window_s": 4.0, "stride_s": None, "scaling": "quantile95"},
        **{"val": 0.15, "test": 0.15, "by": "subject", "official": True, "split_seed": 0, "reject_uv": 0.0},
        **{"epochs": 20, "batch_size": 64, "accumulate": 1, "decayed": "all", "ema_decay": 0.0},
        **{"gradient_ema": 0.0, "gradient_ema_gain": 2.0, "seed": 0, "patience": 0, "on_nonfinite": "stop"},
        **{"objective": "reconstruction", "mask_patch_s": 0.25, "mask_time": 0.5, "mask_channels": 0.0},
        **{"mask_loss": "hidden", "noise": 0.5, "pops": 0.1, "patch_s": 0.5, "hide_time": 0.5},
        **{"hide_chunks": 2, "hide_radius": 0.5, "band_power": 1.0, "tangent": 1.0, "latent": 1.0},
        **{"neighbours": 0.0, "neighbours_s": 12.0, "pooled": 1.0, "centre_targets": "recording"},
        **{"variance": 1.0, "covariance": 0.04, "contrast": 0.0, "contrast_temperature": 0.1},
        **{"teacher_decay": 0.99, "teacher_decay_end": 0.9995, "windows_per_recording": 0},
        **{"channel_subsets": 0.0, "channel_dropout": 0.0, "gain_db": 0.0, "sign": 0.0, "rereference": 0.0},
        **{"aperiodic_noise": 0.0, "precision": "32-true", "overfit_batches": 0, "fast_dev_run": False},
    },
    WindowConfig: {
        **{"window_s": 4.0, "stride_s": None, "scaling": "quantile95", "target": "annotations"},
        **{"label_rule": "whole", "exclude_s": (), "exclude_labels": ("bad*", "edge*"), "reject_uv": 0.0},
    },
    SplitConfig: {"seed": 0, "val": 0.15, "test": 0.15, "by": "subject", "official": True},
    PreprocessingConfig: {
        **{"missing": "refuse", "reference": "keep", "offset": "remove", "l_freq_hz": 0.5, "h_freq_hz": 40.0},
        **{"gpass_db": 1.0, "gstop_db": 40.0, "notch_hz": 0.0, "sfreq_hz": 128.0, "scale": 1.0},
        **{"amplitude": "microvolts", "nan": "refuse", "flat": "refuse", "bads": "report"},
    },
    EEGM2Config: {
        **{"n_chans": 16, "width": 64, "architecture": "eegm2", "embedding": "branches", "mixer": "mamba2"},
        **{"norm_order": "before_residual", "decoder": True, "d_state": 16, "d_conv": 2, "expand": 8},
        **{"headdim": 64, "ngroups": 1, "n_heads": 4, "dropout": 0.1, "n_virtual": 16, "harmonics_order": 4},
        **{"n_bands": 6, "sfreq_hz": 128.0, "kernel_s": 0.5, "token_hz": 4.0, "covariance_s": 1.0},
        **{"shrinkage": 0.1, "trunk_width": 4, "trunk_blocks": 1},
    },
}


@pytest.mark.parametrize("kind", USUAL, ids=lambda kind: kind.__name__)
def test_what_is_done_where_nothing_is_said(kind: type) -> None:
    made = kind()
    assert {name: getattr(made, name) for name in USUAL[kind]} == USUAL[kind]


def test_presets_are_the_papers_variants_and_ours() -> None:
    assert ALL_PRESETS == {
        "eegm2": {},
        "light": {"decoder": False},
        "s1": {"embedding": "conv3"},
        "s3": {"mixer": "mamba1"},
        "s4": {"embedding": "conv3", "mixer": "mamba1"},
        "s5": {"mixer": "attention", "norm_order": "after_residual"},
        "unet": {"architecture": "unet"},
        "covariance": {"embedding": "covariance", "decoder": False},
    }


def test_means_are_over_windows() -> None:
    rng = np.random.default_rng(0)
    means, every = Means(("loss", "part")), []
    for n in (3, 1, 7, 2):
        values = rng.standard_normal(2)
        means.add(values.tolist(), n)
        every += [values] * n
    loss, part = np.mean(every, axis=0)
    assert means.values() == pytest.approx({"loss": loss, "part": part})
    assert Means(("loss",)).values() == {}
    alone = together({"a": means}, {"a": 0.5})
    assert alone == pytest.approx({"loss": loss, "part": part})
    empty = together({"a": means, "b": Means(("loss", "part"))}, {"a": 0.2, "b": 0.8})
    assert empty == pytest.approx({"loss": loss, "part": part, "loss/a": loss})


@pytest.mark.parametrize("seed", range(3))
def test_shares_of_batches_are_the_largest_remainders(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes, shares = rng.integers(30, 90, 3).tolist(), rng.dirichlet([5, 5, 5])
    order = PooledOrder(sizes, shares.tolist(), batch_size=4, seed=seed)
    whole = sum(math.ceil(size / 4) for size in sizes)
    exact = shares * whole
    counts = np.floor(exact).astype(int)
    for place in np.argsort(counts - exact)[: whole - counts.sum()]:
        counts[place] += 1
    assert order.counts == counts.tolist()
    seen: list[list[int]] = [[], [], []]
    starts = np.cumsum([0, *sizes])
    for epoch in range(4):
        order.epoch = epoch
        for batch in order:
            store = int(np.searchsorted(starts, batch[0], side="right")) - 1
            assert all(starts[store] <= window < starts[store + 1] for window in batch)
            seen[store] += batch
    for store, size in enumerate(sizes):
        passes = [seen[store][i : i + size] for i in range(0, len(seen[store]), size)]
        assert all(len(set(of_pass)) == len(of_pass) for of_pass in passes)
    again = PooledOrder(sizes, shares.tolist(), batch_size=4, seed=seed)
    again.epoch, again.start = 3, 5
    order.epoch = 3
    assert list(again) == list(order)[5:]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_processes_see_the_batches_of_one(world: int) -> None:
    one = list(BatchOrder(50, batch_size=12, seed=5))
    each = [list(BatchOrder(50, batch_size=12, seed=5, rank=rank, world_size=world)) for rank in range(world)]
    for number, batch in enumerate(one):
        even = batch[: len(batch) - len(batch) % world]
        if even:
            assert sorted(window for process in each for window in process[number]) == sorted(even)
    assert sorted(window for batch in one for window in batch) == list(range(50))
    judged = [
        window
        for rank in range(world)
        for batch in EvaluationOrder([7, 5], batch_size=6, rank=rank, world_size=world)
        for window in batch
    ]
    assert sorted(judged) == list(range(12))


def test_smoothing_and_the_steepest_fall() -> None:
    losses = np.random.default_rng(0).uniform(1, 2, 12)
    for n in range(1, 13):
        weights = 0.9 ** np.arange(n)[::-1]
        assert smooth(losses)[n - 1] == pytest.approx(weights @ losses[:n] / weights.sum())
    rates = np.geomspace(1e-5, 1, 41)
    fall = np.exp(-np.tanh(3 * (np.log10(rates) + 3))) + 0.02 * np.exp(12 * rates)
    assert steepest(rates, fall) == pytest.approx(1e-3, rel=0.15)


@pytest.mark.parametrize("seed", range(4))
def test_people_are_drawn_evenly_over_their_labels(seed: int, tmp_path: Path) -> None:
    store = tiny_store(tmp_path / "s", subjects=20, seconds=1.0)
    labels = {f"sub{i}": "ab"[i % 4 == 0] for i in range(19)}  # and one of nobody knows what
    split = split_subjects(store, SplitConfig(seed=seed, val=0.2, test=0.3), labels)
    assert (len(split.train), len(split.val), len(split.test)) == (10, 4, 6)
    for part in (split.train, split.val, split.test):
        assert part == tuple(sorted(part))
        few = sum(labels.get(name) == "b" for name in part)
        assert abs(few - 5 * len(part) / 20) <= 1
    assert sorted(split.train + split.val + split.test) == sorted(store.subjects)
    order = stratified_order(store.subjects, labels, seed)
    assert sorted(order) == sorted(store.subjects)
    assert order != stratified_order(store.subjects, labels, seed + 10)
    assert order == stratified_order(store.subjects[::-1], labels, seed)


def test_slow_gradients_are_made_stronger_before_the_norm_is_limited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two weights and a head with gradients of 1: half of it, the average, is added twice to the weights'."""
    pool = StorePool(tiny_store(tmp_path / "s", subjects=1, seconds=3.0))
    windows = run_windows(pool, SplitManifest(("sub0",), (), ()), CONFIG)
    step = step_of(
        windows, monkeypatch, gradient_ema=0.5, gradient_ema_gain=2.0, gradient_clip=0.5, val=False
    )
    take(step, batch_of(0))
    assert step.grad_norm == pytest.approx(3.0)
    gradients = [float(g) for p in step.parameters for g in p.grad.flatten()]  # type: ignore[union-attr]
    assert gradients == pytest.approx([1 / 3, 1 / 3, 1 / 6], rel=1e-4)
    assert step.learner.gradient_average is not None
    assert [m.flatten().tolist() for m in step.learner.gradient_average.buffers()] == [[0.5, 0.5]]


def people(folder: Path, *whose: tuple[str, str, str | None], channels: tuple[str, ...]) -> RecordingStore:
    """Write a store of recordings of (subject, source file, official part)."""
    writer = StoreWriter(folder, PreprocessingConfig(sfreq_hz=32.0, h_freq_hz=12.0), channels)
    for number, (subject, source, part) in enumerate(whose):
        info = RecordingInfo(f"r{number}", subject, "", 64, 32.0, channels, source_sha256=source, split=part)
        writer.write(
            info, np.random.default_rng(number).standard_normal((len(channels), 64)).astype(np.float32)
        )
    return RecordingStore(folder)


def test_a_person_of_two_stores_has_one_name_and_a_file_in_common(tmp_path: Path) -> None:
    first = people(tmp_path / "a", ("p", "1", None), ("q", "2", None), ("r", "", None), channels=("Fz", "Cz"))
    second = people(
        tmp_path / "b",
        ("p", "9", None),
        ("p", "1", None),
        ("s", "2", None),
        ("r", "", None),
        channels=("Pz", "Oz"),
    )
    assert sorted(map(sorted, StorePool([first, second]).people())) == [
        ["a/p", "b/p"],
        ["a/q"],
        ["a/r"],
        ["b/r"],
        ["b/s"],
    ]


def test_who_is_tested_anywhere_is_tested_everywhere_and_else_validated(tmp_path: Path) -> None:
    rest = [(f"x{i}", f"x{i}", None) for i in range(3)]
    first = people(
        tmp_path / "a", ("p", "1", "val"), ("q", "2", "train"), ("u", "4", "test"), *rest, channels=("Fz",)
    )
    second = people(
        tmp_path / "b", ("p", "1", "test"), ("q", "2", "val"), ("u", "4", "train"), *rest, channels=("Cz",)
    )
    split = StorePool([first, second]).split(SplitConfig(val=0.2, test=0.2))
    assert {"a/p", "b/p", "a/u", "b/u"} <= set(split.test)
    assert {"a/q", "b/q"} <= set(split.val)
    for names in (split.train, split.val, split.test):
        assert {n[2:] for n in names if n[0] == "a"} == {n[2:] for n in names if n[0] == "b"}


def test_a_fall_after_the_lowest_loss_is_not_looked_at() -> None:
    rates = np.geomspace(1e-4, 1e-1, 13)
    losses = np.array([8.0, 7.5, 5.0, 4.0, 3.5, 3.0, 2.9, 2.5, 500.0, 400.0, 4.0, 3.0, 9.0])
    assert steepest(rates, losses) == pytest.approx(rates[2])


@pytest.mark.parametrize("rate_hz", [128.0, 64.0])
@pytest.mark.parametrize("sizes", [{}, {"d_state": 8, "expand": 4, "headdim": 16}])
@pytest.mark.parametrize("preset", ["eegm2", "s1", "s3", "s5", "unet", "covariance"])
def test_a_run_that_begins_with_a_model_builds_the_same_network(
    preset: str, sizes: dict[str, Any], rate_hz: float
) -> None:
    own = {"sfreq_hz": rate_hz, "n_bands": 4, "n_virtual": 6} if preset == "covariance" else {}
    shape = EEGM2Config.preset(preset, n_chans=7, width=12, **sizes, **own)
    objective = "oscillatory" if preset == "covariance" else "reconstruction"
    config = of_shape(PretrainConfig(objective=objective), shape, "model")
    assert config.preset == preset
    assert config.network_config(7, rate_hz) == shape
