"""Tables of windows and of recordings, as ``eegm2 predict`` writes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eegm2.atomic import write_atomic
from eegm2.data.files.written import csv_text

PLAIN = ("recording", "subject", "session", "source", "duration_s")
QUALITY = ("typical_uv", "line_noise_ratio", "clipped_share")


def recording_table(recordings: Sequence[dict[str, Any]], model: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row per recording: mean probabilities, decision, shares of windows, quality, warnings.

    Of a value, its mean and standard deviation over windows and its unit. `model` is of predictions.json.
    """
    return [
        {
            **{name: facts[name] for name in PLAIN},
            **_said(facts, model),
            **{f"share_{name}": round(facts["shares"][name], 4) for name in model["classes"]},
            "n_windows": facts["n_windows"],
            "n_flagged": facts["n_flagged"],
            **{name: facts["quality"].get(name) for name in QUALITY},
            "bad_channels": " ".join(bad_channels(facts["quality"])),
            "warnings": "; ".join(facts["warnings"]),
        }
        for facts in recordings
    ]


def window_table(recordings: Sequence[dict[str, Any]], model: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a row per window: where it lies, probabilities, decision, label where there is one, flags."""
    return [
        {
            "recording": facts["recording"],
            "subject": facts["subject"],
            "start_s": row["start_s"],
            "stop_s": row["stop_s"],
            **_said(row, model),
            "label": row["label"],
            "flags": " ".join(row["flags"]),
        }
        for facts in recordings
        for row in facts["windows"]
    ]


def _said(facts: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of an answer: a decision with probabilities, or a value with its unit."""
    if value := model.get("value"):
        spread = {"value_sd": facts["value_sd"]} if "value_sd" in facts else {}
        return {"target": value["target"], "value": facts["value"], **spread, "unit": value["unit"]}
    probabilities = {f"p_{name}": p for name, p in zip(model["classes"], facts["probabilities"])}
    return {"decision": facts["decision"], **probabilities}


def in_units(value: float, about: Mapping[str, str]) -> str:
    """Return a value with its unit; `about` is what predictions.json has as the model's ``value``."""
    return f"{value:.4g} {about['unit']}".rstrip()


def bad_channels(quality: dict[str, Any]) -> list[str]:
    """Return the flat and noisy channels of a recording."""
    return [*quality.get("flat_channels", ()), *quality.get("noisy_channels", ())]


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as CSV, whole or not at all."""
    columns = list(rows[0]) if rows else ["recording"]
    write_atomic(path, [csv_text(columns, ([row[name] for name in columns] for row in rows))])
