"""XDF and tables read a second time, by a few lines that give up at the first contradiction."""

from __future__ import annotations

import csv
import re
import struct
import tomllib
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

UNITS = {"uv": 1e-6, "microvolts": 1e-6, "mv": 1e-3, "millivolts": 1e-3, "v": 1.0, "nv": 1e-9, "": 1e-6}
NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?|[-+]?(inf|nan)", re.IGNORECASE)
BACK_S = 0.25


class BrokenError(Exception):
    """The file contradicts itself: nobody may read it without a word."""


def by_chunks(path: Path) -> dict[str, np.ndarray]:
    """Return the only EEG stream of an XDF file in volts, read chunk by chunk."""
    data = path.read_bytes()
    at, headers, samples = 4, {}, {}  # type: ignore[var-annotated]
    try:
        while at < len(data):
            width = data[at]
            length = int.from_bytes(data[at + 1 : at + 1 + width], "little")
            chunk = data[at + 1 + width : at + 1 + width + length]
            if width not in (1, 4, 8) or len(chunk) < length or length < 2:
                raise BrokenError(f"chunk at {at}")
            at += 1 + width + length
            tag = int.from_bytes(chunk[:2], "little")
            if tag == 2:
                header = ElementTree.fromstring(chunk[6:].decode())
                headers[chunk[2:6]] = header
                samples[chunk[2:6]] = []
            elif tag == 3:
                samples[chunk[2:6]].append(chunk[6:])
            elif tag not in (1, 4, 5, 6):
                raise BrokenError(f"tag {tag}")
        (ident,) = [i for i, h in headers.items() if h.findtext("type", "").upper() == "EEG" and samples[i]]
        header = headers[ident]
        count = int(header.findtext("channel_count", ""))
        kind = {"float32": "<f4", "double64": "<f8"}.get(header.findtext("channel_format", "")) or (
            "<i" + str(int(header.findtext("channel_format", "").removeprefix("int")) // 8)
        )
        one = np.dtype([("size", "u1"), ("stamp", "<f8"), ("values", kind, (count,))])
        parts = []
        for body in samples[ident]:
            n = int.from_bytes(body[1 : 1 + body[0]], "little")
            rows = np.frombuffer(body[1 + body[0] :], one)
            if len(rows) != n or (rows["size"] != 8).any() or not np.isfinite(rows["stamp"]).all():
                raise BrokenError("samples")
            parts.append(rows)
    except (IndexError, KeyError, ValueError, struct.error, ElementTree.ParseError) as error:
        raise BrokenError(str(error)) from error
    rows = np.concatenate(parts)
    if (np.diff(rows["stamp"]) < -BACK_S).any():
        raise BrokenError("time goes back")
    channels = header.findall("desc/channels/channel")
    scales = [UNITS[(channel.findtext("unit") or "").lower()] for channel in channels]
    labels = [channel.findtext("label") or "" for channel in channels]
    return {label: rows["values"][:, i] * scales[i] for i, label in enumerate(labels)}


def by_csv(path: Path) -> dict[str, np.ndarray]:
    """Return the channels of a table of muselsl, or of one with a declaration, in volts."""
    declared = path.with_suffix(".toml")
    known = tomllib.loads(declared.read_text(encoding="utf-8-sig")) if declared.exists() else {}
    skip = known.get("skip", 0)
    lines = path.read_bytes().decode("utf-8-sig").splitlines()[skip:]
    titles, *rows = (
        [cell.strip() for cell in row] for row in csv.reader(lines, delimiter=known.get("separator", ","))
    )
    rows = [row for row in rows if any(row)]
    if any(any(row[len(titles) :]) for row in rows):
        raise BrokenError("more cells than titles")
    unit = UNITS[known.get("unit", "uV").lower()] * known.get("factor", 1.0)
    wanted = known.get("channels") or {title: title for title in titles[1:5]}

    def numbers(title: str) -> np.ndarray:
        place = titles.index(title)
        cells = [row[place] if place < len(row) else "" for row in rows]
        if not all(NUMBER.fullmatch(cell) or not cell for cell in cells):
            raise BrokenError(f"text in {title}")
        return np.array([float(cell or "nan") for cell in cells])

    if timed := known.get("time", "" if known else "timestamps"):
        times_s = numbers(timed) * known.get("time_unit_s", 1.0)
        steps = np.diff(times_s)
        if not np.isfinite(times_s).all() or (steps < -BACK_S).any():
            raise BrokenError("times")
        lasting = [tuple(row) for row in rows]
        if (steps < 0).any() and any(lasting[i + 1] in lasting[: i + 1] for i in np.flatnonzero(steps < 0)):
            raise BrokenError("rows twice")
    return {name: numbers(title) * unit for title, name in wanted.items()}
