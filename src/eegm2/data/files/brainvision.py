"""BrainVision headers, parsed as MNE parses them, before it does: their files are whole and beside them."""

from __future__ import annotations

import configparser
import contextlib
import re
from dataclasses import dataclass
from pathlib import Path

from eegm2.data.files.naming import beside, elsewhere
from eegm2.data.files.telling import parsing, tell
from eegm2.data.files.units import microvolts_per
from eegm2.errors import DataError

__all__ = ["BrainVisionHeader", "elsewhere"]

_WIDTHS = {"INT_16": 2, "INT_32": 4, "IEEE_FLOAT_32": 4}
_MAX_HEADER_BYTES = 16 * 2**20
_KNOWN_TO_MNE = ("V", "mV", "µV", "uV", "nV")


@dataclass(frozen=True)
class BrainVisionHeader:
    """What a ``.vhdr`` file declares.

    Attributes
    ----------
    path : Path
        The header.
    data : Path
        The file of samples.
    markers : Path or None
        The file of markers that is read; None if there is none.
    missing : str
        Name of the marker file that is named and not there, else empty.
    n_chans : int
    n_times : int or None
        ``DataPoints``, if stated.
    width : int or None
        Bytes per sample; None for text.
    units : dict
        Channel → unit, where one is stated.
    """

    path: Path
    data: Path
    markers: Path | None
    missing: str
    n_chans: int
    n_times: int | None
    width: int | None
    units: dict[str, str]

    @classmethod
    def read(cls, path: Path) -> BrainVisionHeader:
        """Read a header.

        Raises
        ------
        DataError
            If it is none, its files lie elsewhere or the data file is missing.
        """
        values = _sections(path)
        common = next((values[name] for name in ("Common Infos", "Common infos") if name in values), {})
        named = common.get("datafile")
        if not named:
            raise DataError(f"{path}: names no DataFile; export the recording again")
        data = beside(path, named.replace("$b", path.stem), "DataFile")
        if not data.is_file():
            raise DataError(f"{path}: its data file {data.name} is missing; copy it beside the header")
        markers, missing = _marker_file(path, common.get("markerfile", "").replace("$b", path.stem))
        channels = values.get("Channel Infos", {})
        n_chans = _whole(path, "NumberOfChannels", common.get("numberofchannels"))
        if n_chans is None or n_chans < 1:
            raise DataError(f"{path}: states no NumberOfChannels; export the recording again")
        if n_chans != len(channels):
            raise DataError(
                f"{path}: NumberOfChannels is {n_chans}, and {len(channels)} channels are described; "
                "export the recording again"
            )
        names = [value.split(",")[0] for value in channels.values()]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"{path}: describes channel {twice} twice; rename one of them in the header")
        text = common.get("dataformat", "").upper() == "ASCII"
        kind = values.get("Binary Infos", {}).get("binaryformat", "")
        return cls(
            path,
            data,
            markers,
            missing,
            n_chans,
            _whole(path, "DataPoints", common.get("datapoints")),
            None if text else _WIDTHS.get(kind),
            _units(channels),
        )

    @property
    def files(self) -> tuple[Path, ...]:
        """The files the recording consists of besides its header, also a missing marker file."""
        named = [self.path.with_name(self.missing)] if self.missing else []
        return (self.data, *([self.markers] if self.markers else []), *named)

    def check(self) -> None:
        """Compare what is declared with the size of the data file and the number of markers."""
        size, width = self.data.stat().st_size, self.width
        if width:
            frame = width * self.n_chans
            if self.n_times is not None and size != self.n_times * frame:
                needed = self.n_times * frame
                what = "truncated: " if size < needed else ""
                raise DataError(
                    f"{self.data}: {what}{size} bytes, the header promises {needed} ({self.n_times} samples "
                    f"of {self.n_chans} channels, {width} bytes each); copy the file again"
                )
            if size % frame:
                raise DataError(
                    f"{self.data}: truncated: {size} bytes are not a whole number of samples of "
                    f"{self.n_chans} channels ({frame} bytes each); copy the file again"
                )
        if self.markers is not None:
            _check_markers(self.markers)
        if self.missing or self.markers is None:
            self._check_without_markers()
        if self.missing:
            instead = f"those of {self.markers.name} were read" if self.markers else "its labels are unknown"
            tell(f"the marker file {self.missing} is missing, {instead}")
        elif self.markers is None and self.path.with_suffix(".vmrk").is_file():
            tell(f"the header names no marker file; {self.path.stem}.vmrk beside it was not read")

    def _check_without_markers(self) -> None:
        """Refuse what the installed MNE does not open: before 1.13 it wants the marker file."""
        if mne_reads_without_markers():
            return
        what, remedy = "names no marker file", "name one in it"
        if self.missing:
            what, remedy = f"the marker file {self.missing} is missing", "copy it beside the header"
        raise DataError(
            f"{self.path}: {what}, and the installed MNE reads no BrainVision without; {remedy}, or "
            "pip install 'mne>=1.13'"
        )

    def factor(self, name: str) -> float | None:
        """Return microvolts per unit of a channel; None if its unit is no voltage."""
        return microvolts_per(self.units[name]) if name in self.units else 1.0

    def misread(self, name: str) -> bool:
        """Return whether MNE does not know the spelling of a channel's unit and takes it for volts."""
        return name in self.units and self.units[name] not in _KNOWN_TO_MNE


def mne_reads_without_markers() -> bool:
    """Return whether the installed MNE opens a header whose marker file is missing or not named."""
    import mne

    return tuple(int(part) for part in mne.__version__.split(".")[:2]) >= (1, 13)


def _sections(path: Path) -> dict[str, dict[str, str]]:
    """Return the sections of a header, keys in lower case, by the rules of MNE's reader."""
    with parsing(path), path.open("rb") as file:
        file.readline(4096)
        content = file.read(_MAX_HEADER_BYTES + 1)
    if len(content) > _MAX_HEADER_BYTES:
        raise DataError(f"{path}: more than {_MAX_HEADER_BYTES} bytes are no header; export it again")
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(_decoded(content).split("[Comment]")[0])
    except configparser.Error as error:
        reason = " ".join(str(error).split())[:160]
        raise DataError(f"{path}: cannot be read ({reason}); export the recording again") from error
    return {name: dict(parser.items(name)) for name in parser.sections()}


def _decoded(content: bytes) -> str:
    """Return the text in the code page that it names, UTF-8 without one, Latin-1 where that fails."""
    named = re.search(r"Codepage=(.+)", content.decode("ascii", "ignore"))
    page = named[1].strip() if named else "utf-8"
    with contextlib.suppress(UnicodeDecodeError, LookupError, ValueError):
        return content.decode({"ANSI": "cp1252"}.get(page, page))
    return content.decode("latin-1")


def _marker_file(path: Path, named: str) -> tuple[Path | None, str]:
    """Return the marker file that is read, and the name of the one that is missing."""
    if not named:
        return None, ""
    markers = beside(path, named, "MarkerFile")
    if markers.is_file():
        return markers, ""
    sibling = path.with_suffix(".vmrk")
    return (sibling if sibling.is_file() else None), named


def _whole(path: Path, key: str, text: str | None) -> int | None:
    """Return a whole number of the header, None if it is not stated."""
    if not text:
        return None
    if not (text.isascii() and text.isdecimal()) or len(text) > 18:
        raise DataError(f"{path}: {key} is '{text:.40}', expected a whole number; export the recording again")
    return int(text)


def _units(channels: dict[str, str]) -> dict[str, str]:
    found = {}
    for value in channels.values():
        parts = value.split(",")
        if len(parts) > 3 and parts[3].strip():
            found[parts[0].replace(r"\1", ",")] = parts[3].replace("\xc2", "")
    return found


def _check_markers(path: Path) -> None:
    """Refuse a marker file some of whose lines a strict reader would pass over."""
    with parsing(path):
        content = path.read_bytes()
    _, found, rest = _decoded(content).partition("[Marker Infos]")
    if not found and content.strip():
        raise DataError(f"{path}: has no section [Marker Infos]; copy or export the file again")
    for line in rest.splitlines():
        if not re.match(r"\s*mk\s*\d", line, re.IGNORECASE):
            continue
        place = re.match(r"Mk\d+=[^,]*,[^,]*,\s*(\d+)\s*,[^,]*", line)
        if place is None:
            raise DataError(
                f"{path}: a marker is not written as the format has it ('{line.strip():.60}'); "
                "export the file again"
            )
    if "\r" in rest.replace("\r\n", ""):
        raise DataError(f"{path}: its lines end in carriage returns alone; save it with line feeds")
