"""Laws of what is told of results: whom a figure is of, which part, which class, which unit."""

from __future__ import annotations

from typing import Any

import pytest

from eegm2.hub.card import _heads
from eegm2.report.predictions import _summary


@pytest.mark.parametrize("by", ["subject", "recording", None])
def test_a_head_judged_on_other_recordings_was_not_judged_on_other_people(by: str | None) -> None:
    facts: dict[str, Any] = {"test": {"balanced_accuracy": 0.75}, "n_subjects": 3}
    if by:
        facts["by"] = by
    model = {"classes": ["a", "b"], "head": "linear", "window_s": 2.0, "facts": facts}
    said = str(vars(_summary({"recordings": [], "skipped": {}, "model": model})))
    assert ("on people it had not seen had balanced accuracy 0.750" in said) == (by != "recording")
    assert ("on recordings of the same people it had not seen had" in said) == (by == "recording")
    card = _heads([("linear.safetensors", ["a", "b"], facts)]).replace("\\", "")
    assert ("0.750 (other recordings, maybe of the same people)" in card) == (by == "recording")
    assert "| 3 subjects |" in card
