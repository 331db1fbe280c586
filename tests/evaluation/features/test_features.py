"""The covariance of the representation as features: of a probe, and of models of an experiment."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from eegm2.errors import ConfigError
from eegm2.evaluation.config import ProbeConfig
from eegm2.evaluation.probing.run import probe
from eegm2.evaluation.protocols.frozen import C_GRID
from tests.evaluation.experiments import (
    FOLDS,
    HEAD,
    MODELS,
    OWN,
    details_of,
    evaluate,
    model,
    rows_of,
)
from tests.evaluation.helpers import fake_run, labelled_store


def test_a_probe_takes_them(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run", labelled_store(tmp_path / "store"))
    config = ProbeConfig(protocols=("linear",), features="covariance", c="validation", val=0.3, test=0.3)
    results = probe(run, tmp_path / "store", tmp_path / "out", config).results
    assert results["provenance"]["config"]["features"] == "covariance"
    assert results["protocols"][0]["n_features"] == 136
    assert len(results["protocols"][0]["c_validation_loss"]) == len(C_GRID)
    with np.load(tmp_path / "out" / "embedding.npz", allow_pickle=False) as file:
        assert file["features"].shape[1] == 136


def test_the_penalty_of_a_probe_follows_its_features_unless_it_is_given() -> None:
    assert ProbeConfig().penalty() == 1.0
    assert ProbeConfig(features="covariance").penalty() == "people"
    assert ProbeConfig(features="covariance", c="validation").penalty() == "validation"
    assert ProbeConfig(features="covariance", c="0.01").penalty() == 0.01
    for wrong in ("0", "-1", "nan", "best"):
        with pytest.raises(ConfigError, match=r"c: got .*expected above 0, 'people' or 'validation'"):
            ProbeConfig(c=wrong)


def test_an_experiment_keeps_both_kinds_apart(tmp_path: Path) -> None:
    labelled_store(tmp_path / "store")
    fresh = 'protocol = "linear"\npretrained = "random"\npreset = "s5"\nwidth = 4\n'
    text = HEAD.replace("[0, 1]", "[0]") + FOLDS
    text += model("statistics", fresh) + model("covariance", fresh + 'features = "covariance"')
    result = evaluate(tmp_path, text)
    assert result.exit_code == 0, result.output
    found = {cell["model"]: cell["result"]["n_features"] for cell in details_of(tmp_path)["cells"]}
    assert found == {"statistics": 144, "covariance": 136}
    assert (
        len(list((tmp_path / "out" / "features").iterdir())) == 2
    )  # random weights: the same for both folds
    assert {row["model"] for row in rows_of(tmp_path)} == {"statistics", "covariance"}
    with pytest.raises(ConfigError, match="model 'fine': features is for linear, light"):
        evaluate(tmp_path, text + OWN + model("fine", MODELS["scratch"] + '\nfeatures = "covariance"'))
