"""Tables of windows and of recordings, as ``eegm2 predict`` writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eegm2.atomic import write_atomic
from eegm2.data.files.written import csv_text

PLAIN = ("recording", "subject", "session", "source", "duration_s")
QUALITY = ("typical_uv", "line_noise_ratio", "clipped_share")


def recording_table(recordings: Sequence[dict[str, Any]], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row per recording: mean probabilities, decision, shares of windows, quality, warnings."""
    return [
        {
            **{name: facts[name] for name in PLAIN},
            "decision": facts["decision"],
            **{f"p_{name}": p for name, p in zip(classes, facts["probabilities"])},
            **{f"share_{name}": round(facts["shares"][name], 4) for name in classes},
            "n_windows": facts["n_windows"],
            "n_flagged": facts["n_flagged"],
            **{name: facts["quality"].get(name) for name in QUALITY},
            "bad_channels": " ".join(bad_channels(facts["quality"])),
            "warnings": "; ".join(facts["warnings"]),
        }
        for facts in recordings
    ]


def window_table(recordings: Sequence[dict[str, Any]], classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row per window: where it lies, probabilities, decision, label where there is one, flags."""
    return [
        {
            "recording": facts["recording"],
            "subject": facts["subject"],
            "start_s": row["start_s"],
            "stop_s": row["stop_s"],
            "decision": row["decision"],
            **{f"p_{name}": p for name, p in zip(classes, row["probabilities"])},
            "label": row["label"],
            "flags": " ".join(row["flags"]),
        }
        for facts in recordings
        for row in facts["windows"]
    ]


def bad_channels(quality: dict[str, Any]) -> list[str]:
    """Return the flat and noisy channels of a recording."""
    return [*quality.get("flat_channels", ()), *quality.get("noisy_channels", ())]


def write_csv(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows as CSV, whole or not at all."""
    columns = list(rows[0]) if rows else ["recording"]
    write_atomic(path, [csv_text(columns, ([row[name] for name in columns] for row in rows))])
