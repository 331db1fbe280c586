"""LabStreamingLayer as source and sink, through pylsl."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from eegm2.data.channels import numbered
from eegm2.deploy.live.clock import ClockTracker
from eegm2.deploy.live.source import NOTHING, Chunk, SourceLost, named_channels, unit_factor
from eegm2.errors import ConfigError, DataError

LOCAL = """[ports]
IPv6 = disable
[multicast]
ResolveScope = machine
[lab]
KnownPeers = {127.0.0.1}
[log]
level = -2
"""


#: How long to wait for a second stream of the same name, in seconds.
_LATE_ANSWER_S = 0.5
NETWORK = "[log]\nlevel = -2\n"
#: Types of streams that begin so are eegm2's own outputs and no source.
OWN_TYPE = "eegm2-"


@functools.cache
def load_pylsl() -> Any:
    """Return pylsl as :func:`configured_pylsl` does, without another reach than it has already."""
    return configured_pylsl("machine")


@functools.cache
def configured_pylsl(reach: str) -> Any:
    """Import pylsl, with discovery kept on this machine unless asked otherwise or LSLAPICFG names a file.

    Parameters
    ----------
    reach : {"machine", "network"}
        network: look for streams as LSL does by itself, beyond this machine. LSL reads its configuration
        once: the first call in a process decides.

    Raises
    ------
    ConfigError
        If pylsl or its library cannot be loaded.
    """
    try:
        import pylsl
        import pylsl.util
    except (ImportError, RuntimeError, OSError) as error:
        raise ConfigError(f"lsl: pylsl cannot be loaded ({error}); pip install 'eegm2[stream]'") from error
    if "LSLAPICFG" not in os.environ:
        pylsl.set_config_content(LOCAL if reach == "machine" else NETWORK)
    return pylsl


class LslSource:
    """An EEG stream of another process, found by name, by source_id or as the only one.

    Its stamps are mapped to this machine's LSL clock (clock synchronisation); gaps, jitter and drift are
    measured from them. Once chosen, only a stream of the same source_id is taken up again, and streams that
    eegm2 itself sends are never taken.

    Parameters
    ----------
    name : str
        Name of the stream; empty takes the only stream of type EEG.
    source_id : str
        Its source_id; empty takes any.
    resolve_s : float
        How long to look for it.
    buffer_s : float
        What the inlet may hold.
    reach : {"machine", "network"}
        Where to look for it.
    ch_names : sequence of str
        Names of its channels in its order; none given: the labels that it states.
    unit : str
        Unit of its samples; empty: what it states, microvolts where it states none.
    """

    can_wait = False
    clock = "lsl"

    def __init__(
        self,
        name: str = "",
        *,
        source_id: str = "",
        resolve_s: float = 5.0,
        buffer_s: float = 60.0,
        reach: str = "machine",
        ch_names: Sequence[str] = (),
        unit: str = "",
    ) -> None:
        self.wanted, self.wanted_id = name, source_id
        self.resolve_s, self.buffer_s, self.reach = resolve_s, buffer_s, reach
        self.named, self.unit = list(ch_names), unit
        self.name = f"LSL stream '{name}'" if name else "LSL stream"
        self.ch_names: list[str] = []
        self.sfreq_hz = 0.0
        self.device = ""
        self._chosen: str | None = None
        self._inlet: Any = None

    def open(self) -> None:
        """Find the stream and connect to it.

        Raises
        ------
        SourceLost
            If there is none.
        DataError
            If there are several, it states no rate, channel names or a known unit, or it was chosen before
            and states no source_id by which it could be told from another.
        """
        pylsl = configured_pylsl(self.reach)
        found = self._found(pylsl)
        inlet = pylsl.StreamInlet(
            found, max_buflen=int(self.buffer_s), recover=False, processing_flags=pylsl.proc_clocksync
        )
        try:
            info = inlet.info(timeout=self.resolve_s)
            inlet.open_stream(timeout=self.resolve_s)
        except (pylsl.util.TimeoutError, pylsl.util.LostError, pylsl.util.InternalError) as error:
            raise SourceLost(f"{self.name}: was found but does not answer") from error
        self.name = f"LSL stream '{info.name()}'"
        if not info.nominal_srate() > 0:
            raise DataError(f"{self.name}: states no sampling rate; it is not regular EEG")
        self.sfreq_hz = float(info.nominal_srate())
        count = info.channel_count()
        names, units = _channels(info)
        self.ch_names, _ = numbered(named_channels(names, self.named, count, self.name))
        units = units if len(units) == count else [""] * count
        self._factors = np.array([unit_factor(self.unit or unit, self.name) for unit in units])[:, None]
        self._chosen = info.source_id()
        self.device = f"{info.name()} {self._chosen}".strip()
        self._inlet, self._clock = inlet, ClockTracker(self.sfreq_hz, where=self.name)
        self._fresh = True
        self._held = np.zeros((len(self.ch_names), 0)), np.zeros(0)

    def _found(self, pylsl: Any) -> Any:
        """Return the description of the one stream that is meant."""
        if self._chosen == "":
            raise DataError(
                f"{self.name}: is gone and states no source_id, so that another stream could take its place; "
                "start again to choose one"
            )
        key, value = ("name", self.wanted) if self.wanted else ("type", "EEG")
        wanted_id = self._chosen or self.wanted_id
        if wanted_id:
            key, value = "source_id", wanted_id
        found = foreign(pylsl.resolve_byprop(key, value, minimum=1, timeout=self.resolve_s))
        if not found:
            raise SourceLost(f"{self.name}: no stream with {key} '{value}' within {self.resolve_s:g} s")
        if self._chosen is None:  # another may answer later than the first
            more = pylsl.resolve_byprop(key, value, minimum=len(found) + 1, timeout=_LATE_ANSWER_S)
            found = foreign(more) or found
        several = {info.uid(): f"{info.name()} ({info.source_id() or 'no source_id'})" for info in found}
        if len(several) > 1:
            raise DataError(
                f"{self.name}: there are several: {', '.join(sorted(several.values()))}; choose with "
                "--stream-name or --stream-id"
            )
        return found[0]

    def read(self, n: int, timeout_s: float) -> Chunk | None:
        """Return what has arrived."""
        pylsl = load_pylsl()
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                samples, stamps = self._inlet.pull_chunk(timeout=min(0.25, n / self.sfreq_hz), max_samples=n)
            except (pylsl.util.LostError, pylsl.util.InternalError) as error:
                raise SourceLost(f"{self.name}: lost") from error
            if len(stamps):
                break
            if time.monotonic() > deadline:
                return NOTHING
        gaps = self._clock.push(np.asarray(stamps, float))
        times_s = np.concatenate([self._held[1], np.asarray(stamps, float)])
        x_uv = np.concatenate([self._held[0], np.asarray(samples, float).T * self._factors], axis=1)
        known = len(times_s) - self._clock.undecided
        self._held = x_uv[:, known:], times_s[known:]
        if known == 0:
            return NOTHING
        fresh, self._fresh = self._fresh, False
        return Chunk(x_uv[:, :known], times_s[:known], gaps, fresh)

    def close(self) -> None:
        """Disconnect."""
        if self._inlet is not None:
            self._inlet.close_stream()
            self._inlet = None

    def facts(self) -> dict[str, float]:
        """Return jitter and drift."""
        if not hasattr(self, "_clock"):
            return {}
        return {"jitter_ms": 1e3 * self._clock.jitter_s, "drift_ppm": self._clock.drift_ppm}


def foreign(found: Any) -> list[Any]:
    """Return the streams that are not eegm2's own."""
    return [info for info in found if not info.type().startswith(OWN_TYPE)]


def _channels(info: Any) -> tuple[list[str], list[str]]:
    """Return labels and units of a stream's channels."""
    names, units = [], []
    channel = info.desc().child("channels").child("channel")
    for _ in range(info.channel_count()):
        if channel.empty() or not channel.child_value("label"):
            break
        names.append(channel.child_value("label"))
        units.append(channel.child_value("unit"))
        channel = channel.next_sibling("channel")
    return names, units


class LslOutlet:
    """A stream that other programs can receive.

    Parameters
    ----------
    name, kind : str
        Name and type of the stream.
    ch_names : list of str
    sfreq_hz : float
        0 for irregular.
    unit : str
    """

    def __init__(self, name: str, kind: str, ch_names: list[str], sfreq_hz: float, unit: str = "") -> None:
        pylsl = load_pylsl()
        info = pylsl.StreamInfo(name, kind, len(ch_names), sfreq_hz, "float32", f"eegm2-{name}-{os.getpid()}")
        channels = info.desc().append_child("channels")
        for label in ch_names:
            channel = channels.append_child("channel")
            channel.append_child_value("label", label)
            channel.append_child_value("unit", unit)
        self._outlet = pylsl.StreamOutlet(info)

    def push(self, x: np.ndarray, time_s: float) -> None:
        """Send (n_chans, k) samples, the last of which belongs to `time_s` on the LSL clock."""
        if x.shape[1]:
            self._outlet.push_chunk(np.ascontiguousarray(x.T, dtype=np.float32), time_s)
