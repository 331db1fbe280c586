"""What an EEGLAB set declares about its samples, compared with its file of samples and with what was read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eegm2.data.files.naming import elsewhere
from eegm2.data.files.telling import tell
from eegm2.errors import DataError

if TYPE_CHECKING:
    import mne


def data_files(path: Path, facts: dict[str, Any]) -> tuple[Path, ...]:
    """Return where a set's samples may be besides in itself: the file it names, and that of its own name.

    Parameters
    ----------
    path : Path
        The ``.set`` file.
    facts : dict
        Of `eegm2.data.files.mat.check_matfile`.

    Raises
    ------
    DataError
        If it names a file of another folder that is there.
    """
    named = facts.get("data")
    if not isinstance(named, str) or not named:
        return ()
    sibling = path.with_suffix(".fdt")
    try:
        target = path.parent / named
        there = target.exists()
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: names {named!r:.80} as its data file, which is no name; correct it"
        ) from error
    if not there:  # a set that was renamed or moved: MNE takes the file of the same name
        bare = "/" not in named and "\\" not in named
        return (*([target] if bare else []), sibling)
    if target.parent.resolve() != path.parent.resolve() or "/" in named:
        raise elsewhere(path, named, "data file")
    return (target,)


def check_eeglab(path: Path, facts: dict[str, Any], raw: mne.io.BaseRaw) -> None:
    """Refuse a set whose counts contradict its samples, its channels or one another.

    Raises
    ------
    DataError
        With both numbers.
    """
    n_chans, n_times, sfreq_hz = (_number(facts.get(name)) for name in ("nbchan", "pnts", "srate"))
    _equal(path, "nbchan", n_chans, len(raw.ch_names), "channels are described")
    _equal(path, "pnts", n_times, raw.n_times, "samples were found")
    _equal(path, "srate", sfreq_hz, float(raw.info["sfreq"]), "Hz was read")
    dims = facts.get("data")
    if isinstance(dims, tuple) and dims[:2] != (len(raw.ch_names), raw.n_times):
        raise DataError(
            f"{path}: data of {' x '.join(map(str, dims))}, but nbchan and pnts are "
            f"{len(raw.ch_names)} and {raw.n_times}; save the set again with EEGLAB"
        )
    for name in map(Path, map(str, raw.filenames)):
        size, needed = name.stat().st_size, 4 * len(raw.ch_names) * raw.n_times
        if name.suffix.lower() == ".fdt" and size != needed:
            raise DataError(
                f"{name}: {'truncated: ' if size < needed else ''}{size} bytes, {path.name} promises "
                f"{needed} ({raw.n_times} samples of {len(raw.ch_names)} channels); copy both files again"
            )
    first_s, last_s = _number(facts.get("xmin")), _number(facts.get("xmax"))
    if first_s is not None and last_s is not None and n_times and sfreq_hz:
        length_s = (n_times - 1) / sfreq_hz
        if (
            math.isfinite(last_s - first_s)
            and abs(last_s - first_s - length_s) > 1e-2 * length_s + 2 / sfreq_hz
        ):
            tell(
                f"xmin and xmax say {last_s - first_s:g} s, {n_times:g} samples at {sfreq_hz:g} Hz are "
                f"{length_s:g} s: times are those of the samples"
            )


def _number(value: Any) -> float | None:
    return value if isinstance(value, float) else None


def _equal(path: Path, name: str, stated: float | None, found: float, what: str) -> None:
    if stated is not None and not stated == found:
        raise DataError(f"{path}: {name} is {stated:g}, and {found:g} {what}; save the set again with EEGLAB")
