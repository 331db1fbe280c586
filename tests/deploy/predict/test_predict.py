"""A kept probe on new recordings: numbers, flags, what is skipped, going on, and the page."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from eegm2.cli.main import app
from eegm2.data.store.recording_store import RecordingStore
from eegm2.deploy.heads.dense import DenseHead
from eegm2.deploy.predict.classifier import load_classifier
from eegm2.deploy.predict.config import PredictConfig
from eegm2.deploy.predict.run import predict
from eegm2.errors import CheckpointError, ConfigError, DataError
from eegm2.evaluation.config import ProbeConfig
from eegm2.evaluation.finetuning.config import FinetuneConfig
from eegm2.evaluation.finetuning.run import finetune
from eegm2.evaluation.probing.run import probe
from eegm2.evaluation.protocols.kept import HeadArrays
from eegm2.hub import share_run
from eegm2.report.gather import gather
from eegm2.report.html import write_report
from eegm2.report.shown import prediction_figure, training_figure
from tests.data import samples
from tests.evaluation.helpers import CHANNELS, SFREQ_HZ, fake_run, labelled_store, rhythm


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("predict")
    store = labelled_store(folder / "store")
    run = fake_run(folder / "run", store)
    probe(run, store.url, folder / "probe", ProbeConfig(seeds=1, protocols=("linear", "light", "fine")))
    return {"store": Path(store.url), "run": run, "probe": folder / "probe"}


def write_edf(path: Path, *, factor: float = 1.0, seconds: float = 12.0) -> None:
    """Write a recording of 10 Hz, then 3 Hz, of the store's channels."""
    from edfio import Edf, EdfSignal

    rng, n, rate = np.random.default_rng(3), round(seconds * SFREQ_HZ), round(SFREQ_HZ)
    uv = np.concatenate([rhythm(10, n, rng), rhythm(3, n, rng)], axis=1) * factor
    limit = float(np.abs(uv).max()) + 1
    about = {"physical_dimension": "uV", "physical_range": (-limit, limit)}
    signals = [
        EdfSignal(row.astype(float), rate, label=f"EEG {name}", **about) for name, row in zip(CHANNELS, uv)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    Edf(signals).write(path)


@pytest.mark.parametrize("head", ["linear", "light"])
def test_windows_of_the_probe_are_predicted_as_the_probe_did(
    head: str, places: dict[str, Path], tmp_path: Path
) -> None:
    made = predict(
        places["probe"], [places["store"]], tmp_path / "out", PredictConfig(head=head, reaction=False)
    )
    found = {
        (facts["recording"], row["start_s"]): row["probabilities"]
        for facts in made.document["recordings"]
        for row in facts["windows"]
    }
    with np.load(places["probe"] / "predictions.npz") as stored:
        scores = stored[f"{head}_0_score"]
        keys = list(zip(stored["recording"].tolist(), stored["start_s"].tolist()))
    np.testing.assert_allclose([found[key] for key in keys], scores, atol=2e-5)


def test_a_fine_tuned_network_of_a_probe_predicts_as_it_did(places: dict[str, Path], tmp_path: Path) -> None:
    made = predict(
        places["probe"] / "fine", [places["store"]], tmp_path / "out", PredictConfig(reaction=False)
    )
    found = {
        (facts["recording"], row["start_s"]): row["probabilities"]
        for facts in made.document["recordings"]
        for row in facts["windows"]
    }
    with np.load(places["probe"] / "predictions.npz") as stored:
        keys = list(zip(stored["recording"].tolist(), stored["start_s"].tolist()))
        np.testing.assert_allclose([found[key] for key in keys], stored["fine_0_score"], atol=2e-5)


def test_the_command_predicts_files_and_names_what_it_skips(places: dict[str, Path], tmp_path: Path) -> None:
    source, out = tmp_path / "new", tmp_path / "out"
    write_edf(source / "good.edf")
    write_edf(source / "loud.edf", factor=20)
    write_edf(source / "short.edf", seconds=0.5)
    (source / "broken.edf").write_bytes(b"0" * 900)
    arguments = ["predict", str(places["probe"]), str(source), "--out", str(out)]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    document = json.loads((out / "predictions.json").read_text())
    assert set(document["skipped"]) == {"broken", "short"}
    assert "1.00 s long, a window has 2 s" in document["skipped"]["short"]
    assert "broken.edf" in document["skipped"]["broken"]
    facts = {entry["recording"]: entry for entry in document["recordings"]}
    decided = [row["decision"] for row in facts["good"]["windows"]]
    assert decided == ["shut"] * 6 + ["open"] * 6
    assert not facts["good"]["warnings"]
    assert any(text.startswith("amplitude: typically") for text in facts["loud"]["warnings"])
    with (out / "windows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    assert float(rows[0]["p_open"]) + float(rows[0]["p_shut"]) == pytest.approx(1, abs=1e-5)
    with (out / "recordings.csv").open(newline="") as file:
        assert [row["recording"] for row in csv.DictReader(file)] == ["good", "loud"]
    page = (out / "report.html").read_text()
    for fact in ("good", "loud", "amplitude: typically", "Skipped: broken", "By occlusion", "<svg"):
        assert fact in page, fact
    before = (out / "recordings" / "good.json").stat().st_mtime_ns
    (out / "recordings" / "loud.json").unlink()
    CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert (out / "recordings" / "good.json").stat().st_mtime_ns == before, "it is predicted again"
    assert (out / "recordings" / "loud.json").is_file()
    assert json.loads((out / "predictions.json").read_text())["recordings"] == document["recordings"]


def test_what_cannot_predict_is_refused(places: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no head, so it decides nothing; fit one with eegm2 probe"):
        predict(places["run"], [places["store"]], tmp_path / "a")
    with pytest.raises(CheckpointError, match=r"--head other: .* has light, linear; choose one of them"):
        predict(places["probe"], [places["store"]], tmp_path / "b", PredictConfig(head="other"))
    with pytest.raises(DataError, match="nowhere: no such file, folder or store"):
        predict(places["probe"], [tmp_path / "nowhere"], tmp_path / "c")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(ConfigError, match="exists and holds no predictions"):
        predict(places["probe"], [places["store"]], tmp_path / "full")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.edf").write_bytes(b"1" * 600)
    with pytest.raises(DataError, match=r"none of 1 recordings could be predicted; the first: .*x\.edf"):
        predict(places["probe"], [tmp_path / "bad"], tmp_path / "d")


@pytest.mark.parametrize("protocol", ["light", "fine"])
def test_a_fine_tuned_run_is_kept_and_predicts(
    protocol: str, places: dict[str, Path], tmp_path: Path
) -> None:
    config = FinetuneConfig(protocol=protocol, max_epochs=4)  # type: ignore[arg-type]
    made = finetune(places["run"], places["store"], tmp_path / "tuned", config)
    assert not made.already_finished
    people = made.results["task"]["people"]
    assert not set(people["train"]) & set(people["test"])
    assert finetune(places["run"], places["store"], tmp_path / "tuned", config).already_finished
    predicted = predict(
        tmp_path / "tuned", [places["store"]], tmp_path / "out", PredictConfig(reaction=False)
    )
    test = [f for f in predicted.document["recordings"] if f["subject"] in people["test"]]
    right = np.mean([row["label"] == row["decision"] for facts in test for row in facts["windows"]])
    assert right == pytest.approx(made.results["metrics"]["accuracy"])
    assert load_classifier(tmp_path / "tuned").head is not None, "it streams as a dense head"
    weights = (tmp_path / "tuned" / "checkpoints" / "best.safetensors").read_bytes()
    same = weights == (places["run"] / "checkpoints" / "best.safetensors").read_bytes()
    assert same == (protocol == "light")
    with pytest.raises(ConfigError, match="holds a finished run with another seed"):
        finetune(
            places["run"],
            places["store"],
            tmp_path / "tuned",
            FinetuneConfig(protocol=protocol, seed=1, max_epochs=4),
        )  # type: ignore[arg-type]
    record = tmp_path / "tuned" / "run.json"
    record.write_text(json.dumps({**json.loads(record.read_text()), "finished": False}))
    with pytest.raises(CheckpointError, match="fine-tuning has not finished"):
        predict(tmp_path / "tuned", [places["store"]], tmp_path / "other")


def test_store_of_another_preparation_is_refused(places: dict[str, Path], tmp_path: Path) -> None:
    other = labelled_store(tmp_path / "other", changes={"l_freq_hz": 1.0})
    with pytest.raises(ConfigError, match=r"l_freq_hz: 0\.5 in the checkpoint, 1\.0 in the store"):
        predict(places["probe"], [other.url], tmp_path / "out")
    allowed = PredictConfig(allow_mismatch=True, reaction=False)
    made = predict(places["probe"], [other.url], tmp_path / "out", allowed)
    assert "prepared otherwise" in made.document["recordings"][0]["warnings"][0]
    assert len(RecordingStore(other.url)) == len(made.document["recordings"])


def test_a_shared_probe_predicts_the_same_and_names_nobody(places: dict[str, Path], tmp_path: Path) -> None:
    shared = share_run(places["probe"], tmp_path / "shared")
    assert sorted(path.name for path in (shared / "heads").iterdir()) == [
        "light.safetensors",
        "linear.safetensors",
    ]
    card = (shared / "README.md").read_text()
    assert "linear.safetensors" in card.replace("\\", "")
    assert "4 subjects" in card
    for path in shared.rglob("*"):
        if path.is_file():
            assert b"sub0" not in path.read_bytes(), path.name
    plain = PredictConfig(reaction=False)
    made = [
        predict(model, [places["store"]], tmp_path / name, plain).document
        for name, model in (("a", places["probe"]), ("b", shared))
    ]
    assert made[0]["model"]["n_people_learnt_from"] == made[1]["model"]["n_people_learnt_from"]
    rows = [[row for facts in one["recordings"] for row in facts["windows"]] for one in made]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("head", ["light", "statistics"])
def test_a_shared_fine_tuned_run_predicts_the_same(
    head: str, places: dict[str, Path], tmp_path: Path
) -> None:
    config = FinetuneConfig(head=head, max_epochs=1)  # type: ignore[arg-type]
    finetune(places["run"], places["store"], tmp_path / "tuned", config)
    shared = share_run(tmp_path / "tuned", tmp_path / "shared")
    plain = PredictConfig(reaction=False)
    made = [
        predict(model, [places["store"]], tmp_path / model.name[:2], plain).document["recordings"]
        for model in (tmp_path / "tuned", shared)
    ]
    assert [facts["windows"] for facts in made[0]] == [facts["windows"] for facts in made[1]]


def test_a_report_of_a_fine_tuned_run_shows_its_learning_curves_and_people(
    places: dict[str, Path], tmp_path: Path
) -> None:
    config = FinetuneConfig(max_epochs=3, patience=3)
    made = finetune(places["run"], places["store"], tmp_path / "tuned", config)
    data = gather(tmp_path / "tuned", places["store"])
    assert data.log is not None
    np.testing.assert_array_equal(data.log.curves["val_loss"], made.results["val_loss"])
    assert data.probes[0].classes == list(made.results["classes"])
    assert set(data.probes[0].subject) == set(made.results["task"]["people"]["test"])
    assert data.class_power is not None
    text = write_report(tmp_path / "tuned", tmp_path / "report.html", places["store"]).read_text()
    assert "Figure left out" not in text
    assert "It was then tuned on labels: 6 recordings of 6 subjects" in text
    assert "The store has changed" not in text
    assert "On the frozen encoder" not in text
    assert 'id="reconstruction"' not in text, "it was not tuned to reconstruct"
    assert training_figure(tmp_path / "tuned").axes
    with pytest.raises(DataError, match="There is no training log"):
        training_figure(places["run"])


def test_the_figure_of_a_prediction_is_that_of_its_page(places: dict[str, Path], tmp_path: Path) -> None:
    made = predict(places["probe"], [places["store"]], tmp_path / "out", PredictConfig(reaction=False))
    first = made.document["recordings"][0]
    figure = prediction_figure(tmp_path / "out", first["recording"])
    above, middle, below = (axes for axes in figure.axes if axes.get_label() != "<colorbar>")
    assert middle.get_ylabel() == "frequency (Hz)"
    drawn = below.lines[0].get_ydata()
    expected = [row["probabilities"][1] for row in first["windows"]]
    np.testing.assert_array_equal(drawn[np.isfinite(drawn)], expected)
    assert above.get_xlim() == below.get_xlim() == (0, first["duration_s"])
    with pytest.raises(ConfigError, match=r"recording: got 'nobody', .* has rec0, rec1"):
        prediction_figure(tmp_path / "out", "nobody")


def test_a_recording_that_is_marked_throughout_is_skipped_in_its_own_words(
    places: dict[str, Path], tmp_path: Path
) -> None:
    write_edf(tmp_path / "in" / "good.edf")
    x_uv = np.tile(20 * np.sin(np.arange(192)), (len(CHANNELS), 1))
    samples.write_edf(tmp_path / "in" / "marked.edf", x_uv, CHANNELS, SFREQ_HZ, [(0.0, 6.0, "BAD all")])
    made = predict(places["probe"], [tmp_path / "in"], tmp_path / "out", PredictConfig(reaction=False))
    assert [facts["recording"] for facts in made.document["recordings"]] == ["good"]
    assert made.document["skipped"]["marked"].startswith("marked: no stretch of 2 s is free of joins")


@pytest.fixture(scope="module")
def ages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A probe of a value: the age of each person, kept by three protocols."""
    folder = tmp_path_factory.mktemp("ages")
    store = labelled_store(folder / "store")
    protocols: Any = ("linear", "light", "fine")
    options = ProbeConfig(seeds=1, protocols=protocols, target="age", regression=True, unit="years")
    probe(fake_run(folder / "run", store), store.url, folder / "probe", options)
    return {"store": Path(store.url), "probe": folder / "probe"}


@pytest.mark.parametrize("head", ["linear", "light", "fine"])
def test_a_value_is_predicted_as_the_probe_did(head: str, ages: dict[str, Path], tmp_path: Path) -> None:
    model = ages["probe"] / "fine" if head == "fine" else ages["probe"]
    made = predict(model, [ages["store"]], tmp_path / "out", PredictConfig(head=head, reaction=False))
    found = {
        (facts["recording"], row["start_s"]): row["value"]
        for facts in made.document["recordings"]
        for row in facts["windows"]
    }
    with np.load(ages["probe"] / "predictions.npz") as stored:
        values = stored[f"{head}_0_score"]
        keys = list(zip(stored["recording"].tolist(), stored["start_s"].tolist()))
    assert values.std() > 0
    np.testing.assert_allclose([found[key] for key in keys], values, rtol=1e-5, atol=1e-4)


def test_values_have_their_unit_in_tables_words_and_page(ages: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["predict", str(ages["probe"]), str(ages["store"]), "--out", str(out)]
    said = CliRunner().invoke(app, arguments)
    assert said.exit_code == 0, said.output
    with (out / "recordings.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    for row in rows:
        assert (row["target"], row["unit"]) == ("age", "years")
        assert f"{row['recording']}: {float(row['value']):.4g} years (SD over" in said.output
    with (out / "windows.csv").open() as file:
        windows = list(csv.DictReader(file))
    own = [float(row["value"]) for row in windows if row["recording"] == rows[0]["recording"]]
    assert np.mean(own) == pytest.approx(float(rows[0]["value"]), abs=1e-5)
    assert np.std(own) == pytest.approx(float(rows[0]["value_sd"]), abs=1e-5)
    assert "decision" not in windows[0]
    page = (out / "report.html").read_text()
    assert "Predictions: age" in page
    assert "predicts the value age" in page
    assert "fall of age (years)" in page
    assert f"{float(rows[0]['value']):.4g} years" in page
    document = json.loads((out / "predictions.json").read_text())
    assert np.shape(document["reactions"]["channels"]) == (1, len(CHANNELS))
    assert document["model"]["value"] == {"target": "age", "unit": "years"}
    assert prediction_figure(out, rows[0]["recording"]).axes[-2].get_ylabel() == "age (years)"


def test_a_stream_takes_no_value_and_a_shared_one_predicts(ages: dict[str, Path], tmp_path: Path) -> None:
    write_edf(tmp_path / "new" / "one.edf")
    arguments = ["stream", "--source", str(tmp_path / "new" / "one.edf"), "--model", str(ages["probe"])]
    refused = CliRunner().invoke(app, [*arguments, "--out", "-"])
    assert isinstance(refused.exception, ConfigError)
    assert "predicts values, and a stream decides between classes" in str(refused.exception)
    shared = share_run(ages["probe"], tmp_path / "shared")
    made = predict(shared, [tmp_path / "new"], tmp_path / "out", PredictConfig(reaction=False))
    (facts,) = made.document["recordings"]
    assert np.isfinite(facts["value"])
    assert "age" in (tmp_path / "shared" / "README.md").read_text()


def test_a_value_beyond_what_was_learnt_is_noted(ages: dict[str, Path], tmp_path: Path) -> None:
    head = DenseHead.load(ages["probe"] / "heads" / "linear.safetensors")
    low, high = head.facts["range"]["target"]
    assert 20 <= low < high <= 25
    weight, bias = head.layers[0]
    model = tmp_path / "model"
    shutil.copytree(ages["probe"], model)
    arrays = HeadArrays(head.mean, head.scale, ((0 * weight, bias * 0 + 80.0),), "value")
    arrays.write(model / "heads" / "linear.safetensors", (), head.facts)
    made = predict(model, [ages["store"]], tmp_path / "out", PredictConfig(head="linear", reaction=False))
    for facts in made.document["recordings"]:
        assert facts["warnings"][-1] == f"value: 80, the head was learnt on {low:g} to {high:g}"
