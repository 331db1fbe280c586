"""How good each channel of a live source is: contact, line noise, clipping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: A channel that moves by less than this has no contact.
_FLAT_UV = 0.5
#: Share of samples at the highest (or lowest) value from which a channel clips.
_CLIPPING = 0.05
#: Power around a mains frequency, over that of 2 to 40 Hz, from which the mains cover the EEG.
_MAINS = 4.0
_MAINS_HZ = (50.0, 60.0)
#: Root mean square between 2 and 40 Hz from which an electrode is taken to be loose.
_LOOSE_UV = 150.0


@dataclass(frozen=True)
class ChannelQuality:
    """What a stretch of one channel shows.

    Attributes
    ----------
    name : str
    amplitude_uv : float
        Root mean square between 2 and 40 Hz.
    mains : float
        Power around 50 or 60 Hz, whichever is more, over that of 2 to 40 Hz.
    mains_hz : float
        Which of them.
    clipping : float
        Share of the samples that stay at the highest or the lowest value.
    flat : bool
        Whether the channel does not move: no contact.
    """

    name: str
    amplitude_uv: float
    mains: float
    mains_hz: float
    clipping: float
    flat: bool

    @property
    def problems(self) -> list[str]:
        """What is wrong, in words; nothing for a channel that is good."""
        if self.flat:
            return ["flat"]
        found = ["loose"] if self.amplitude_uv > _LOOSE_UV else []
        found += ["clips"] if self.clipping > _CLIPPING else []
        return found + ([f"{self.mains_hz:g} Hz mains"] if self.mains > _MAINS else [])

    def plain(self) -> dict[str, object]:
        """Return it as plain values, for a page."""
        return {
            "name": self.name,
            "amplitude_uv": round(self.amplitude_uv, 1),
            "mains": round(self.mains, 2),
            "mains_hz": self.mains_hz,
            "clipping": round(self.clipping, 3),
            "problems": self.problems,
        }


def channel_quality(x_uv: np.ndarray, ch_names: Sequence[str], sfreq_hz: float) -> list[ChannelQuality]:
    """Return what a stretch of signal says of its channels.

    Parameters
    ----------
    x_uv : array, shape (n_chans, n_times)
        A second or more, in microvolts.
    ch_names : sequence of str
    sfreq_hz : float
    """
    n_times = x_uv.shape[1]
    window = np.hanning(n_times)
    power = np.abs(np.fft.rfft((x_uv - x_uv.mean(1, keepdims=True)) * window, axis=1)) ** 2
    frequency_hz = np.fft.rfftfreq(n_times, 1 / sfreq_hz)
    brain = power[:, (frequency_hz >= 2) & (frequency_hz <= 40)].sum(1)
    amplitude = np.sqrt(2 * brain / (n_times * np.square(window).sum()))
    lines = np.stack(
        [
            power[:, np.abs(frequency_hz - mains) <= 1].sum(1) * (mains < sfreq_hz / 2) / (brain + 1e-12)
            for mains in _MAINS_HZ
        ]
    )
    found = []
    for i, name in enumerate(ch_names):
        x, worst = x_uv[i], int(lines[:, i].argmax())
        held = max(np.mean(x == x.max()), np.mean(x == x.min()))
        flat = bool(np.ptp(x) < _FLAT_UV)
        found.append(
            ChannelQuality(
                name, float(amplitude[i]), float(lines[worst, i]), _MAINS_HZ[worst], float(held), flat
            )
        )
    return found


def problems(channels: Sequence[ChannelQuality]) -> list[str]:
    """Return what is wrong with which channels, such as ``Cz flat``."""
    return [f"{channel.name} {what}" for channel in channels for what in channel.problems]
