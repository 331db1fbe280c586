"""Channel names: one table of canonical names and aliases, montages as data, and how to get one from a file.

A montage is a list of channels; ``A-B`` is the difference of two. Whatever is asked of a recording
(picking, bipolar differences, average reference, interpolation) ends as one matrix from its channels to the
wanted ones (`eegm2.data.signal.mixing`).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from eegm2.config import read_toml
from eegm2.data.config import PreprocessingConfig
from eegm2.errors import ConfigError

_ELECTRODES = (
    "Nz Fp1 Fpz Fp2 AF9 AF7 AF5 AF3 AF1 AFz AF2 AF4 AF6 AF8 AF10 "
    "F9 F7 F5 F3 F1 Fz F2 F4 F6 F8 F10 FT9 FT7 FC5 FC3 FC1 FCz FC2 FC4 FC6 FT8 FT10 "
    "T1 T2 T9 T7 C5 C3 C1 Cz C2 C4 C6 T8 T10 TP9 TP7 CP5 CP3 CP1 CPz CP2 CP4 CP6 TP8 TP10 "
    "P9 P7 P5 P3 P1 Pz P2 P4 P6 P8 P10 PO9 PO7 PO5 PO3 PO1 POz PO2 PO4 PO6 PO8 PO10 "
    "O9 O1 Oz O2 O10 I1 Iz I2 A1 A2 M1 M2"
)
CANONICAL = tuple(_ELECTRODES.split())
ALIASES = {"T3": "T7", "T4": "T8", "T5": "P7", "T6": "P8"}
"""Names of the older 10-20 system and what the 10-10 system calls the same place."""

_TCP16 = "Fp1-F7 F7-T7 T7-P7 P7-O1 Fp2-F8 F8-T8 T8-P8 P8-O2 Fp1-F3 F3-C3 C3-P3 P3-O1 Fp2-F4 F4-C4 C4-P4 P4-O2"
_EPOC14 = "AF3 F7 F3 FC5 T7 P7 O1 O2 P8 T8 FC6 F4 F8 AF4"
_1020_19 = "Fp1 Fp2 F7 F3 Fz F4 F8 T7 C3 Cz C4 T8 P7 P3 Pz P4 P8 O1 O2"
MONTAGES = {
    name: tuple(text.split())
    for name, text in (("tcp16", _TCP16), ("epoc14", _EPOC14), ("1020_19", _1020_19))
}
"""tcp16: the bipolar pairs of the paper (TUAB); epoc14: Emotiv EPOC; 1020_19: the 10-20 system."""

_KNOWN = {name.upper(): name for name in CANONICAL} | ALIASES
_REFERENCE_WORDS = r"(?:REF|LE|AR|AVG|AVE|CAR|AVERAGE|A1A2|M1M2|A1\+A2|M1\+M2)"
_NOT_EEG = re.compile(
    r"EOG|ECG|EKG|EMG|RESP|PHOTIC|\bIBI\b|BURST|SUPPR|STATUS|TRIG|\bSTI|MARKER|\bDC ?\d|\b[RL]OC\b|PULSE|"
    r"SPO2|SAO2|TEMP|GYRO|\bACC|COUNTER|BATT|\bGSR|\bPLETH|AIRFLOW|THOR|ABDO|SNORE|\bEVENT|ANNOTATION|TIME",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Montage:
    """Wanted channels and the user's own aliases (file's name → ours)."""

    name: str
    channels: tuple[str, ...]
    aliases: Mapping[str, str] = field(default_factory=dict)


def canonical(name: str, aliases: Mapping[str, str] | None = None) -> str:
    """Return a channel's canonical name.

    Case, an ``EEG`` prefix, a reference such as ``-REF`` or ``-LE``, trailing dots and the older names T3,
    T4, T5, T6 are understood; ``A-B`` of two electrodes stays a difference. Unknown names are only stripped.

    Parameters
    ----------
    name : str
        As in the file.
    aliases : mapping, optional
        The user's own names, asked first.
    """
    if aliases and name.strip() in aliases:
        return aliases[name.strip()]
    return _canonical(name)


@functools.lru_cache(maxsize=4096)
def _canonical(name: str) -> str:
    text, before = name.strip(), ""
    while text and text != before:  # a name that is shown can be given: its own canonical name is itself
        before, text = text, _cleaned(text)
    return text or before or name


def _cleaned(text: str) -> str:
    text = re.sub(r"^EEG[ _:-]+", "", text, flags=re.IGNORECASE).strip()
    text = re.sub(rf"[ _-]+{_REFERENCE_WORDS}$", "", text, flags=re.IGNORECASE).rstrip(".").strip()
    if text.upper() in _KNOWN:
        return _KNOWN[text.upper()]
    first, dash, second = text.partition("-")
    if dash and first.strip().upper() in _KNOWN and second.strip().upper() in _KNOWN:
        return f"{_KNOWN[first.strip().upper()]}-{_KNOWN[second.strip().upper()]}"
    return text


def is_known(name: str) -> bool:
    """Return whether a name, in any spelling, is an electrode of the table or a difference of two."""
    return all(part.upper() in _KNOWN for part in canonical(name).split("-"))


def looks_like_eeg(name: str) -> bool:
    """Return whether a channel may be EEG: known electrodes, or a name that says nothing else (EOG …)."""
    return is_known(name) or not _NOT_EEG.search(name)


def load_montage(name_or_path: str) -> Montage:
    """Return a built-in montage or the one of a TOML file.

    The file has ``channels = ["Fp1", "F7-T7", …]`` and optionally ``name`` and a table ``[aliases]`` of
    ``"name in the files" = "Fp1"``.

    Raises
    ------
    ConfigError
        If there is no such montage, or the file has other keys, no channels or a channel twice.
    """
    if name_or_path in MONTAGES:
        return Montage(name_or_path, MONTAGES[name_or_path])
    if not name_or_path.endswith(".toml"):
        raise ConfigError(
            f"montage: got '{name_or_path}', expected one of {', '.join(MONTAGES)} or a .toml file"
        )
    values = read_toml(name_or_path)
    unknown = sorted(set(values) - {"name", "channels", "aliases"})
    if unknown:
        raise ConfigError(f"{name_or_path}: unknown key '{unknown[0]}'; known keys: name, channels, aliases")
    channels, aliases = values.get("channels"), values.get("aliases", {})
    if not isinstance(channels, list) or not channels or not all(isinstance(name, str) for name in channels):
        raise ConfigError(f"{name_or_path}: channels: got {channels!r}, expected a list of names")
    if not isinstance(aliases, dict) or not all(isinstance(name, str) for name in aliases.values()):
        raise ConfigError(f"{name_or_path}: aliases: got {aliases!r}, expected a table of names")
    aliases = {theirs: canonical(ours) for theirs, ours in aliases.items()}
    return Montage(str(values.get("name", Path(name_or_path).stem)), _unique(channels, name_or_path), aliases)


def parse_aliases(aliases: Iterable[str]) -> dict[str, str]:
    """Return the user's own names of channels, given as ``name in the file=our name``."""
    own = {}
    for text in aliases:
        theirs, equals, ours = text.rpartition("=")
        if not (equals and theirs.strip() and ours.strip()):
            raise ConfigError(f"aliases: got {text!r}, expected 'name in the file=our name'")
        own[theirs.strip()] = canonical(ours)
    return own


def wanted_channels(config: PreprocessingConfig) -> Montage | None:
    """Return what a configuration asks for; None if it takes every recording's channels."""
    own = parse_aliases(config.aliases)
    if config.montage:
        montage = load_montage(config.montage)
        return Montage(montage.name, montage.channels, {**montage.aliases, **own})
    if config.channels:
        return Montage("", _unique(config.channels, "channels", literal=True), own)
    return None


def eeg_channels(ch_names: Iterable[str], aliases: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Return the canonical names of the channels that may be EEG, in order.

    Channels that would have one canonical name (``T3`` and ``T7``) keep their own.
    """
    names = [name for name in ch_names if looks_like_eeg(canonical(name, aliases))]
    ours = [canonical(name, aliases) for name in names]
    same = {name for name in ours if ours.count(name) > 1}
    return tuple(theirs.strip() if name in same else name for theirs, name in zip(names, ours))


def numbered(ch_names: Sequence[str]) -> tuple[list[str], tuple[str, ...]]:
    """Return names that are all different, equal ones with a number (``Fz-0``), and which were equal."""
    repeated = tuple(sorted({name for name in ch_names if list(ch_names).count(name) > 1}))
    seen: dict[str, int] = {}
    names = []
    for name in ch_names:
        number = seen[name] = seen.get(name, -1) + 1
        names.append(f"{name}-{number}" if name in repeated else name)
    return names, repeated


def _unique(channels: Iterable[str], where: str, *, literal: bool = False) -> tuple[str, ...]:
    own = tuple(name.strip() for name in channels)
    ours = tuple(canonical(name) for name in own)
    # The names of channels that a file tells apart by their spelling stay as they are.
    names = tuple(theirs if ours.count(name) > 1 and literal else name for theirs, name in zip(own, ours))
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"{where}: channels wanted more than once: {' '.join(twice)}; name each once")
    return names
