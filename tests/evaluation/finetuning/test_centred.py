"""A centred fine-tuned run predicts what it was judged by, and goes on where it stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from eegm2.deploy.predict.classifier import load_classifier
from eegm2.deploy.predict.config import PredictConfig
from eegm2.deploy.predict.run import predict
from eegm2.errors import DataError
from eegm2.evaluation.finetuning.config import FinetuneConfig
from eegm2.evaluation.finetuning.run import STATE, finetune
from eegm2.evaluation.probing.folder import score_name
from eegm2.evaluation.protocols.resuming import FitState
from tests.evaluation.finetuning.test_resume import Stopped, kept, stop_after
from tests.evaluation.helpers import fake_run, labelled_store
from tests.evaluation.protocols.test_modes import tokens_run


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("centred")
    store = labelled_store(folder / "store")
    return {
        "store": Path(store.url),
        "eegm2": fake_run(folder / "run", store),
        "covariance": tokens_run(folder / "covariance"),
    }


CASES = [
    ("eegm2", {}),
    ("eegm2", {"protocol": "light"}),
    ("eegm2", {"head": "attention", "centre": "running"}),
    ("covariance", {"head": "statistics", "begin": "probe"}),
    ("covariance", {"head": "statistics", "lr": 1e-3}),
]


@pytest.mark.parametrize(("model", "changes"), CASES)
def test_it_predicts_what_it_was_judged_by(
    model: str, changes: dict[str, Any], places: dict[str, Path], tmp_path: Path
) -> None:
    config = FinetuneConfig(**{"max_epochs": 2, "batch_size": 16, "centre": "recording", **changes})
    finetune(places[model], places["store"], tmp_path / "tuned", config)
    name = config.protocol
    facts = load_classifier(tmp_path / "tuned").facts
    assert facts["centre"] == config.centre
    predict(tmp_path / "tuned", [places["store"]], tmp_path / "out", PredictConfig(reaction=True))
    made = json.loads((tmp_path / "out" / "predictions.json").read_text())
    with np.load(tmp_path / "tuned" / "predictions.npz") as judged:
        test = np.unique(judged["recording"])
        scores = {
            (who, start): score
            for who, start, score in zip(judged["recording"], judged["start_s"], judged[score_name(name, 0)])
        }
    windows = [
        ((row["recording"], window["start_s"]), window["probabilities"])
        for row in made["recordings"]
        if row["recording"] in test
        for window in row["windows"]
    ]
    assert len(windows) == len(scores) > 10
    for key, probabilities in windows:
        np.testing.assert_allclose(probabilities, scores[key], atol=2e-5)


def test_a_run_that_was_interrupted_goes_on_in_either_round(
    places: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = FinetuneConfig(
        head="statistics", begin="probe", centre="recording", lr=3e-3, max_epochs=3, patience=3, batch_size=16
    )
    whole = finetune(places["covariance"], places["store"], tmp_path / "whole", config)
    assert whole.results["best_epoch"] >= 0
    assert len(whole.results["again_loss"]) == whole.results["best_epoch"] + 1
    for number, state in enumerate((STATE, STATE.replace(".pt", ".then.pt"))):
        run = tmp_path / f"cut{number}"
        with monkeypatch.context() as patch:
            if number == 0:
                stop_after(2, patch)
            else:
                in_second_round(patch)
            with pytest.raises(Stopped):
                finetune(places["covariance"], places["store"], run, config)
        assert (run / state).is_file()
        finetune(places["covariance"], places["store"], run, config)
        assert kept(run) == kept(tmp_path / "whole")
        assert not list((run / "checkpoints").glob("*.pt"))


def in_second_round(monkeypatch: pytest.MonkeyPatch) -> None:
    write = FitState.write

    def then_stop(self: FitState, state: dict[str, Any], done: int, most: int) -> None:
        write(self, state, done, most)
        if self.mark.endswith(" then"):
            raise Stopped

    monkeypatch.setattr(FitState, "write", then_stop)


def test_labels_of_whole_recordings_are_refused(places: dict[str, Path], tmp_path: Path) -> None:
    config = FinetuneConfig(centre="recording", target="group", max_epochs=1)
    with pytest.raises(DataError, match="centre: each of the 6 recordings has one target throughout"):
        finetune(places["eegm2"], places["store"], tmp_path / "tuned", config)
