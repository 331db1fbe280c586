"""What a head is said to score is what a stream of the same people gives."""

from __future__ import annotations

import json
import os
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from eegm2.cli.main import app
from eegm2.data.config import PrepareConfig, PreprocessingConfig, WindowConfig
from eegm2.data.files.readers import read_raw
from eegm2.data.labels import LabelSpan
from eegm2.data.preparing.prepare import prepare
from eegm2.data.signal.preprocessing import preprocess
from eegm2.data.store.facts import RecordingInfo
from eegm2.data.store.recording_store import RecordingStore, StoreWriter
from eegm2.data.windows.labelling import label_spans, labels_at
from eegm2.deploy.heads.as_streamed import StreamedAs, streamed_windows
from eegm2.deploy.heads.dense import DenseHead
from eegm2.deploy.heads.fit import fit_head
from eegm2.deploy.stream import causal_copy as module
from eegm2.deploy.stream.causal import CausalPreprocessor
from eegm2.deploy.stream.causal_copy import causal_copy
from eegm2.errors import ConfigError, DataError
from eegm2.evaluation.scores.metrics import classification_metrics
from eegm2.training.checkpoint import load_checkpoint
from tests.data.samples import write_edf
from tests.deploy.helpers import EPOC, checkpoint

NAMES = ("Fz", "Cz", "Pz")
SPANS = tuple(LabelSpan(4.0 * i, 4.0, ("rest", "task")[i % 2]) for i in range(12))
CHOICES = PreprocessingConfig(channels=NAMES)
#: As fast as can be; that chunks of any length decide alike is tested with the streams.
COARSE = ("--speed", "0", "--chunk-s", "1")


def signal(seed: int) -> np.ndarray:
    """Return 48 s at 250 Hz: coloured noise far from zero, with more alpha in every second span."""
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
        done = CliRunner().invoke(app, [*command, *COARSE, "--head", str(head), "--out", str(out)])
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
    monkeypatch.setattr(module, "causal_copy", lambda x, *_, **__: x)
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


def features(place: Path, name: str, tmp_path: Path, head: Path) -> np.ndarray:
    """Return the probabilities of every decision of a stream of a raw file."""
    out = tmp_path / f"{name}.jsonl"
    command = ["stream", "--source", str(place / f"{name}.edf"), "--model", str(place / "m.safetensors")]
    done = CliRunner().invoke(app, [*command, *COARSE, "--head", str(head), "--out", str(out)])
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in out.read_text().splitlines() if '"decision"' in line]
    return np.array([line["probabilities"] for line in lines])


@pytest.fixture(scope="module")
def drifting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings with an amplifier's drift of millivolts, one of them with a join, and their store."""
    folder = tmp_path_factory.mktemp("drifting")
    writer = StoreWriter(folder / "store", CHOICES, NAMES)
    for number in range(4):
        x = signal(number)
        x += 3000 * np.exp(-np.arange(x.shape[1]) / 250 / 20) * np.array([[1.0], [-0.5], [0.7]])
        marks = [(30.1, 0.0, "BAD boundary")] if number == 0 else []
        file = write_edf(folder / f"s{number}.edf", x, NAMES, sfreq_hz=250.0, annotations=marks)
        made = preprocess(read_raw(file), CHOICES, where=str(file))
        labels = (*SPANS, *(LabelSpan(*mark) for mark in marks))
        info = RecordingInfo(
            f"r{number}", f"s{number}", "", 0, 0.0, (), labels=labels, source=file.name, quality=made.quality
        )
        writer.write(info, made.array)
    checkpoint(folder / "m.safetensors", "light", ch_names=NAMES)
    return folder


def test_streams_of_the_recordings_themselves_are_exact(drifting: Path, tmp_path: Path) -> None:
    """What a head is judged on is the stream's number by number, joins and drifts of millivolts included."""
    model, options = drifting / "m.safetensors", {"val": 0.5, "calibration_s": 8.0}
    exact = fit_head(model, drifting / "store", **options, recordings=drifting)
    restored = fit_head(model, drifting / "store", **options)
    assert (exact.facts["streamed_from"], restored.facts["streamed_from"]) == ("recordings", "store")
    exact.save(tmp_path / "h.safetensors")
    data = RecordingStore(drifting / "store")
    how = StreamedAs(**{field.name: exact.facts[field.name] for field in fields(StreamedAs)})
    config = load_checkpoint(model).windows
    off: dict[Path | None, list[float]] = {drifting: [], None: []}
    for info in data.recordings[:2]:  # with a join, and without
        p = features(drifting, info.subject, tmp_path, tmp_path / "h.safetensors")
        for raw, differs in off.items():
            network = load_checkpoint(model).model
            made = streamed_windows(network, data, [info], config, exact.classes, how, raw)
            differs += [np.abs(p - row).max(1).min() for row in exact(made.features)]
    assert max(off[drifting]) < 1e-4
    assert max(off[None]) > 0.01, "from the store alone they cannot be restored"


def test_recordings_that_are_not_those_of_the_store_are_refused(drifting: Path, tmp_path: Path) -> None:
    model = drifting / "m.safetensors"
    with pytest.raises(DataError, match=r"recordings: .* has no 's0.edf'; give the folder that was prepared"):
        fit_head(model, drifting / "store", calibration_s=8.0, recordings=tmp_path)
    for number in range(4):
        write_edf(tmp_path / f"s{number}.edf", signal(0)[:, :2500], NAMES, sfreq_hz=250.0)
    with pytest.raises(DataError, match=r"s0.edf: is not what was prepared \(the store has 6144 samples"):
        fit_head(model, drifting / "store", calibration_s=8.0, recordings=tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_person_of_a_held_out_set_of_real_recordings(tmp_path: Path) -> None:
    """Opt-in: of 14 people left out, the score that is printed and that of the stream, person by person."""
    data = os.environ.get("EEGM2_TEST_DATA")
    if not data or not (Path(data) / "epoc_eyes").is_dir():
        pytest.skip("EEGM2_TEST_DATA names no folder with epoc_eyes")
    place = Path(data) / "epoc_eyes"
    model = checkpoint(tmp_path / "m.safetensors", "light", ch_names=EPOC)
    prepare(place, tmp_path / "store", PrepareConfig(**vars(load_checkpoint(model).preprocessing)))
    store = RecordingStore(tmp_path / "store")
    people = sorted(store.subjects)[:28]
    head = fit_head(model, tmp_path / "store", subjects=people, val=0.5, recordings=place)
    head.save(tmp_path / "h.safetensors")
    how = StreamedAs(**{field.name: head.facts[field.name] for field in fields(StreamedAs)})
    checkpointed = load_checkpoint(model)
    out = head.facts["validation"]["left_out"]
    assert len(out) == 14
    for info in [info for info in store.recordings if info.subject in out]:
        made = streamed_windows(
            checkpointed.model, store, [info], checkpointed.windows, head.classes, how, place
        )
        printed = classification_metrics(made.y, head(made.features)).plain()["balanced_accuracy"]
        lines = tmp_path / f"{info.id}.jsonl"
        command = ["stream", "--source", str(place / info.source), "--model", str(model), "--speed", "0"]
        command += ["--head", str(tmp_path / "h.safetensors"), "--out", str(lines), "--chunk-s", "4"]
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        decisions = [json.loads(line) for line in lines.read_text().splitlines() if '"decision"' in line]
        n = round(how.window_s * store.sfreq_hz)
        starts = np.round([d["time_s"] * store.sfreq_hz for d in decisions]).astype(int) - n
        spans = label_spans(info, checkpointed.windows)
        y = labels_at(info, spans, checkpointed.windows, head.classes, starts, n)
        p = np.array([d["probabilities"] for d in decisions])
        score = classification_metrics(y[y >= 0], p[y >= 0]).plain()["balanced_accuracy"]
        print(f"{info.subject}: printed {printed:.4f}, streamed {score:.4f}")
        assert score == pytest.approx(printed, abs=0.01), info.subject
