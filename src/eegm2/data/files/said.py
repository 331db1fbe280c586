"""What MNE warns of while reading: harmless, worth telling, or a reason to refuse."""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator

from eegm2.data.files.telling import ReadingWarning
from eegm2.errors import DataError

_HARMLESS = (
    "does not conform to MNE naming conventions",
    "Invalid measurement date",
    "Invalid patient information",
    "Invalid date encountered",
    "Number of records from the header does not match",
    "Channels contain different (high|low)pass filters",
    "(High|Low)pass cutoff frequency",
    "Online software filter detected",
    "No info on DataPoints found",
    "No coordinate information found",
    "'boundary' events",
    "Channel names are not unique",
    "Not setting position",
    "(E|e)stimated head radius",
    "Fiducial point",
    "Could not (find|define) (any of )?the (nasion|fiducial|following fiducial)",
    "Loading an EDF with mixed sampling frequencies",
    "unit for chann?el.* has changed",
    "MNE-Python currently does not support reading the (channel|electrode) loc",
    "The data contains .* but the .* birthday",
    "reading the birthday",
    "Physical range is not defined",
    "Scaling factor (will not be|is not) defined",
    "Using `stim_channel",
    "Limited \\d+ annotation.* nothing",
    "MarkerFile .* not found",
    "Unsupported physical dimension for channel",
)
"""Said of files that are read rightly, or of what is checked here before MNE reads (ranges, equal names)."""

_WORTH_TELLING = {
    r"Omitted (\d+) annotation": "{} annotations outside the recording left out",
    r"Limited (\d+) annotation": "{} annotations cut where the recording ends",
    r"(\d+) events have an onset that is NaN": "{} events without a time left out",
    r"Unknown types found, setting as type EEG:\s*(.*)": "channels of unknown types are taken for EEG: {}",
}
_REFUSED = {
    r"acquisition error likely: (\d+) samples": "{} samples cannot be read; copy the file again",
    r"Header information is incorrect for record length": (
        "its header states no length of a record, so no sampling rate; export the file again"
    ),
    r"number of trials is (\d+)": (
        "holds {} epochs, cut beforehand; prepare the continuous recording they come from, "
        "or give them as MNE Epochs to eegm2.evaluation.estimators.sklearn"
    ),
    r"[Nn]o raw data in": "holds no raw recording; choose the file with the continuous data",
    r"Could not find the \.fdt data file": "its data file (.fdt) is missing; copy it beside the .set file",
    r"File \S*\.fdt not found": "its data file (.fdt) is missing; copy it beside the .set file",
    r"next file (\S+) does not exist": "is split and its next part {} is missing; copy all parts there",
    r"MaxShield|maxshield": "was recorded with active shielding and is not processed; it is no EEG recording",
}


@contextlib.contextmanager
def reading(path: object) -> Iterator[list[warnings.WarningMessage]]:
    """Turn whatever MNE raises or says while reading into one line that names the file.

    Gives the list of warnings, which fills. What it says becomes a `ReadingWarning` unless it is known to be
    harmless, or a refusal.
    """
    try:
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            yield said
        for note in dict.fromkeys(_notes(path, said)):
            warnings.warn(note, ReadingWarning, stacklevel=4)
    except DataError:
        raise
    except (MemoryError, KeyboardInterrupt):
        raise
    except Exception as error:
        refusal = _refusal(str(error))
        if refusal:
            raise DataError(f"{path}: {refusal}") from error
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(
            f"{path}: cannot be read ({reason}); the file may be damaged, copy or export it again"
        ) from error


def forget_labels(said: list[warnings.WarningMessage]) -> None:
    """Take out what MNE has said of annotations so far, where they are read here instead."""
    said[:] = [item for item in said if not re.search(r"(Omitted|Limited) \d+ annotation", str(item.message))]


def _notes(path: object, said: list[warnings.WarningMessage]) -> Iterator[str]:
    """Yield what is worth telling; raise DataError for what is a reason to refuse."""
    for item in said:
        text = " ".join(str(item.message).split())
        if issubclass(item.category, ReadingWarning):
            yield text
            continue
        if refusal := _refusal(text):
            raise DataError(f"{path}: {refusal}")
        known = next(
            (
                note.format(found[1])
                for pattern, note in _WORTH_TELLING.items()
                if (found := re.search(pattern, text))
            ),
            None,
        )
        if known is not None:
            yield known
        elif issubclass(item.category, DeprecationWarning | FutureWarning | ResourceWarning):
            continue
        elif not any(re.search(pattern, text) for pattern in _HARMLESS):
            yield f"MNE says: {text[:200]}"


def _refusal(text: str) -> str | None:
    for pattern, reason in _REFUSED.items():
        if found := re.search(pattern, text):
            return reason.format(*found.groups())
    return None


def repeated_names(said: list[warnings.WarningMessage]) -> tuple[str, ...]:
    """Return the channel names that a file has more than once, which MNE numbers (``Fz-0``, ``Fz-1``)."""
    for item in said:
        found = re.search(r"found duplicates for: \{(.*)\}\. Applying", str(item.message), re.DOTALL)
        if found:
            quoted = re.findall(r"'((?:[^'\\]|\\.)*)'|\"((?:[^\"\\]|\\.)*)\"", found[1])
            return tuple(sorted(one or other for one, other in quoted))
    return ()


def without_range(said: list[warnings.WarningMessage]) -> tuple[str, ...]:
    """Return the channels whose digital or physical range is zero, for which MNE takes one of 1."""
    names: list[str] = []
    for item in said:
        found = re.search(
            r"(?:range is not|factor will not be|factor is not) defined.*channels:\s*(.*)",
            str(item.message),
            re.DOTALL,
        )
        names += [name.strip() for name in found[1].split(", ")] if found else []
    return tuple(dict.fromkeys(names))
