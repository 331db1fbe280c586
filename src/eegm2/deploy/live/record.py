"""Record a live source into a file, with cues and markers as labels, and the signal's quality."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from eegm2.config import split_commas
from eegm2.deploy.config import RecordConfig, SourceConfig
from eegm2.deploy.live.plan import rounds_of
from eegm2.deploy.live.recorder import Recorder, Say, Show
from eegm2.deploy.live.runner import Reader
from eegm2.deploy.live.source import Source
from eegm2.errors import ConfigError, DataError


def record(
    source: Source,
    path: Path,
    config: RecordConfig,
    *,
    say: Say,
    show: Show | None = None,
    stop: threading.Event | None = None,
) -> dict[str, Any]:
    """Record until the cues are over, `duration_s` has passed, the source ends or `stop` is set.

    Parameters
    ----------
    source : Source
        Not opened yet.
    path : Path
        New ``.edf`` or ``.bdf`` file.
    config : RecordConfig
    say : callable
        Takes cues, markers and lines about the signal's quality.
    show : callable, optional
        Takes the state of the session, for a page.
    stop : threading.Event, optional

    Returns
    -------
    dict
        seconds, gaps, lost, filled, markers, clipped, dropped, shortened (texts of markers).

    Raises
    ------
    ConfigError
        If the file is there already or of another kind.
    DataError
        If the source sent nothing, or there is no such marker stream.
    """
    refuse_path(path)
    source.open()
    try:
        markers = _markers(source, config)
    except BaseException:
        source.close()
        raise
    recorder = Recorder(
        path,
        list(source.ch_names),
        source.sfreq_hz,
        max_gap_s=config.max_gap_s,
        duration_s=config.duration_s,
        steps=rounds_of(config.cues(), config.rounds, config.pause_s),
        markers=markers,
        say=say,
        show=show,
    )
    return run_recorder(source, recorder, config, stop)


def run_recorder(
    source: Source, taken: Recorder, config: SourceConfig, stop: threading.Event | None = None
) -> dict[str, Any]:
    """Feed a recorder from a source that is open, until it has finished, and close both; return the counts.

    Raises
    ------
    DataError
        If the source sent nothing.
    """
    stop = stop or threading.Event()
    reader = Reader(source, config)
    reader.start()
    try:
        for _, item in reader.chunks(stop):
            if item.fresh and list(source.ch_names) != taken.ch_names:
                raise DataError(f"{source.name}: came back with other channels; record into a new file")
            taken.push(item)
            if taken.finished:
                break
    finally:
        reader.stop()
        taken.close()
    if taken.file is None:
        raise DataError(f"{source.name}: sent less than a second of signal; nothing was recorded")
    more = {"dropped": reader.dropped, "clipped": taken.file.clipped, "shortened": taken.file.shortened}
    return {**taken.counts, **more}


def refuse_path(path: Path) -> None:
    """Raise a ConfigError where a recording cannot be written."""
    if path.suffix.lower() not in (".edf", ".bdf"):
        raise ConfigError(f"out: got '{path}', expected a new .edf or .bdf file")
    if path.exists():
        raise ConfigError(f"{path}: is there already; name a new file")


def _markers(source: Source, config: RecordConfig) -> Any:
    """Return the marker streams that are asked for, on the source's clock."""
    wanted = split_commas(config.markers)
    if not wanted:
        return None
    from eegm2.deploy.live.lsl_markers import LslMarkers

    clock = getattr(source, "clock", "")
    if clock not in ("lsl", "unix"):
        raise ConfigError(f"markers: {source.name} has no clock that LSL's markers could be put on")
    return LslMarkers(wanted, unix=clock == "unix", reach=config.lsl, resolve_s=min(5.0, config.timeout_s))
