"""Laws of the terminal: a figure that is printed is of the part, the people and the unit that it names."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from eegm2.cli.main import app
from eegm2.cli.prepare import _alike
from eegm2.cli.pretrain import _say_where
from eegm2.cli.probe import _show
from eegm2.cli.stream import _too_short
from eegm2.errors import DataError

HEAD: dict[str, Any] = {
    "n_windows": 321, "n_subjects": 7, "streamed_from": "store", "calibration_s": 21.0, "scaling": "zscore",
    "hop_s": 0.5, "window_s": 3.0,
    "validation": {
        "metrics": {"balanced_accuracy": 0.71, "auroc": None}, "n_windows": 55, "n_subjects": 2,
        "left_out": ["p", "q"], "pretraining": "pretraining (without labels) saw 1 of them",
        "notes": {"auroc": "one class"}, "offline": {"metrics": {"balanced_accuracy": 0.82}},
    },
}  # fmt: skip


def invoke(*words: str) -> str:
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_head_says_who_it_was_fitted_and_judged_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head = SimpleNamespace(facts=HEAD, classes=("a", "b"), save=lambda _: None)
    monkeypatch.setattr("eegm2.deploy.heads.fit.fit_head", lambda *_: head)
    said = invoke("head", "m", "s", "--out", str(tmp_path / "h.safetensors"), "--seed", "4")
    assert "a, b: fitted on 321 windows of 7 subjects" in said
    assert "baseline 21 s, scaling zscore, a decision every 0.5 s on 3 s" in said
    assert "validation on 55 windows of 2 other subjects (p, q), seed 4; pretraining (without" in said
    assert "balanced_accuracy 0.710  (offline 0.820)" in said
    assert re.search(r"auroc +undefined  \(one class\)", said)


SCORES: dict[str, Any] = {
    "n_samples": 1280, "sfreq_hz": 128.0, "mode": "windows", "acmse_uv2": 12.5, "acmse_scaled": 0.25,
    "mean_correlation": 0.875, "spectral_error": None,
    "channels": {n: {"mse_uv2": v} for n, v in (("A", 1.0), ("B", 9.0), ("C", 4.0), ("D", 7.0))},
}  # fmt: skip


def test_a_reconstruction_names_its_worst_channels_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("eegm2.evaluation.reconstruct.run.reconstruct_file", lambda *_: SCORES)
    said = invoke("reconstruct", "m", "f.edf", "--out", str(tmp_path / "o.edf"))
    assert "o.edf: 10.0 s at 128 Hz, windows" in said
    assert "acmse 12.5 µV² (0.25 in the training's scale)" in said
    assert "correlation 0.8750, spectral error -" in said
    assert "worst channels B 9 µV², D 7 µV², C 4 µV²\n" in said


@pytest.mark.parametrize(
    ("by", "whose"), [("subject", "people"), ("recording", "recordings of the same people")]
)
@pytest.mark.parametrize(("best", "words"), [(4, "the best 5"), (-1, "none better than the probe")])
def test_a_tuned_run_says_which_epoch_it_kept_and_whom_it_was_tested_on(
    by: str, whose: str, best: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = {
        "classes": ["a", "b"], "notes": [], "best_epoch": best, "epochs": 12,
        "task": {"people": {"train": ["x", "y", "z"], "val": ["v"], "test": ["t", "u"]}, "by": by},
        "metrics": {"balanced_accuracy": 0.61, "auroc": 0.72}, "subject_metrics": {"auroc": 0.99},
    }  # fmt: skip
    made = SimpleNamespace(results=results, already_finished=False, run=tmp_path)
    monkeypatch.setattr("eegm2.evaluation.finetuning.run.finetune", lambda *_: made)
    said = invoke("finetune", "m", "s", "--out", str(tmp_path / "o"))
    assert "train 3 subjects, val 1 subject, test 2 subjects" in said
    assert f"fitted      12 epochs, {words}" in said
    assert f"balanced_accuracy 0.610 per window of {whose} it has not seen" in said
    assert f"auroc 0.720 per window of {whose} it has not seen" in said


def summary(factor: float) -> list[dict[str, Any]]:
    return [
        {"protocol": p, "metric": m, "mean": factor * mean, "std": factor / 10, "n_seeds": n}
        for p, n, add in (("linear", 1, 0.0), ("light", 3, 0.01))
        for m, mean in (("auroc", 0.5 + add), ("accuracy", 0.7 + add))
    ]


def test_a_probe_says_scores_of_windows_and_of_people_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    parts = {"train": (90, 5), "val": (20, 2), "test": (40, 3)}
    task = {
        "target": "eyes", "classes": ["a", "b"], "unit": "subject", "split": "run", "kind": "classification",
        "pretraining_saw": "pretraining saw 0 of the 3 test subjects",
        "parts": {name: {"n_windows": w, "n_subjects": s} for name, (w, s) in parts.items()},
    }  # fmt: skip
    results = {
        "task": task, "protocols": [], "notes": ["A note."], "provenance": {"store": "STORE"},
        "summary": summary(1.0), "subject_summary": summary(1.2), "recording_summary": summary(0.1),
    }  # fmt: skip
    _show(SimpleNamespace(results=results, out=tmp_path), tmp_path / "run")  # type: ignore[arg-type]
    said = capsys.readouterr().out
    assert "split       by subject (the run’s own): train 90 windows, 5 subjects, val 20 windows" in said
    assert "test 40 windows, 3 subjects" in said
    first, second = said.split("test windows, mean")[1].split("test subjects, mean")
    for text, factor in ((first, 1.0), (second, 1.2)):
        line = next(line for line in text.splitlines() if "auroc" in line)
        assert f"{factor * 0.5:.3f}" in line
        assert f"{factor * 0.51:.3f} ± {factor / 10:.3f} (3)" in line
        heads = next(line for line in text.splitlines() if "linear" in line)
        assert heads.index("linear") < heads.index("light")
        assert line.index(f"{factor * 0.5:.3f}") < line.index(f"{factor * 0.51:.3f}")
        assert len(re.findall("[│|]", line)) == 4, "a cell for each protocol"


def test_a_stream_that_was_too_short_says_by_how_much() -> None:
    assert _too_short("f", 31.04, 29.0, 60.0) == (
        "f: ended after 31.0 s of signal, of which the baseline had 29.0 of the 60.0 s it needs, so nothing "
        "was put out; stream longer, or give --calibration-s 14.5 or --scale-uv"
    )
    assert "--calibration-s" not in _too_short("f", 3.0, 1.9, 60.0)


def test_an_export_says_how_large_and_how_far_off_each_file_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {
        "encoder.onnx": {"bytes": 2_340_000, "difference": 3e-6},
        "bundle.onnx": {"bytes": 120_000, "difference": 0.25},
        "encoder.int8.onnx": {"bytes": 600_000, "int8_loss": 0.0123},
    }
    monkeypatch.setattr("eegm2.cli.export.open_head", lambda *_, **__: (None, None))
    monkeypatch.setattr("eegm2.deploy.export.run.export_model", lambda *_: {"files": files})
    said = invoke("export", "m", "--out", str(tmp_path), "--head", "h")
    assert "encoder.onnx  2.34 MB  differs from torch by 3.0e-06 of the largest output" in said
    assert "bundle.onnx  0.12 MB  differs from torch by 2.5e-01 of probability" in said
    assert "encoder.int8.onnx  0.60 MB  8-bit weights lose 1.23 %" in said


class Opened(BaseException):
    """A sink was to be opened."""


@pytest.mark.parametrize("windowed", [True, False])
def test_a_stream_tells_its_sinks_of_the_model_that_it_runs(
    windowed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Channels, rate and steps are the network's, the window the head's, the hop what was asked for."""

    def open_sink(where: str, layout: Any) -> None:
        raise Opened(where, layout)

    trained = SimpleNamespace(
        ch_names=("Fz", "Cz"), sfreq_hz=200.0, sha256="abc",
        config=SimpleNamespace(representation_channels=32, decoder=False, step_samples=8),
    )  # fmt: skip
    pipeline = SimpleNamespace(
        how=SimpleNamespace(method="robust", window_s=3.0), calibration=SimpleNamespace(id="me"),
        windowed=windowed, stream=SimpleNamespace(latency_samples=24),
    )  # fmt: skip
    head = SimpleNamespace(classes=("a", "b"))
    monkeypatch.setattr("eegm2.cli.stream.open_head", lambda *_: (trained, head))
    monkeypatch.setattr("eegm2.cli.stream.open_source", lambda *_: None)
    monkeypatch.setattr("eegm2.deploy.live.pipeline.Pipeline", lambda *_: pipeline)
    monkeypatch.setattr("eegm2.deploy.live.sinks.open_sink", open_sink)
    words = ["stream", "--source", "a/s.edf", "--model", "m", "--out", "o.csv", "--hop-s", "0.25"]
    with pytest.raises(Opened) as stopped:
        CliRunner().invoke(app, words, catch_exceptions=False)
    where, layout = stopped.value.args
    assert (where, layout.ch_names, layout.classes) == ("o.csv", ("Fz", "Cz"), ("a", "b"))
    assert (layout.n_features, layout.reconstructs) == (32, False)
    assert (layout.sfreq_hz, layout.step_samples, layout.decisions_only) == (200.0, 8, windowed)
    told = {name: value for name, value in layout.facts.items() if name != "eegm2"}
    assert told == {
        "source": "s.edf", "model_sha256": "abc", "scaling": "robust", "window_s": 3.0, "hop_s": 0.25,
        "calibration": "me",
    }  # fmt: skip


def test_an_embedding_says_what_and_how_many_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = SimpleNamespace(values=np.zeros((7, 3, 5)), kind="sequence", window_s=4.0)
    monkeypatch.setattr("eegm2.evaluation.features.embedding.embed", lambda *_: made)
    said = invoke("embed", "m", "f.edf", "--out", str(tmp_path / "o.npz"))
    assert "o.npz: sequence of 7 windows of 4 s (7 × 3 × 5)" in said


def test_a_damaged_store_names_what_and_how_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those whose facts are torn count among all."""

    class Store:
        damaged = {"r9": "torn"}
        manifest_sha256 = "a" * 40

        def __init__(self, place: str) -> None:
            self.place = place

        def __len__(self) -> int:
            return 4

        def verify(self) -> dict[str, str]:
            return {"r2": "checksum", "r9": "torn"} if self.place == "bad" else {}

    monkeypatch.setattr("eegm2.data.store.recording_store.RecordingStore", Store)
    assert f"5 recordings are whole ({'a' * 16}…)" in invoke("verify", "good")
    with pytest.raises(DataError, match="bad: 2 of 5 recordings are damaged: r2: checksum; r9: torn"):
        invoke("verify", "bad")


def test_a_run_says_how_it_ended(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result: Any = SimpleNamespace(
        run=tmp_path, already_finished=False, epoch=3, step=40, metrics={"train_loss": 0.5, "val_loss": 0.75},
        performance={"windows_per_s": 123.4, "peak_memory_mb": 512.0},
    )  # fmt: skip
    _say_where(result)
    said = capsys.readouterr().out
    assert "finished after 3 epochs, 40 steps; train loss 0.5, validation loss 0.75" in said
    assert "speed      123.4 windows/s, peak memory 512 MB" in said
    again: Any = SimpleNamespace(
        **{**vars(result), "already_finished": True, "metrics": {}, "performance": {}}
    )
    _say_where(again)
    assert "had finished before after 3 epochs, 40 steps" in capsys.readouterr().out


@pytest.mark.parametrize("markers", ["", "markers"])
def test_a_recording_says_what_it_lost(markers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {
        "seconds": 12.5, "gaps": 2, "lost": 30, "filled": 20, "markers": 7, "shortened": 1, "clipped": 4,
        "dropped": 5,
    }  # fmt: skip
    monkeypatch.setattr("eegm2.cli.record.open_source", lambda *_: None)
    monkeypatch.setattr("eegm2.deploy.live.record.record", lambda *_, **__: facts)
    words = [
        "record",
        "--source",
        "lsl",
        "--out",
        str(tmp_path / "o.edf"),
        *(["--markers", "m"] if markers else []),
    ]
    said = invoke(*words)
    told = "7 markers, " if markers else ""
    assert (
        f"12.5 s, 2 gaps (30 samples lost, 20 of them filled), {told}1 texts shortened, 4 clipped, 5 dropped"
        in said
    )


@pytest.mark.parametrize(
    ("n", "said"), [(3, "r0, r1, r2"), (4, "r0, r1, r2 and 1 more"), (9, "r0, r1, r2 and 6 more")]
)
def test_recordings_that_are_alike_are_named_once_and_counted(n: int, said: str) -> None:
    alike: Any = [SimpleNamespace(recording=f"r{i}", quality={"flat_channels": ["Cz"]}) for i in range(n)]
    assert _alike(alike) == [(said, "flat Cz")]


@pytest.mark.parametrize(
    ("failures", "stale"), [({}, []), ({"m fold0 seed 0": "why"}, []), ({}, ["old.json"])]
)
def test_an_evaluation_fails_where_a_cell_failed_and_there_alone(
    failures: dict[str, str], stale: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = SimpleNamespace(failures=failures, stale=stale)
    (tmp_path / "results.md").write_text("the results")
    monkeypatch.setattr("eegm2.cli.evaluate.read_plan", lambda *_, **__: None)
    monkeypatch.setattr("eegm2.evaluation.experiment.state.Experiment", lambda *_, **__: None)
    monkeypatch.setattr("eegm2.evaluation.experiment.run.run_experiment", lambda *_: done)
    ended = CliRunner().invoke(app, ["evaluate", "f", "--out", str(tmp_path)], catch_exceptions=False)
    assert ended.exit_code == bool(failures)
    assert "the results" in ended.output
    assert ("1 stale cells" in ended.output) == bool(stale)
    assert ("failed: m fold0 seed 0: why" in ended.output) == bool(failures)
