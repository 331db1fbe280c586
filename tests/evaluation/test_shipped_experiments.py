"""Every experiment file in the repository can be read, and its baselines take their options."""

from __future__ import annotations

from pathlib import Path

import pytest

from eegm2.evaluation.experiment.reading import read_plan
from eegm2.evaluation.experiment.settings import baseline_options

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "experiments").rglob("*.toml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT / "experiments")))
def test_it_is_a_plan(path: Path) -> None:
    plan = read_plan(path)
    assert plan.models
    for model in plan.models:
        if model.baseline:
            options = baseline_options(model)
            changed = {key: value for key, value in model.options.items() if not isinstance(value, list)}
            assert {key: getattr(options, key) for key in changed} == changed


def test_there_are_some() -> None:
    assert {"scp1.toml", "scp2.toml", "fingers.toml"} <= {path.name for path in FILES}
