"""Laws of signals: what is said of a recording is not said by one channel, and not of another unit."""

from __future__ import annotations

import numpy as np
import pytest

from eegm2.data.signal.overview import spectrogram
from eegm2.data.signal.quality import line_noise, typical_amplitude, typical_amplitudes
from eegm2.deploy.live.quality import channel_quality

RATE_HZ = 128.0


def noise(n_chans: int = 5) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n_chans, 2560)).astype(np.float32)


@pytest.mark.parametrize("wild", [1, 2])
def test_what_a_recording_is_like_is_not_said_by_its_worst_channels(wild: int) -> None:
    """Amplitude and mains are medians over channels: fewer than half of them move neither far."""
    x = noise()
    mains = 40 * np.sin(2 * np.pi * 50 * np.arange(x.shape[1]) / RATE_HZ).astype(np.float32)
    bad = x.copy()
    bad[:wild] = 1000 * bad[:wild] + 1000 * mains
    assert typical_amplitude(bad) == np.median(typical_amplitudes(bad))
    assert typical_amplitude(bad) < 1.2 * typical_amplitude(x)
    ratio, _ = line_noise(bad, RATE_HZ)
    assert ratio is not None
    assert ratio < 2
    all_of_it, hz = line_noise(x + mains, RATE_HZ)
    assert all_of_it is not None
    assert all_of_it > 100
    assert hz == 50


@pytest.mark.parametrize("factor", [1e-3, 7.0, 1e3])
def test_an_amplitude_is_in_the_unit_of_the_signal_and_a_ratio_in_none(factor: float) -> None:
    x = noise()
    assert typical_amplitude(x * np.float32(factor)) == pytest.approx(factor * typical_amplitude(x), rel=1e-4)
    assert line_noise(x * np.float32(factor), RATE_HZ)[0] == pytest.approx(
        line_noise(x, RATE_HZ)[0], rel=1e-3
    )


@pytest.mark.parametrize("mains", [50.0, 60.0])
def test_what_a_live_channel_shows_is_its_own_and_in_its_unit(mains: float) -> None:
    """A sine of 10 µV has a root mean square of 10 / √2, whatever the channels beside it do."""
    t = np.arange(512) / 256
    x = np.zeros((4, 512))
    x[0] = 10 * np.sin(2 * np.pi * 10 * t)
    x[1] = 300 * np.sin(2 * np.pi * 10 * t)
    x[2] = x[0] + 40 * np.sin(2 * np.pi * mains * t)
    calm, loud, line, still = channel_quality(x, ["a", "b", "c", "d"], 256.0)
    assert calm.amplitude_uv == pytest.approx(10 / 2**0.5, rel=0.02)
    assert loud.amplitude_uv == pytest.approx(300 / 2**0.5, rel=0.02)
    assert (calm.problems, loud.problems, still.problems) == ([], ["loose"], ["flat"])
    assert (line.mains_hz, line.problems) == (mains, [f"{mains:g} Hz mains"])
    assert line.mains == pytest.approx(16, rel=0.05)


def test_a_spectrogram_is_of_all_channels() -> None:
    """What comes and goes in any of them is seen."""
    x = 0.1 * np.random.default_rng(0).standard_normal((3, 4096))
    for channel in range(3):
        some = x.copy()
        some[channel, 2048:] += np.sin(2 * np.pi * 10 * np.arange(2048) / RATE_HZ)
        frequency_hz, change_db = spectrogram(some, RATE_HZ)
        row = change_db[np.argmin(np.abs(frequency_hz - 10))]
        n = len(row) // 2
        assert np.mean(row[n + 2 :]) - np.mean(row[: n - 2]) > 10
