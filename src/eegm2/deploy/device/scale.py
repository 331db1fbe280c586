"""Running scale of a live stream, in place of the scaling of training windows; with NumPy alone."""

from __future__ import annotations

import numpy as np

from eegm2.errors import ConfigError, DataError

#: As `eegm2.data.windows.scaling` has it; a test compares the two.
_EPSILON_UV = 1e-8
_QUARTILES_TO_SIGMA = 1.3489795
_MEDIAN_TO_SIGMA = 1.4826
#: A window may move the running scale by at most this factor, however large an artefact in it is.
_LARGEST_FACTOR = 1.5


def window_scale(x: np.ndarray, method: str) -> tuple[np.ndarray, np.ndarray]:
    """Return offset and scale, each (n_chans, 1), with ``scale_window(x) == (x - offset) / (scale + 1e-8)``.

    Parameters
    ----------
    x : array, shape (n_chans, n_times)
        One window in microvolts.
    method : {"quantile95", "robust", "zscore", "recording", "none"}
    """
    zero = np.zeros((len(x), 1))
    if method == "quantile95":
        return zero, np.quantile(np.abs(x), 0.95, axis=1, keepdims=True)
    if method == "robust":
        low, middle, high = np.quantile(x, (0.25, 0.5, 0.75), axis=1, keepdims=True)
        return middle, (high - low) / _QUARTILES_TO_SIGMA
    if method == "zscore":
        return x.mean(1, keepdims=True), x.std(1, keepdims=True)
    if method == "recording":
        some = x[:, :: max(1, x.shape[1] // 2000)]
        around = np.abs(some - np.median(some, axis=1, keepdims=True))
        return zero, zero + _MEDIAN_TO_SIGMA * np.median(np.median(around, axis=1))
    if method == "none":
        return zero, zero + 1.0
    raise ConfigError(f"scaling: got '{method}', expected quantile95, robust, zscore, recording or none")


def scaled_window(x: np.ndarray, method: str) -> np.ndarray:
    """Return one window (n_chans, n_times) in microvolts scaled by itself, as windows of training are."""
    offset, scale = window_scale(x, method)
    return ((x - offset) / (scale + _EPSILON_UV)).astype(np.float32)


class RunningScale:
    """Scale each channel by what a baseline shows, the median over its windows, and follow slow changes.

    Training scales every window by its own statistic. A stream has no windows, so the scale is calibrated:
    the statistic of every window of a baseline, and the median of them, which artefacts in fewer than half of
    the windows cannot move. With `adapt_s` the scale then follows later windows exponentially, each of them
    limited to a factor of 1.5.

    Parameters
    ----------
    method : {"quantile95", "robust", "zscore", "recording", "none"}
        As in training.
    sfreq_hz : float
    window_s : float
        Length of the training windows.
    calibration_s : float
        Length of the baseline; nothing comes out during it.
    adapt_s : float
        Time constant after it; 0 keeps the scale fixed.
    scale_uv : float
        Scale of all channels instead of a baseline, if above 0.
    known : (array, array), optional
        Offset and scale measured before, each (n_chans, 1) or broadcastable to it; no baseline then.

    Attributes
    ----------
    calibrated : bool
        Whether samples come out.
    """

    def __init__(
        self,
        method: str,
        sfreq_hz: float,
        *,
        window_s: float = 4.0,
        calibration_s: float = 60.0,
        adapt_s: float = 0.0,
        scale_uv: float = 0.0,
        known: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        self.method, self.sfreq_hz = method, sfreq_hz
        self.window = max(8, round(window_s * sfreq_hz))
        self.baseline = max(8, round(calibration_s * sfreq_hz))
        self.rate = 1 - np.exp(-self.window / sfreq_hz / adapt_s) if adapt_s > 0 else 0.0
        self.offset: np.ndarray | None = None
        self.scale: np.ndarray | None = None
        self._waiting: np.ndarray | None = None
        if known is not None:
            self.offset, self.scale = (np.asarray(value, float) for value in known)
        elif method == "none" or scale_uv > 0:
            self.offset, self.scale = np.zeros((1, 1)), np.full((1, 1), scale_uv or 1.0)
        elif calibration_s <= 0:
            raise ConfigError(
                "calibration_s: got 0 without a scale; give --scale-uv or a baseline to measure"
            )

    @property
    def calibrated(self) -> bool:
        """Whether the scale is known."""
        return self.scale is not None

    @property
    def baseline_s(self) -> tuple[float, float]:
        """Seconds of the baseline that are there, and that are needed."""
        there = 0 if self._waiting is None else self._waiting.shape[1]
        return there / self.sfreq_hz, self.baseline / self.sfreq_hz

    def push(self, x_uv: np.ndarray) -> np.ndarray:
        """Take (n_chans, k) microvolts; return them scaled, or (n_chans, 0) while the baseline is measured.

        The samples of the baseline themselves are not returned.

        Raises
        ------
        DataError
            If a channel of the baseline is flat.
        """
        x = np.asarray(x_uv)
        if x.dtype.kind not in "fiu" or np.ma.is_masked(x_uv):
            raise DataError(f"push: got dtype {x.dtype}, masked or not, expected numbers; give a dense array")
        x = x.astype(np.float64)
        if not self.calibrated:
            x = self._calibrate(x)
            if not self.calibrated:
                return np.zeros((len(x_uv), 0), np.float32)
        if not self.rate or self.method == "none":
            return self._scaled(x)
        parts = [x[:, :0].astype(np.float32)]
        while x.shape[1]:  # up to the end of a window the scale is what the windows before it made
            held = 0 if self._waiting is None else self._waiting.shape[1]
            parts.append(self._scaled(x[:, : self.window - held]))
            self._adapt(x[:, : self.window - held])
            x = x[:, self.window - held :]
        return np.concatenate(parts, axis=1)

    def _scaled(self, x: np.ndarray) -> np.ndarray:
        assert self.offset is not None
        assert self.scale is not None
        return ((x - self.offset) / (self.scale + _EPSILON_UV)).astype(np.float32)

    def _calibrate(self, x: np.ndarray) -> np.ndarray:
        """Gather the baseline and measure windows spread evenly over it; return the samples after its end."""
        waiting = x if self._waiting is None else np.concatenate([self._waiting, x], axis=1)
        if waiting.shape[1] < self.baseline:
            self._waiting = waiting
            return x[:, :0]
        self._waiting = None
        window = min(self.window, self.baseline)
        starts = np.linspace(0, self.baseline - window, -(-self.baseline // window)).round().astype(int)
        measured = [window_scale(waiting[:, start : start + window], self.method) for start in starts]
        self.offset, self.scale = (np.median(np.stack(values), axis=0) for values in zip(*measured))
        flat = np.flatnonzero(self.scale[:, 0] <= 1e-6)
        if len(flat):
            channel, self.scale = int(flat[0]), None
            raise DataError(f"baseline: channel {channel} is flat; check its electrode and begin again")
        return waiting[:, self.baseline :]

    def _adapt(self, x: np.ndarray) -> None:
        """Let a window that is complete move the scale."""
        assert self.offset is not None
        assert self.scale is not None
        waiting = x if self._waiting is None else np.concatenate([self._waiting, x], axis=1)
        if waiting.shape[1] == self.window:
            offset, scale = window_scale(waiting, self.method)
            limited = np.clip(scale, self.scale / _LARGEST_FACTOR, self.scale * _LARGEST_FACTOR)
            moved = np.clip(offset, self.offset - self.scale, self.offset + self.scale)
            self.scale = self.scale * (limited / self.scale) ** self.rate
            self.offset = self.offset + self.rate * (moved - self.offset)
            waiting = waiting[:, :0]
        self._waiting = waiting.copy()
