"""Any other table of samples, read as a small TOML file beside it declares."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eegm2.config import from_dict, read_toml
from eegm2.data.files.headsets.programs import onsets
from eegm2.data.files.headsets.samples import Samples, by_counter
from eegm2.data.files.headsets.text import cells, head_lines, read_columns
from eegm2.data.files.units import microvolts_per
from eegm2.errors import ConfigError, DataError

#: A declaration for all tables of a folder.
FOLDER_NAME = "eegm2_table.toml"


@dataclass(frozen=True)
class TableFormat:
    """How a table of samples is to be read.

    Attributes
    ----------
    channels : dict of str to str
        Column (its title, or its number from 0 where there are no titles) to the channel's name.
    unit : str
        Of the channels: uV, mV, V or nV.
    factor : float
        Further factor, for counts of a converter.
    rate_hz : float
        Sampling rate; 0 measures it from `time`.
    time : str
        Column of times, in seconds or as dates; empty: none.
    time_unit_s : float
        Seconds per unit of that column, e.g. 0.001 for milliseconds.
    counter : str
        Column that counts samples and shows which are lost; empty: none.
    markers : list of str
        Columns of markers: where a value other than 0 begins, or any text.
    separator : str
    header : bool
        Whether the first line (after `skip`) has titles.
    skip : int
        Lines to leave out at the beginning.
    brainflow_board : str
        BrainFlow's name of the board whose file this is, instead of all of the above.
    """

    channels: dict[str, str] = field(default_factory=dict)
    unit: str = "uV"
    factor: float = 1.0
    rate_hz: float = 0.0
    time: str = ""
    time_unit_s: float = 1.0
    counter: str = ""
    markers: tuple[str, ...] = ()
    separator: str = ","
    header: bool = True
    skip: int = 0
    brainflow_board: str = ""

    def __post_init__(self) -> None:
        if microvolts_per(self.unit) is None:
            raise ConfigError(f"unit: got '{self.unit}', expected uV, mV, V or nV")
        if len(self.separator) != 1:
            raise ConfigError(f"separator: got '{self.separator}', expected one character")
        if not self.channels and not self.brainflow_board:
            raise ConfigError("channels: none declared; name column = channel for each")
        if not self.brainflow_board and not self.rate_hz > 0 and not self.time:
            raise ConfigError("rate_hz, time: got neither; declare the rate, or the column of times")


def declaration_of(path: Path) -> Path | None:
    """Return the declaration of a table: ``NAME.toml`` beside it, or ``eegm2_table.toml`` in its folder."""
    if path.suffix.lower() not in (".csv", ".txt", ".tsv"):
        return None
    for found in (path.with_suffix(".toml"), path.with_name(FOLDER_NAME)):
        if found.is_file():
            return found
    return None


def read_declared(path: Path, declaration: Path) -> Samples:
    """Read a table as declared.

    Raises
    ------
    DataError
        If the declaration is damaged or does not fit the table, or a value is no number.
    """
    try:
        known = from_dict(TableFormat, _text_keys(read_toml(declaration)), where=str(declaration))
    except ConfigError as error:
        raise DataError(f"{declaration}: {str(error).removeprefix(f'{declaration}: ')}") from error
    if known.brainflow_board:
        known = _brainflow(known, declaration)
    lines = head_lines(path)
    titled = cells(lines[known.skip], known.separator) if known.header and len(lines) > known.skip else []
    first_line = known.skip + bool(titled) + 1
    following = lines[first_line - 1] if len(lines) >= first_line else ""
    width = len(titled) or len(cells(following, known.separator))

    def place(name: str) -> int:
        if name in titled:
            return titled.index(name)
        if not titled and name.isdigit() and int(name) < width:
            return int(name)
        there = ", ".join(titled) if titled else f"0 to {width - 1}"
        raise DataError(f"{declaration}: column '{name}' is not in {path.name}, which has {there}")

    wanted = [place(name) for name in known.channels]
    counter = [place(known.counter)] if known.counter else []
    markers = {name: place(name) for name in known.markers}
    numbers = dict(zip((*wanted, *counter), (*known.channels, known.counter)))
    found = read_columns(
        path,
        skip=first_line - 1,
        numbers=numbers,
        time=place(known.time) if known.time else None,
        texts=markers.values(),
        separator=known.separator,
        width=len(titled),
    )
    if not len(found):
        raise DataError(f"{path}: holds no samples; record or export it again")
    times_s = known.time_unit_s * found.times_s if known.time else None
    lost = by_counter(found.numbers[counter[0]]) if counter else None
    marks = [mark for name, at in markers.items() for mark in _marks(found.texts[at], name)]
    factor = (microvolts_per(known.unit) or 1.0) * known.factor  # refused where it is unknown
    x = found.stacked(wanted)
    x *= factor
    names = list(known.channels.values())
    return Samples(path, names, x, known.rate_hz or None, times_s, lost, sorted(marks))


def _text_keys(values: dict[str, Any]) -> dict[str, Any]:
    channels = values.get("channels")
    if not isinstance(channels, dict):
        return values
    return {**values, "channels": {str(key): str(name) for key, name in channels.items()}}


def _marks(texts: list[str], name: str) -> list[tuple[float, str]]:
    """Return where markers begin: numbers other than 0, or texts."""
    try:
        values = np.nan_to_num(np.array([float(text) if text else 0.0 for text in texts]))
    except ValueError:
        before = ["", *texts[:-1]]
        return [(float(i), now) for i, (now, past) in enumerate(zip(texts, before)) if now and now != past]
    return [(float(at), f"{name} {values[at]:g}") for at in onsets(values)]


def _brainflow(known: TableFormat, declaration: Path) -> TableFormat:
    """Return the declaration that a BrainFlow board's rows make, with the names that were given."""
    try:
        from brainflow import BoardIds, BoardShim
    except ImportError as error:
        raise DataError(
            f"{declaration}: brainflow_board needs BrainFlow; pip install 'eegm2[stream]'"
        ) from error
    boards = {board.name.removesuffix("_BOARD").lower(): board for board in BoardIds}
    wanted = known.brainflow_board.lower().removesuffix("_board")
    if wanted not in boards:
        raise DataError(
            f"{declaration}: brainflow_board is '{known.brainflow_board}', which BrainFlow does not know"
        )
    about = BoardShim.get_board_descr(boards[wanted].value)
    rows = list(map(str, about["eeg_channels"]))
    labels = str(about.get("eeg_names", "")).split(",")
    labels = labels if len(labels) == len(rows) else [f"EEG{i}" for i in range(len(rows))]
    channels = {row: known.channels.get(row, label) for row, label in zip(rows, labels)}
    counter = about.get("package_num_channel")
    return TableFormat(
        channels,
        rate_hz=float(about["sampling_rate"]),
        time=str(about["timestamp_channel"]),
        counter="" if counter is None else str(counter),
        markers=(str(about["marker_channel"]),),
        separator="\t",
        header=False,
    )
