"""What a head is said to score is what a stream of the same people gives."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from eegm2.cli.main import app
from eegm2.data.config import PreprocessingConfig, WindowConfig
from eegm2.data.files.readers import read_raw
from eegm2.data.labels import LabelSpan
from eegm2.data.signal.preprocessing import preprocess
from eegm2.data.store.facts import RecordingInfo
from eegm2.data.store.recording_store import StoreWriter
from eegm2.data.windows.labelling import labels_at
from eegm2.deploy.heads import as_streamed
from eegm2.deploy.heads.dense import DenseHead
from eegm2.deploy.heads.fit import fit_head
from eegm2.deploy.stream.causal import CausalPreprocessor
from eegm2.deploy.stream.causal_copy import causal_copy
from eegm2.errors import ConfigError
from eegm2.evaluation.scores.metrics import classification_metrics
from tests.data.samples import write_edf
from tests.deploy.helpers import checkpoint

NAMES = ("Fz", "Cz", "Pz")
SPANS = tuple(LabelSpan(4.0 * i, 4.0, ("rest", "task")[i % 2]) for i in range(12))
CHOICES = PreprocessingConfig(channels=NAMES)


def signal(seed: int) -> np.ndarray:
    """48 s at 250 Hz: coloured noise far from zero, with more alpha in every second span."""
    rng, t = np.random.default_rng(seed), np.arange(48 * 250) / 250
    noise = np.cumsum(rng.standard_normal((3, len(t))), axis=1)
    noise = 8 * (noise - noise.mean(1, keepdims=True)) / noise.std(1, keepdims=True)
    alpha = np.sin(2 * np.pi * rng.uniform(9, 11) * t) * np.where((t // 4) % 2, 6.0, 2.0)
    return noise + alpha + 6 * rng.standard_normal((3, len(t))) + 300 * rng.standard_normal((3, 1))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five raw recordings, the store made of them, and a small network."""
    folder = tmp_path_factory.mktemp("streamed")
    writer = StoreWriter(folder / "store", CHOICES, NAMES)
    for number in range(5):
        file = write_edf(folder / f"s{number}.edf", signal(number), NAMES, sfreq_hz=250.0)
        made = preprocess(read_raw(file), CHOICES, where=str(file))
        info = RecordingInfo(
            f"r{number}", f"s{number}", "", 0, 0.0, (), labels=SPANS, source=file.name, quality=made.quality
        )
        writer.write(info, made.array)
    checkpoint(folder / "m.safetensors", "light", ch_names=NAMES)
    return folder


def streamed_score(place: Path, head: Path, people: list[str], tmp_path: Path) -> float:
    """Return the balanced accuracy of the decisions of ``eegm2 stream`` on raw files."""
    loaded, y, p = DenseHead.load(head), [], []
    for name in people:
        out = tmp_path / f"{name}.jsonl"
        command = ["stream", "--source", str(place / f"{name}.edf"), "--model", str(place / "m.safetensors")]
        done = CliRunner().invoke(app, [*command, "--head", str(head), "--speed", "0", "--out", str(out)])
        assert done.exit_code == 0, done.output
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        decisions = [line for line in lines if line["type"] == "decision"]
        ends = np.round([d["time_s"] * 128 for d in decisions]).astype(int)
        info = RecordingInfo(name, name, "", 48 * 128, 128.0, NAMES, labels=SPANS)
        labels = labels_at(info, SPANS, WindowConfig(window_s=2.0), loaded.classes, ends - 256, 256)
        y.append(labels[labels >= 0])
        p.append(np.array([d["probabilities"] for d in decisions])[labels >= 0])
    return classification_metrics(np.concatenate(y), np.concatenate(p)).plain()["balanced_accuracy"]


@pytest.mark.parametrize("options", [{}, {"centre": "running", "warm_up": 3}, {"adapt_s": 6.0}])
def test_the_printed_score_is_that_of_the_stream(place: Path, tmp_path: Path, options: dict) -> None:
    head = fit_head(place / "m.safetensors", place / "store", val=0.4, calibration_s=8.0, **options)
    head.save(tmp_path / "h.safetensors")
    judged = head.facts["validation"]
    assert judged["metrics"]["balanced_accuracy"] > 0.7, "the classes can be told apart"
    score = streamed_score(place, tmp_path / "h.safetensors", judged["left_out"], tmp_path)
    assert score == pytest.approx(judged["metrics"]["balanced_accuracy"], abs=0.01)


def test_without_the_streams_filter_the_scores_would_differ(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = fit_head(place / "m.safetensors", place / "store", val=0.4, calibration_s=8.0)
    monkeypatch.setattr(as_streamed, "causal_copy", lambda x, *_, **__: x)
    other = fit_head(place / "m.safetensors", place / "store", val=0.4, calibration_s=8.0)
    assert not np.allclose(streams.mean, other.mean, rtol=1e-3)


def test_a_stored_recording_becomes_what_a_stream_of_the_raw_one_is(place: Path) -> None:
    raw = read_raw(place / "s1.edf")
    causal = CausalPreprocessor(list(raw.ch_names), 250.0, CHOICES, NAMES)
    streamed = np.concatenate([causal.push(raw[:][0] * 1e6), causal.flush()], axis=1)
    stored = preprocess(raw, CHOICES, where="s1").array
    copied = causal_copy(stored, 128.0, CHOICES, source_sfreq_hz=250.0)
    inside = slice(128 * 8, -128)
    left = np.std(streamed[:, inside] - copied[:, inside])
    assert left < 0.05 * np.std(streamed[:, inside])
    assert np.std(streamed[:, inside] - stored[:, inside]) > 10 * left


def test_a_light_head_streams(place: Path, tmp_path: Path) -> None:
    head = fit_head(place / "m.safetensors", place / "store", val=0.4, calibration_s=8.0, protocol="light")
    assert [len(bias) for _, bias in head.layers] == [128, 32, 2]
    head.save(tmp_path / "h.safetensors")
    judged = head.facts["validation"]
    score = streamed_score(place, tmp_path / "h.safetensors", judged["left_out"], tmp_path)
    assert score == pytest.approx(judged["metrics"]["balanced_accuracy"], abs=0.01)
    with pytest.raises(ConfigError, match="protocol: got 'fine', expected linear or light"):
        fit_head(place / "m.safetensors", place / "store", protocol="fine")
