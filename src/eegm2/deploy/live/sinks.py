"""Where outputs go: JSON lines, a table, or the network."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np

from eegm2.deploy.live.outputs import Outputs
from eegm2.errors import ConfigError

#: Version of what is written; docs/streaming.md describes it.
PROTOCOL = 2
UNITS_OUT = {
    "time_s": "seconds on the source's clock",
    "sample": "samples at sfreq_hz since the baseline or the last restart",
    "latency_ms": "milliseconds",
    "values": "scaled: microvolts less the calibration's offset, divided by its scale",
}


@dataclass(frozen=True)
class Layout:
    """What a sink is told beforehand.

    Attributes
    ----------
    ch_names : tuple of str
    classes : tuple of str or None
        Of the head, if there is one.
    n_features : int
        Channels of the representation.
    reconstructs : bool
        Whether the model has a decoder; sinks hand on the representation otherwise.
    sfreq_hz : float
    step_samples : int
        Samples per step of the representation.
    facts : dict
        What the first JSON line tells besides: model, source, hashes.
    decisions_only : bool
        Whether the network runs window by window, so that it gives no signal.
    """

    ch_names: tuple[str, ...]
    classes: tuple[str, ...] | None
    n_features: int
    reconstructs: bool
    sfreq_hz: float
    step_samples: int = 8
    facts: dict[str, Any] = field(default_factory=dict)
    decisions_only: bool = False

    def signal(self, outputs: Outputs) -> np.ndarray:
        """Return the outputs that a sink hands on, (n, steps)."""
        return outputs.reconstruction if self.reconstructs else outputs.representation

    def columns(self) -> list[str]:
        """Return their names."""
        return list(self.ch_names) if self.reconstructs else [f"f{i}" for i in range(self.n_features)]


class Sink(Protocol):
    """Takes outputs as they come."""

    def push(self, outputs: Outputs) -> None:
        """Take what one chunk brought forth."""

    def close(self, statistics: dict[str, Any]) -> None:
        """Take the final statistics and finish.

        A sink may also have ``discard()``, called instead where nothing was put out; it leaves nothing.
        """


class _FileSink:
    """Writes a text that bears its own name once it is complete; until then `NAME.part` holds whole lines.

    Parameters
    ----------
    path : Path or None
        None writes to standard output.
    layout : Layout
    """

    def __init__(self, path: Path | None, layout: Layout) -> None:
        self._path, self._layout = path, layout
        self._stream: TextIO = sys.stdout
        if path is not None:
            if path.exists():
                raise ConfigError(f"{path}: is there already; name a new file")
            path.parent.mkdir(parents=True, exist_ok=True)
            self._part = path.with_name(path.name + ".part")
            self._stream = self._part.open("w", encoding="utf-8", newline="", buffering=1)

    def close(self, statistics: dict[str, Any]) -> None:
        """Finish the file."""
        if self._path is not None:
            self._stream.close()
            self._part.replace(self._path)

    def discard(self) -> None:
        """Remove the file."""
        if self._path is not None:
            self._stream.close()
            self._part.unlink(missing_ok=True)


class JsonLinesSink(_FileSink):
    """One JSON object a line: events, decisions, reconstruction or representation, and final statistics."""

    def __init__(self, path: Path | None, layout: Layout) -> None:
        super().__init__(path, layout)
        self._given = 0
        names = list(layout.classes) if layout.classes is not None else None
        about = {"ch_names": list(layout.ch_names), "sfreq_hz": layout.sfreq_hz, "classes": names}
        self._line("start", {"protocol": PROTOCOL, **about, "units": UNITS_OUT, **layout.facts})

    def _line(self, kind: str, values: dict[str, Any]) -> None:
        ascii_only = self._path is None  # what a terminal or pipe cannot show must stay JSON
        text = json.dumps({"type": kind, **values}, ensure_ascii=ascii_only, allow_nan=False)
        self._stream.write(f"{text}\n")

    def push(self, outputs: Outputs) -> None:
        """Write what is there."""
        for event in outputs.events:
            self._line("event", {"time_s": outputs.time_s, **event})
            if event["event"] == "restart":
                self._given = 0
        for decision in outputs.decisions:
            self._line("decision", decision)
        y = self._layout.signal(outputs)
        if y.shape[1]:
            kind = "reconstruction" if self._layout.reconstructs else "representation"
            rows = np.round(y.astype(float), 5).tolist()
            last_s = outputs.time_s if outputs.signal_time_s is None else outputs.signal_time_s
            self._line(kind, {"time_s": round(last_s, 6), "first": self._given, "values": rows})
            self._given += y.shape[1]

    def close(self, statistics: dict[str, Any]) -> None:
        """Write the statistics as the last line."""
        self._line("statistics", statistics)
        super().close(statistics)


class CsvSink(_FileSink):
    """A table: decisions if there is a head, else reconstruction or representation, one sample a row."""

    def __init__(self, path: Path, layout: Layout) -> None:
        super().__init__(path, layout)
        self._row, self._writer = 0, csv.writer(self._stream)
        if layout.classes is not None:
            columns = [f"p_{name}" for name in layout.classes]
            kept = ["latency_ms", "calibration", "quality"]
            self._writer.writerow(["time_s", "sample", "decided", *columns, *kept])
        else:
            self._writer.writerow(["index", *layout.columns()])

    def push(self, outputs: Outputs) -> None:
        """Write new rows."""
        if self._layout.classes is not None:
            for d in outputs.decisions:
                row = [f"{d['time_s']:.6f}", d["sample"], d["decided"] or "", *d["probabilities"]]
                kept = [d.get("latency_ms", ""), d.get("calibration") or "", " ".join(d.get("quality", []))]
                self._writer.writerow([*row, *kept])
            return
        for column in self._layout.signal(outputs).T:
            self._writer.writerow([self._row, *(f"{value:.6g}" for value in column)])
            self._row += 1


class LslSink:
    """LSL outlets: the reconstruction (or representation) as a regular stream, probabilities as another.

    They open with the first outputs, when the source has been found, and are of types of their own
    (``eegm2-reconstruction``, ``eegm2-representation``, ``eegm2-probabilities``), which no source takes.
    """

    def __init__(self, layout: Layout, name: str = "eegm2") -> None:
        self._layout, self._name = layout, name
        self._signal: Any = None
        self._classes: Any = None

    def _open(self) -> None:
        from eegm2.deploy.live.lsl import OWN_TYPE, LslOutlet

        layout = self._layout
        what = "reconstruction" if layout.reconstructs else "representation"
        rate_hz = layout.sfreq_hz if layout.reconstructs else layout.sfreq_hz / layout.step_samples
        name = f"{self._name}-{what}"
        if not layout.decisions_only:
            self._signal = LslOutlet(name, OWN_TYPE + what, layout.columns(), rate_hz, "scaled")
        if layout.classes:
            name = f"{self._name}-probabilities"
            self._classes = LslOutlet(name, OWN_TYPE + "probabilities", list(layout.classes), 0.0)

    def push(self, outputs: Outputs) -> None:
        """Send what is there."""
        if self._signal is None and self._classes is None:
            self._open()
        last_s = outputs.time_s if outputs.signal_time_s is None else outputs.signal_time_s
        if self._signal is not None:
            self._signal.push(self._layout.signal(outputs), last_s)
        if self._classes is not None:
            for decision in outputs.decisions:
                self._classes.push(np.array([decision["probabilities"]]).T, decision["time_s"])

    def close(self, statistics: dict[str, Any]) -> None:
        """Close the outlets."""
        self._signal = self._classes = None

    def discard(self) -> None:
        """Close the outlets."""
        self.close({})


def refuse_unusable(where: str) -> None:
    """Raise a ConfigError where ``--out`` names nothing that can be written."""
    if where in ("lsl", "-"):
        return
    if not where.endswith((".jsonl", ".csv")):
        raise ConfigError(
            f"out: got '{where}', expected lsl, a .jsonl or .csv file, or - for standard output"
        )
    if Path(where).exists():
        raise ConfigError(f"{where}: is there already; name a new file")


def open_sink(where: str, layout: Layout) -> Sink:
    """Return the sink that ``--out`` names: ``lsl``, ``-`` (JSON lines), ``*.jsonl`` or ``*.csv``.

    Raises
    ------
    ConfigError
        If the name is none of these, or the file is there already.
    """
    refuse_unusable(where)
    if where == "lsl":
        return LslSink(layout)
    if where == "-":
        return JsonLinesSink(None, layout)
    return JsonLinesSink(Path(where), layout) if where.endswith(".jsonl") else CsvSink(Path(where), layout)
