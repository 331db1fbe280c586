"""``eegm2 compare``: one sentence and one figure about two models, paired by subject."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from eegm2.cli.main import app
from eegm2.errors import ConfigError
from tests.evaluation.helpers import fake_run, labelled_store


def test_two_models_are_compared_in_a_sentence(tmp_path: Path) -> None:
    store = labelled_store(tmp_path / "store")
    run = fake_run(tmp_path / "run", store)
    arguments = ["compare", str(run), "band_power", store.url, "--out", str(tmp_path / "out")]
    arguments += ["--window-s", "2", "--folds", "3"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert "on 6 subjects tested by heads that never saw them; difference" in result.output
    assert "paired by subject" in result.output
    assert "sub3" in (tmp_path / "out" / "compare.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("x", "band_power", "s", "--metric", "beauty"), "--metric: got 'beauty', expected one of accuracy"),
        (("band_powr", "x", "s"), "band_powr: no such model or baseline; did you mean 'band_power'"),
    ],
)
def test_mistakes_are_met_before_anything_is_computed(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        CliRunner().invoke(app, ["compare", *arguments, "--out", str(tmp_path / "o")], catch_exceptions=False)
    assert not (tmp_path / "o").exists()


def test_a_model_is_not_compared_with_itself(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="both are x; give two models"):
        CliRunner().invoke(app, ["compare", "x", "x", "s", "--out", str(tmp_path)], catch_exceptions=False)
