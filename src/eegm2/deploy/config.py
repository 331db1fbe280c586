"""Declared choices of export and streaming (no heavy import here)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from eegm2.config import ABOVE_0, AT_LEAST_1, BELOW_1, NOT_NEGATIVE, SECONDS, expect, one_of, option
from eegm2.data.config import POSITIONS_HELP, Scaling
from eegm2.errors import ConfigError
from eegm2.evaluation.config import AUTO_HELP, CENTRE_HELP, FEATURES_HELP, Centre, Features
from eegm2.records import Kind

#: When a class is decided and until when it stays so, where neither user nor head says.
ENTER, LEAVE = 0.6, 0.5
#: Names by which only this machine is reached.
LOOPBACK = ("127.0.0.1", "localhost", "::1")
PARTS = ("encoder", "reconstruction", "step")
FORMATS = ("onnx", "torch", "executorch")


def refuse_open_host(host: str, token: str) -> None:
    """Raise a ConfigError where others could reach a page that asks for no token."""
    if host not in LOOPBACK and not token:
        raise ConfigError(f"host: got '{host}', which others can reach; give --token SECRET or use 127.0.0.1")


def refuse_rule(smooth: float, enter: float | None, leave: float | None) -> None:
    """Raise a ConfigError where no rule of decisions can have these numbers."""
    low = LEAVE if leave is None else leave
    high = max(ENTER, low) if enter is None else enter
    if not (0 <= smooth < 1 and 0 <= low <= high <= 1):
        raise ConfigError(
            f"smooth, enter, leave: got {smooth}, {high}, {low}; expected 0 <= smooth < 1 and "
            "0 <= leave <= enter <= 1"
        )


@dataclass(frozen=True)
class ExportConfig:
    """What ``eegm2 export`` writes."""

    parts: tuple[str, ...] = option(
        (), "encoder, reconstruction, step; repeat for more; none given: all that the model has."
    )
    format: tuple[str, ...] = option(
        (), "onnx, torch (torch.export), executorch (step only); repeat for more; none given: onnx and torch."
    )
    hop: int = option(
        32, "Samples per streaming step, whole steps of the representation (8; covariance: a token)."
    )
    int8: bool = option(True, "Also write each ONNX file with 8-bit weights, its measured loss inside.")
    tolerance: float = option(
        1e-4, "Largest difference from torch in ONNX Runtime, relative to the output's largest value."
    )
    channels: tuple[str, ...] = option(
        (),
        "Channels of the data, for networks that take any electrodes; with --head: the device's, in its "
        "order. Repeat or commas; none given: the model's.",
    )
    positions: str = option("", POSITIONS_HELP)
    source_hz: float = option(0.0, "With --head: the device's sampling rate in Hz; 0: the model's.")
    flat: Literal["flag", "refuse", "interpolate"] = option(
        "flag", "With --head: what a device does where a channel goes flat, as in eegm2 stream."
    )
    smooth: float = option(0.0, "With --head: exponential smoothing of probabilities, 0 to below 1.")
    enter: float | None = option(
        None,
        "With --head: a class is decided when its probability reaches this; none given: the head's, or 0.6 …",
    )
    leave: float | None = option(
        None, "With --head: … and kept until it falls below this; none given: the head's, or 0.5."
    )

    def __post_init__(self) -> None:
        expect(self, one_of(*PARTS, words="some of"), "parts")
        expect(self, one_of(*FORMATS, words="some of"), "format")
        expect(self, Kind("a positive multiple of 8 samples", lambda n: n >= 8 and n % 8 == 0), "hop")
        expect(self, NOT_NEGATIVE, "source_hz")
        expect(self, ABOVE_0, "tolerance")
        refuse_rule(self.smooth, self.enter, self.leave)

    @property
    def formats(self) -> tuple[str, ...]:
        """Formats to write."""
        return self.format or ("onnx", "torch")


@dataclass(frozen=True)
class HeadConfig:
    """How ``eegm2 head`` fits a head on the features that a stream gives, and judges it."""

    subjects: tuple[str, ...] = option((), "Use these subjects only.", alias="--subject")
    target: str = option("annotations", "annotations, or a recordings' attribute.")
    classes: tuple[str, ...] = option(
        (), "Classes in the order of their numbers; none given: all.", alias="--class"
    )
    val: float = option(0.2, "Share of the subjects left out of the fit, to judge it; 0: none.")
    seed: int = option(0, "Draws the subjects who are left out, with their labels balanced.")
    features: Literal["auto", Features] = option("auto", AUTO_HELP + FEATURES_HELP)
    scaling: Scaling | None = option(None, "Scaling by the baseline; none given: as pretrained.")
    protocol: Literal["linear", "light"] = option(
        "linear", "linear: logistic regression; light: the paper's small perceptron."
    )
    hop_s: float = option(0.5, "Seconds between two decisions on which it is judged.")
    calibration_s: float | None = option(
        None,
        "Baseline of every recording, as on the stream; none given: a minute, or a fifth of a usual "
        "recording where that is less.",
    )
    adapt_s: float = option(0.0, "Time constant of the running scale after the baseline; 0: fixed.")
    centre: Centre = option("none", CENTRE_HELP + " A stream takes the running mean.")
    warm_up: int = option(15, "Windows, side by side, before a stream's running mean is known.")
    positions: str = option("", POSITIONS_HELP)
    recordings: str = option(
        "",
        "Folder that the store was prepared from: its files are streamed exactly as they are; none given: "
        "their streams are restored from the store, which large drifts make inexact.",
    )
    batch_size: int = option(64, "Windows encoded at a time for the offline figure.")

    def __post_init__(self) -> None:
        expect(self, Kind("a share from 0 to below 1", BELOW_1.fits), "val")
        expect(self, one_of("linear", "light"), "protocol")


@dataclass(frozen=True)
class SourceConfig:
    """Where samples come from, live or from a file."""

    speed: float = option(1.0, "Speed of a recording as source; 0 is as fast as possible.")
    duration_s: float = option(0.0, "Stop after this many seconds of signal; 0 goes on to the end.")
    stream_name: str = option("", "LSL: name of the stream to listen to; empty takes the only EEG stream.")
    stream_id: str = option("", "LSL: source_id of the stream to listen to, where names do not tell.")
    lsl: Literal["machine", "network"] = option(
        "machine", "LSL: look for streams on this machine only, or on the whole network."
    )
    channels: tuple[str, ...] = option(
        (),
        "All of the source's channels in its order, where it names none or wrong ones; for networks that "
        "take any electrodes also those to listen to. Repeat or commas.",
    )
    unit: str = option("", "Unit of the source's samples, where it states none or a wrong one, e.g. uV.")
    board: str = option("synthetic", "BrainFlow: name of the board, or synthetic or playback.")
    board_file: str = option("", "BrainFlow: file of the playback board.")
    serial_port: str = option("", "BrainFlow: serial port of the board.")
    chunk_s: float = option(0.0625, "Seconds of signal taken from the source at a time.")
    max_gap_s: float = option(
        0.25,
        "A longer gap in the source parts the signal: filter, model and decisions begin anew; shorter ones "
        "are interpolated.",
    )
    buffer_s: float = option(10.0, "Most signal that may wait; what is older is dropped and counted.")
    timeout_s: float = option(10.0, "Seconds without a sample before the source counts as gone.")
    reconnect_s: float = option(30.0, "How long a source that is gone may take to come back; 0 ends at once.")

    def __post_init__(self) -> None:
        expect(self, NOT_NEGATIVE, "speed", "duration_s", "reconnect_s")
        expect(self, SECONDS, "chunk_s", "max_gap_s", "buffer_s", "timeout_s")


@dataclass(frozen=True)
class WatchedConfig(SourceConfig):
    """A source that can be watched on a local web page."""

    host: str = option("127.0.0.1", "Address of the local web page.")
    port: int = option(0, "Port of the local web page; 0 serves none.")
    token: str = option("", "Secret that the web page asks for; required unless bound to this machine.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.port:
            refuse_open_host(self.host, self.token)


@dataclass(frozen=True)
class RecordConfig(WatchedConfig):
    """What ``eegm2 record`` writes besides the samples."""

    cue: tuple[str, ...] = option(
        (), "What to do and for how many seconds, e.g. eyes_open:20; repeat in order. Each becomes a label."
    )
    rounds: int = option(1, "How often the cues are gone through.")
    pause_s: float = option(2.0, "Seconds before each cue, which belong to none.")
    markers: tuple[str, ...] = option(
        (),
        "LSL: marker streams whose events become labels, by name or type (e.g. Markers). Repeat or commas.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        expect(self, AT_LEAST_1, "rounds")
        expect(self, NOT_NEGATIVE, "pause_s")
        self.cues()

    def cues(self) -> list[tuple[str, float]]:
        """Return (label, seconds) of every cue of one round."""
        made = []
        for cue in self.cue:
            label, _, seconds = cue.rpartition(":")
            try:
                length_s = float(seconds)
            except ValueError:
                length_s = 0.0
            if not label or not length_s > 0:
                raise ConfigError(f"cue: got '{cue}', expected LABEL:SECONDS such as eyes_open:20")
            made.append((label, length_s))
        return made


@dataclass(frozen=True)
class StreamConfig(WatchedConfig):
    """What ``eegm2 stream`` does with the samples."""

    positions: str = option("", POSITIONS_HELP)
    aliases: tuple[str, ...] = option(
        (), "Another name of a channel, as 'name in the source=our name'; repeat for more."
    )
    calibration_s: float | None = option(
        None,
        "Seconds of baseline from which each channel's scale is taken; none given: as the head was fitted, "
        "or 60; 0 starts with --scale-uv.",
    )
    calibration: str = option(
        "", "Calibration file: used instead of a baseline if it is there, written after the baseline if not."
    )
    person: str = option("", "Who wears the device; kept with the calibration, another's is refused.")
    scale_uv: float = option(0.0, "Scale of every channel in microvolts; 0 takes it from the baseline.")
    adapt_s: float | None = option(
        None,
        "Time constant of the running scale after the baseline; 0 keeps it fixed; none given: as the head "
        "was fitted.",
    )
    causal: bool = option(
        True, "Filter and resample as in training, but causally; no: the source is prepared already."
    )
    hop_s: float = option(0.5, "Seconds between two decisions of the classifier head.")
    centre: Literal["as fitted", "none", "running"] = option(
        "as fitted",
        "What is taken off a head's features: as fitted (the running mean for a head that was fitted on "
        "centred features), none, or running.",
    )
    warm_up: int | None = option(
        None,
        "Windows, side by side, before the running mean is known and decisions come; none given: as fitted.",
    )
    flat: Literal["flag", "refuse", "interpolate"] = option(
        "flag",
        "Channel that does not move for a second: flag the decisions, refuse to go on, or take it from the "
        "others (spherical splines).",
    )
    smooth: float = option(0.0, "Exponential smoothing of probabilities, 0 (none) to below 1.")
    enter: float | None = option(
        None,
        "A class is decided when its smoothed probability reaches this; none given: the head's, which "
        "eegm2 calibrate chooses, or 0.6 …",
    )
    leave: float | None = option(
        None, "… and kept until it falls below this; none given: the head's, or 0.5."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        expect(self, NOT_NEGATIVE, "calibration_s", "scale_uv", "adapt_s")
        expect(self, SECONDS, "hop_s")
        expect(self, AT_LEAST_1, "warm_up")
        refuse_rule(self.smooth, self.enter, self.leave)
