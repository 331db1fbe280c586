"""Marker streams of LabStreamingLayer, on the clock of the signal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from eegm2.deploy.live.lsl import configured_pylsl, foreign
from eegm2.deploy.live.source import SourceLost


class LslMarkers:
    """Events of the streams that bear a name, or that are of a type.

    Their stamps are mapped to this machine's LSL clock, as those of an LSL source are: what two machines'
    clocks differ by is measured and taken off.

    Parameters
    ----------
    wanted : sequence of str
        Names; where no stream bears one, a type, of which all streams are taken.
    unix : bool
        Put them on the computer's clock (seconds since 1970), which BrainFlow stamps with.
    reach : {"machine", "network"}
    resolve_s : float
        How long to look for each.

    Raises
    ------
    SourceLost
        If there is no such stream.
    """

    def __init__(
        self, wanted: Sequence[str], *, unix: bool = False, reach: str = "machine", resolve_s: float = 5.0
    ) -> None:
        self._pylsl = pylsl = configured_pylsl(reach)
        self._unix = unix
        found: dict[str, Any] = {}
        for name in wanted:
            there = self._found(name, resolve_s)
            found |= {info.uid(): info for info in there}
        self.names = [info.name() for info in found.values()]
        self._inlets = []
        for info in found.values():
            inlet = pylsl.StreamInlet(info, processing_flags=pylsl.proc_clocksync)
            inlet.open_stream(timeout=resolve_s)
            self._inlets.append(inlet)

    def _found(self, name: str, resolve_s: float) -> list[Any]:
        deadline = time.monotonic() + resolve_s
        while True:
            for key in ("name", "type"):
                there = foreign(self._pylsl.resolve_byprop(key, name, minimum=1, timeout=min(0.5, resolve_s)))
                if there:
                    return there
            if time.monotonic() > deadline:
                raise SourceLost(
                    f"markers: no LSL stream has the name or type '{name}' within {resolve_s:g} s"
                )

    def poll(self) -> list[tuple[float, str]]:
        """Return (time in seconds, text) of what has come, in the order of their times."""
        shift_s = time.time() - self._pylsl.local_clock() if self._unix else 0.0
        events = []
        for inlet in self._inlets:
            samples, stamps = inlet.pull_chunk(timeout=0.0)
            events += [(float(stamp) + shift_s, _text(sample)) for sample, stamp in zip(samples, stamps)]
        return sorted(event for event in events if event[1])


def _text(sample: Sequence[Any]) -> str:
    """Return a marker as text: the values of its channels, numbers without needless digits."""
    values = [f"{value:g}" if isinstance(value, int | float) else str(value) for value in sample]
    return " ".join(value.strip() for value in values).strip()
