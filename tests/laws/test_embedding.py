"""Laws of embeddings: a file gives what a store of it gives, and a mean is of one recording."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest

from eegm2.data.signal.preprocessing import preprocess
from eegm2.data.store.recording_store import RecordingStore, StoreWriter
from eegm2.data.windows.scaling import scale_window
from eegm2.evaluation.config import EmbedConfig
from eegm2.evaluation.features import embedding
from eegm2.evaluation.features.centring import centred
from eegm2.evaluation.features.embedding import embed
from eegm2.evaluation.features.representation import extract_features
from eegm2.training.checkpoint import load_checkpoint, save_checkpoint
from tests.evaluation.helpers import (
    CHANNELS,
    PREPROCESSING,
    SFREQ_HZ,
    fake_run,
    labelled_store,
    rhythm,
    tiny_model,
)

Places = tuple[Path, RecordingStore, Path]


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Places:
    """A run, and one recording as a file and in a store; it is twelve times as loud in its second half."""
    folder = tmp_path_factory.mktemp("embedding")
    x = np.concatenate([rhythm(f, 200, np.random.default_rng(f)) for f in (3, 10)], axis=1)
    x[:, 200:] *= 12
    raw = mne.io.RawArray(x * 1e-6, mne.create_info(list(CHANNELS), SFREQ_HZ, "eeg"), verbose="error")
    raw.save(folder / "kim_eeg.fif", verbose="error")
    first = labelled_store(folder / "other", subjects=1)
    writer = StoreWriter(folder / "store", PREPROCESSING, CHANNELS)
    info = replace(first["rec0"], id="kim_eeg", subject="kim_eeg", session="", labels=())
    writer.write(info, preprocess(raw, PREPROCESSING, where="kim").array)
    return fake_run(folder / "run", first), RecordingStore(folder / "store"), folder / "kim_eeg.fif"


@pytest.mark.parametrize("scaling", ["none", "zscore", "robust", "quantile95", "recording"])
@pytest.mark.parametrize("options", [{}, {"window_s": 3.0, "stride_s": 0.75}], ids=str)
def test_a_file_gives_what_a_store_of_it_gives(
    options: dict[str, Any], scaling: Any, places: Places, tmp_path: Path
) -> None:
    run, store, file = places
    config = EmbedConfig(scaling=scaling, kind="sequence", **options)
    one = embed(run, store.url, tmp_path / "a.npz", config)
    two = embed(run, file, tmp_path / "b.npz", config)
    assert len(one.values) > 5
    for name in ("start_s", "window_s", "recording", "subject", "label"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)
    np.testing.assert_allclose(one.values, two.values, rtol=1e-3, atol=1e-3 * np.abs(one.values).max())
    np.testing.assert_array_equal(one.time_s(), two.time_s())
    length, step = options.get("window_s", 2.0), options.get("stride_s", 2.0)
    np.testing.assert_allclose(one.start_s, np.arange(0, 12.5 - length + 1e-9, step))
    np.testing.assert_allclose(one.time_s().mean(1), one.start_s + length / 2)


@pytest.mark.parametrize("centre", ["recording", "running"])
def test_a_mean_that_is_taken_off_is_of_one_recording_of_a_person(
    centre: Any, places: Places, tmp_path: Path
) -> None:
    run, store, _ = places
    writer = StoreWriter(tmp_path / "store", PREPROCESSING, CHANNELS)
    rng = np.random.default_rng(2)
    for number in range(4):
        info = replace(store["kim_eeg"], id=f"r{number}", subject=f"p{number // 2}", session=str(9 - number))
        writer.write(info, 10.0**number * rng.standard_normal((3, 1120)).astype(np.float32))
    source = str(tmp_path / "store")
    plain = embed(run, source, tmp_path / "a.npz", EmbedConfig(scaling="none"))
    made = embed(run, source, tmp_path / "b.npz", EmbedConfig(scaling="none", centre=centre))
    assert [set(made.session[made.recording == f"r{i}"]) for i in range(4)] == [{"9"}, {"8"}, {"7"}, {"6"}]
    for name in np.unique(plain.recording):
        rows = plain.recording == name
        own = plain.values[rows].astype(float)
        less = own.mean(0) if centre == "recording" else own - centred(own, np.full(len(own), "r"), "running")
        expected = own - less
        np.testing.assert_allclose(made.values[rows], expected, rtol=1e-4, atol=1e-5 * np.abs(own).max())


@pytest.mark.parametrize(
    "asked", [{}, {"stride_s": 1.0}, {"window_s": 4.0}, {"window_s": 3.0, "scaling": "robust"}], ids=str
)
def test_windows_are_as_in_pretraining_but_side_by_side_and_whole(
    asked: dict[str, Any], places: Places, tmp_path: Path
) -> None:
    """Neither the overlap of pretraining's windows nor what it left out is taken over."""
    run, store, _ = places
    header = load_checkpoint(run).header
    cut = {"window_s": 2.5, "stride_s": 0.5, "scaling": "zscore", "exclude_s": ["0:3"]}
    header["windows"] = {**header["windows"], **cut}
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    save_checkpoint(tmp_path / "run" / "checkpoints" / "best.safetensors", tiny_model(), header)
    made = embed(tmp_path / "run", store.url, tmp_path / "a.npz", EmbedConfig(**asked))
    window_s = asked.get("window_s", 2.5)
    assert made.window_s == window_s
    np.testing.assert_allclose(
        made.start_s, np.arange(0, 12.5 - window_s + 1e-9, asked.get("stride_s", window_s))
    )
    start = round(made.start_s[1] * SFREQ_HZ)
    x = store.read("kim_eeg", start, start + round(window_s * SFREQ_HZ))
    scaled = scale_window(np.asarray(x, np.float32), asked.get("scaling", "zscore"))
    expected = extract_features(tiny_model(), scaled[None])
    np.testing.assert_allclose(made.values[1], expected[0], rtol=1e-3, atol=1e-3)


def test_an_embedding_is_computed_where_and_in_batches_as_asked(
    places: Places, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []
    true = embedding.extract_features

    def extract(model: Any, data: Any, **how: Any) -> Any:
        seen.append(dict(how))
        return true(model, data, **{**how, "device": "cpu"})

    monkeypatch.setattr(embedding, "extract_features", extract)
    run, store, _ = places
    told: list[tuple[int, int]] = []
    config = EmbedConfig(device="cuda:1", batch_size=4, kind="covariance")
    embed(run, store.url, tmp_path / "a.npz", config, progress=lambda *a: told.append(a))
    (how,) = seen
    assert (how["device"], how["batch_size"], how["kind"]) == ("cuda:1", 4, "covariance")
    assert told == [(4, 6), (6, 6)]
