"""What a run of ``eegm2 prepare`` did, and how the store keeps it (prepare_report.json, quality.csv)."""

from __future__ import annotations

import datetime
import json
from collections import Counter
from dataclasses import dataclass

from eegm2.config import to_dict
from eegm2.data.config import PreprocessingConfig
from eegm2.data.preparing.worker import Outcome
from eegm2.data.signal.quality import quality_row, write_quality
from eegm2.data.storage import open_storage
from eegm2.data.store.recording_store import RecordingStore
from eegm2.errors import DataError


@dataclass(frozen=True)
class PrepareResult:
    """What a run did: the store, one outcome per recording, and messages about the whole."""

    url: str
    recipe: str
    preprocessing: PreprocessingConfig
    outcomes: tuple[Outcome, ...]
    messages: tuple[str, ...] = ()
    interrupted: bool = False
    licence: str = ""

    @property
    def counts(self) -> dict[str, int]:
        """Number of recordings by status."""
        return dict(Counter(outcome.status for outcome in self.outcomes))


def conclude(result: PrepareResult, started: str, n_found: int) -> None:
    """Write report and quality table into the store, if there is one; refuse a run without a recording."""
    good = [outcome for outcome in result.outcomes if outcome.status != "skipped"]
    storage = open_storage(result.url)
    if not good and not result.interrupted:
        first = next(outcome.reason for outcome in result.outcomes)
        raise DataError(f"none of {n_found} recordings could be prepared; the first: {first}")
    if "store.json" not in storage.sizes(""):
        return
    report = {
        "format": 1,
        "recipe": result.recipe,
        "licence": result.licence,
        "started": started,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "interrupted": result.interrupted,
        "found": n_found,
        "counts": result.counts,
        "messages": list(result.messages),
        "preprocessing": to_dict(result.preprocessing),
        "versions": _versions(),
        "recordings": [to_dict(outcome) | {"quality": None} for outcome in result.outcomes],
    }
    storage.write("prepare_report.json", [json.dumps(report, indent=1, allow_nan=False).encode()])
    store = RecordingStore(result.url, allow_empty=True)
    rows = {
        info.id: quality_row(info.id, info.subject, info.session, "in store", info.quality)
        for info in store.recordings
    }
    for outcome in result.outcomes:
        if outcome.status == "skipped":
            rejected = quality_row(
                outcome.recording,
                outcome.subject,
                outcome.session,
                "rejected",
                outcome.quality,
                outcome.reason,
            )
            rows.setdefault(outcome.recording, rejected)
    write_quality(storage, rows.values())


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    import eegm2

    return {"eegm2": eegm2.__version__} | {name: version(name) for name in ("mne", "numpy", "scipy")}
