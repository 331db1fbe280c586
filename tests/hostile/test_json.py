"""JSON that lies: stores, splits and checkpoints are used or refused in one line, whatever it says."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from eegm2 import EEGM2, EEGM2Config
from eegm2.data.config import SplitConfig, WindowConfig
from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.dataset import WindowDataset
from eegm2.data.windows.splits import SplitManifest, split_subjects
from eegm2.errors import EEGM2Error
from eegm2.training.checkpoint import load_checkpoint, save_checkpoint, write_weights
from tests.data.samples import write_store

VALUES: list[Any] = [
    None, True, -1, 0, 3, 10**400, -(10**30), 1e308, float("nan"), float("inf"), "", "x", "../../x", [], {},
    [[]], {"a": 1}, [1, "b", None], "9" * 5000,
]  # fmt: skip
TEXTS = ["", "{", "[]", "null", "3", '"x"', "[" * 100_000, "{}", '{"format": 1}', "\x00", "NaN"]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to every value inside a JSON document; of a list only its first item."""
    items = (
        value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    )
    for key, inner in items:
        yield (*path, key)
        yield from places(inner, (*path, key))


def variants(document: Any, step: int) -> Iterator[tuple[str, Any]]:
    """Yield the document with each value replaced by each hostile one, and left out; every step-th."""
    yield from itertools.islice(_all_variants(document), 0, None, step)


def _all_variants(document: Any) -> Iterator[tuple[str, Any]]:
    for path in places(document):
        for value in [*VALUES, ...]:
            changed = copy.deepcopy(document)
            inner = changed
            for key in path[:-1]:
                inner = inner[key]
            if value is ...:
                del inner[path[-1]]
            else:
                inner[path[-1]] = value
            yield f"{'/'.join(map(str, path))} = {str(value)[:30]}", changed


def expect_used_or_refused(use: Callable[[], Any], what: str) -> bool:
    """Return whether it was refused; anything but an EEGM2Error of one line is a failure."""
    try:
        use()
    except EEGM2Error as error:
        if "\n" in str(error):
            pytest.fail(f"{what}: {error}")
        return True
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error
    return False


def use_store(url: Path) -> None:
    store = RecordingStore(url)
    for info in store.recordings:
        store.read(info.id, 0, 1)
    assert len(store.manifest_sha256) == 64
    dataset = WindowDataset(store, WindowConfig(window_s=1.0))
    dataset[len(dataset) - 1]
    split_subjects(store, SplitConfig(val=0.3, test=0.3))


STEPS = pytest.mark.parametrize("step", [11, pytest.param(1, marks=pytest.mark.slow)])


@STEPS
@pytest.mark.parametrize("name", ["store.json", "recordings/r0.json"])
def test_a_store(name: str, step: int, tmp_path: Path) -> None:
    write_store(tmp_path, 5, 256)
    path = tmp_path / name
    document = json.loads(path.read_text())
    refused = used = 0
    for what, changed in variants(document, step):
        path.write_text(json.dumps(changed))
        if expect_used_or_refused(lambda: use_store(tmp_path), what):
            refused += 1
        else:
            used += 1
    for text in TEXTS:
        path.write_text(text)
        refused += expect_used_or_refused(lambda: use_store(tmp_path), text[:20])
    assert used > 3
    # A damaged recording is left out and the others are used; a damaged store is refused.
    assert refused > 10 if name == "store.json" else refused == 0
    path.write_text(json.dumps(document))
    assert not RecordingStore(tmp_path).damaged


def test_a_recording_that_lies_is_named_and_left_out(tmp_path: Path) -> None:
    write_store(tmp_path, 3, 256)
    path = tmp_path / "recordings" / "r1.json"
    document = json.loads(path.read_text())
    for key, value in (("n_times", 10**400), ("subject", 7), ("labels", [[0, "x", "y"]]), ("id", "r2")):
        path.write_text(json.dumps({**document, key: value}))
        store = RecordingStore(tmp_path)
        assert [info.id for info in store.recordings] == ["r0", "r2"], key
        assert "prepare the recording again" in store.damaged["r1"], key


@STEPS
def test_splits(step: int, tmp_path: Path) -> None:
    store = write_store(tmp_path / "store", 3, 256)
    path = tmp_path / "splits.json"
    split_subjects(store, SplitConfig(val=0.3, test=0.3)).to_json(path)
    document = json.loads(path.read_text())
    refused = 0
    for what, changed in variants(document, step):
        path.write_text(json.dumps(changed))
        refused += expect_used_or_refused(lambda: SplitManifest.from_json(path, store), what)
    for text in TEXTS:
        path.write_text(text)
        assert expect_used_or_refused(lambda: SplitManifest.from_json(path, store), text[:20]), text[:20]
    assert refused > 5


@STEPS
def test_checkpoint_headers(step: int, tmp_path: Path) -> None:
    model = EEGM2(EEGM2Config.preset("eegm2", n_chans=2, width=2))
    path = tmp_path / "model.safetensors"
    header = {
        "ch_names": ["Fz", "Cz"],
        "sfreq_hz": 128.0,
        "preprocessing": {"l_freq_hz": 0.5},
        "windows": {"window_s": 4.0},
    }
    save_checkpoint(path, model, header)
    whole = json.loads(path.with_suffix(".json").read_text())

    def use() -> None:
        loaded = load_checkpoint(path)
        _ = loaded.windows, loaded.preprocessing, loaded.config

    refused = 0
    state = model.state_dict()
    for what, changed in variants(whole, step):
        write_weights(path, state, changed)
        refused += expect_used_or_refused(use, what)
    assert refused > 5
    for size in (10**400, 10**12, 2**40):
        write_weights(path, state, {**whole, "model": {**whole["model"], "width": size}})
        assert expect_used_or_refused(use, f"width {size}"[:40])


@pytest.mark.parametrize("number", range(40))
def test_damaged_weights(number: int, tmp_path: Path) -> None:
    import numpy as np

    from tests.hostile.mutations import GENERAL

    path = tmp_path / "model.safetensors"
    model = EEGM2(EEGM2Config.preset("eegm2", n_chans=2, width=2))
    save_checkpoint(path, model, {"ch_names": ["Fz", "Cz"]})
    generator = np.random.default_rng(number)
    path.write_bytes(GENERAL[number % len(GENERAL)](path.read_bytes(), generator))

    def use() -> None:
        with torch.inference_mode():
            load_checkpoint(path).model(torch.zeros(1, 2, 16))

    expect_used_or_refused(use, GENERAL[number % len(GENERAL)].__name__)
