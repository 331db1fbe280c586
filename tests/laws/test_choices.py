"""Whose choice counts: a user's, a recipe's, a store's, a checkpoint's; and what a header says of whom."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from eegm2.config import to_dict
from eegm2.data.config import (
    SIGNAL_CHOICES,
    PrepareConfig,
    PreprocessingConfig,
    WindowConfig,
    signal_differences,
)
from eegm2.data.preparing.prepare import _with_recipe, resolve_preprocessing
from eegm2.data.recipes.base import Recipe
from eegm2.data.windows.pool import StorePool
from eegm2.data.windows.splits import SplitManifest
from eegm2.model.config import EEGM2Config
from eegm2.model.network import EEGM2, build_model
from eegm2.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint, weights_sha256
from eegm2.training.config import PretrainConfig
from eegm2.training.run_record import open_run, run_splits
from tests.laws.test_runs_by_the_book import people
from tests.training.stores import tiny_store

SUGGESTED: dict[str, Any] = {"montage": "epoc14", "l_freq_hz": 0.0, "h_freq_hz": 30.0, "offset": "keep"}
GIVEN: list[dict[str, Any]] = [
    {},
    {"l_freq_hz": 1.0},
    {"h_freq_hz": 40.0},  # the default, and yet said
    {"channels": ("Cz", "Pz")},
    {"montage": "tcp16"},
    {"offset": "remove", "montage": "1020_19", "sfreq_hz": 100.0},
    {"channels": ("Cz",), "notch_hz": 50.0, "sfreq_hz": 200.0},
]


@pytest.mark.parametrize("given", GIVEN, ids=lambda given: "+".join(given) or "nothing")
@pytest.mark.parametrize("own_rate", [None, 64.0, 256.0])
def test_what_a_user_says_goes_before_the_recipe_and_that_before_defaults(
    given: dict[str, Any], own_rate: float | None
) -> None:
    """Channels are one choice, by montage or by name; a rate of the files themselves is the recipe's too."""
    recipe: Any = SimpleNamespace(
        preprocessing=SUGGESTED,
        preprocessing_of=None if own_rate is None else lambda root: {"sfreq_hz": own_rate},
    )
    expected = dict(SUGGESTED) if own_rate is None else {**SUGGESTED, "sfreq_hz": own_rate}
    if "channels" in given or "montage" in given:
        del expected["montage"]
    if expected.get("sfreq_hz") == 64.0 and given.get("h_freq_hz", 30.0) > 32:
        return
    found = _with_recipe(PrepareConfig(**given), recipe, Path("x"))
    assert type(found) is PreprocessingConfig
    assert to_dict(found) == to_dict(PreprocessingConfig(**{**expected, **given}))
    bare = Recipe("r", "", "", "", "", discover=lambda root: [])
    assert _with_recipe(PrepareConfig(**given), bare, Path("x")) == PreprocessingConfig(**given)


def test_every_choice_of_preparing_reaches_the_store() -> None:
    others: dict[str, Any] = {
        **{"montage": "tcp16", "aliases": ("a=Fz",), "missing": "interpolate", "reference": "average"},
        **{"offset": "keep", "l_freq_hz": 1.0, "h_freq_hz": 20.0, "gpass_db": 2.0, "gstop_db": 50.0},
        **{"notch_hz": 50.0, "sfreq_hz": 200.0, "scale": 1e-6, "amplitude": "any", "nan": "interpolate"},
        **{"flat": "keep", "bads": "refuse", "channels": ("Cz",)},
    }
    assert set(others) == {field.name for field in dataclasses.fields(PreprocessingConfig)}
    usual = PreprocessingConfig()
    for name, value in others.items():
        made = PrepareConfig(**{name: value}).preprocessing()
        assert to_dict(made) == {**to_dict(usual), name: list(value) if isinstance(value, tuple) else value}
        assert made.sha256() != usual.sha256()
    assert usual.sha256(2) != usual.sha256(1)


def test_channels_are_the_users_the_stores_or_those_of_the_first_that_opens() -> None:
    asked: list[int] = []

    def opened() -> Any:
        for number, found in enumerate([((), "broken"), (("Cz", "Pz"), ""), (("Oz",), "")]):
            asked.append(number)
            yield found

    plain = PreprocessingConfig()
    assert resolve_preprocessing(plain, opened(), None).channels == ("Cz", "Pz")
    assert asked == [0, 1]
    store: Any = SimpleNamespace(ch_names=("Fz", "Oz"))
    assert resolve_preprocessing(plain, opened(), store).channels == ("Fz", "Oz")
    own = dataclasses.replace(plain, channels=("T3", "Fz"), aliases=("x=Fz",))
    for existing in (None, store):
        found = resolve_preprocessing(own, opened(), existing)
        assert (found.channels, found.aliases, found.montage) == (("T7", "Fz"), ("x=Fz",), "")
    named = resolve_preprocessing(PreprocessingConfig(montage="epoc14"), opened(), store)
    assert (named.montage, len(named.channels), named.channels[0]) == ("", 14, "AF3")
    assert asked == [0, 1]


@pytest.mark.parametrize("name", SIGNAL_CHOICES)
def test_a_choice_that_was_not_known_then_was_the_default(name: str) -> None:
    """On either side, whatever the other one has."""
    usual = to_dict(PreprocessingConfig())
    other = {**usual, name: "another"}
    unknown = {key: value for key, value in usual.items() if key != name}
    assert signal_differences(usual, unknown) == signal_differences(unknown, usual) == []
    assert signal_differences(unknown, unknown) == signal_differences(other, other) == []
    assert signal_differences(other, unknown) == [(name, "another", usual[name])]
    assert signal_differences(unknown, other) == [(name, usual[name], "another")]


TINY = PretrainConfig(preset="s5", width=4, window_s=1.0, epochs=2, batch_size=6, accelerator="cpu")


def test_a_run_keeps_the_people_it_began_with_whatever_is_asked_later(tmp_path: Path) -> None:
    """Before its first checkpoint another split takes the place of the one that was drawn."""
    pool = StorePool(tiny_store(tmp_path / "s", subjects=6, seconds=3))
    parts = [
        SplitManifest(("sub0", "sub1"), ("sub2",), ("sub3",)),
        SplitManifest(("sub4", "sub3"), ("sub0",), ("sub1",)),
    ]
    for number, split in enumerate(parts):
        split.to_json(tmp_path / f"{number}.json")
    run = tmp_path / "run"
    run.mkdir()
    for number in (0, 1):
        config = dataclasses.replace(TINY, splits=str(tmp_path / f"{number}.json"))
        assert run_splits(run, pool, config, write=True) == dataclasses.replace(parts[number], stores={})
    (run / "checkpoints").mkdir()
    (run / "checkpoints" / "last.ckpt").touch()
    for splits in ("0.json", "1.json", ""):
        config = dataclasses.replace(TINY, splits=str(tmp_path / splits) if splits else "")
        for write in (True, False):
            found = run_splits(run, pool, config, write=write)
            assert (found.train, found.val, found.test) == (("sub4", "sub3"), ("sub0",), ("sub1",))


def test_a_record_of_a_run_is_of_its_own_data_and_options(tmp_path: Path) -> None:
    stores = [tiny_store(tmp_path / name, subjects=n, seconds=3, seed=n) for name, n in (("a", 4), ("b", 3))]
    config = dataclasses.replace(TINY, stride_s=0.5, scaling="zscore", seed=9)
    for pool in (StorePool(stores[0]), StorePool(stores)):
        facts = open_run(tmp_path / f"run{len(pool)}", pool, config, write=False)
        assert facts["pretrain"] == to_dict(config)
        assert facts["windows"] == to_dict(WindowConfig(window_s=1.0, stride_s=0.5, scaling="zscore"))
        assert facts["preprocessing"] == to_dict(pool.preprocessing)
        assert facts["model"] == config.network_config(3, 32.0).to_dict()
        assert (facts["ch_names"], facts["sfreq_hz"]) == (["F3", "C3", "P3"], 32.0)
        data = facts["data"]
        assert data["manifest_sha256"] == pool.manifest_sha256
        assert (data["n_recordings"], data["n_subjects"]) == ((4, 4) if len(pool) == 1 else (7, 7))
        assert data["store"] == ("a" if len(pool) == 1 else "a, b")
        for own, store in zip(data.get("stores", ()), stores):
            assert own["manifest_sha256"] == store.manifest_sha256
            assert (own["n_recordings"], own["n_subjects"]) == (len(store), len(store.subjects))
            assert own["ch_names"] == list(store.ch_names)
    third = tiny_store(tmp_path / "c", subjects=2, seconds=3, seed=8)
    pools = [[*stores], stores[::-1], [stores[0], third], [third, stores[1]], [*stores, third]]
    every = [StorePool(pool).manifest_sha256 for pool in (*pools, *([store] for store in (*stores, third)))]
    assert len(set(every)) == len(every)


NAMES = ("Fp1", "Fp2", "C3", "C4", "O1", "O2")


def checkpoint(folder: Path, preset: str) -> Checkpoint:
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"n_virtual": 4} if preset == "covariance" else {}
    model = build_model(EEGM2Config.preset(preset, n_chans=6, width=4, **sizes))
    header = {
        "ch_names": list(NAMES),
        "sfreq_hz": 128.0,
        "preprocessing": to_dict(PreprocessingConfig(channels=NAMES, notch_hz=50.0)),
        "windows": to_dict(WindowConfig(window_s=2.0)),
    }
    save_checkpoint(folder / "m.safetensors", model, header)
    return load_checkpoint(folder / "m.safetensors")


@pytest.mark.parametrize("preset", ["covariance", "light"])
def test_a_recording_is_prepared_as_the_training_was_on_its_own_electrodes_if_it_must(
    preset: str, tmp_path: Path
) -> None:
    found = checkpoint(tmp_path, preset)
    every = [*NAMES, "Cz", "EOG left"]
    own = dataclasses.replace(found.preprocessing, channels=())
    cases: list[tuple[list[str], bool]] = [
        (every, True),
        ([f"EEG {name}-REF" for name in reversed(every)], True),
        (every[1:], False),
        (["Fz", "Cz", "Pz", "Oz"], False),
    ]
    for names, whole in cases:
        expected = found.preprocessing if whole or preset == "light" else own
        assert found.preprocessing_of(names) == expected
    assert found.preprocessing.notch_hz == own.notch_hz == 50.0


def test_a_header_on_other_electrodes_says_which_and_on_which_it_was_trained(tmp_path: Path) -> None:
    found = checkpoint(tmp_path, "covariance")
    other = ("Fz", "Cz", "Pz", "Oz", "T7")
    there = found.on_montage(other)
    assert isinstance(there.model, EEGM2)
    assert (there.header["ch_names"], there.header["trained_on"]) == ([*other], [*NAMES])
    assert there.config.n_chans == 5
    assert found.header["ch_names"] == [*NAMES]
    assert "trained_on" not in found.header
    same = found.on_montage([f"EEG {name}-LE" for name in NAMES])
    assert same is found
    further = there.on_montage(("F3", "F4", "P3", "P4"))
    assert (further.header["ch_names"], further.header["trained_on"]) == (["F3", "F4", "P3", "P4"], [*NAMES])
    fixed = checkpoint(tmp_path, "light")
    assert fixed.on_montage(other) is fixed


def test_weights_are_told_apart_by_values_names_and_shapes(tmp_path: Path) -> None:
    def of(**state: Any) -> str:
        return weights_sha256(SimpleNamespace(state_dict=lambda: state))  # type: ignore[arg-type]

    a, b = torch.arange(6.0).reshape(2, 3), torch.ones(2)
    usual = of(a=a, b=b)
    assert usual == of(b=b, a=a) == of(a=a.clone().t().contiguous().t(), b=b)
    changed = [of(a=a.reshape(3, 2), b=b), of(a=a, c=b), of(a=a + 1e-6, b=b), of(a=a.double(), b=b), of(a=a)]
    assert len({usual, *changed}) == 6
    found = checkpoint(tmp_path, "light")
    assert weights_sha256(found.model) == weights_sha256(load_checkpoint(tmp_path / "m.safetensors").model)


def test_people_of_a_run_are_counted_once_however_many_recordings_and_stores_they_have(
    tmp_path: Path,
) -> None:
    first = people(
        tmp_path / "a", ("p", "1", None), ("p", "2", None), ("q", "3", None), channels=("Fz", "Cz")
    )
    second = people(
        tmp_path / "b", ("p", "2", None), ("q", "9", None), ("q", "8", None), channels=("Fz", "Cz")
    )
    third = people(tmp_path / "c", ("r", "", None), ("p", "1", None), channels=("Fz", "Cz"))
    for stores, recordings, n in (([first], 3, 2), ([first, second], 6, 3), ([first, second, third], 8, 4)):
        facts = open_run(tmp_path / f"r{n}", StorePool(stores), TINY, write=False)["data"]
        assert (facts["n_recordings"], facts["n_subjects"]) == (recordings, n)
        for own, store in zip(facts.get("stores", ()), stores):
            assert (own["n_recordings"], own["n_subjects"]) == (len(store), len(store.subjects))
