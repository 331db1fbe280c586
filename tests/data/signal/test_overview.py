"""A recording in few numbers: its extent, and a spectrogram that shows what comes and goes."""

from __future__ import annotations

import numpy as np
import pytest

from eegm2.data.signal.overview import envelope, spectrogram

SFREQ_HZ = 128.0


def test_the_envelope_holds_every_extreme() -> None:
    x = np.random.default_rng(0).normal(size=(3, 1001))
    made = envelope(x, 100)
    assert made.shape == (3, 2, 100)
    np.testing.assert_allclose(made[:, 0].min(1), x.min(1), rtol=1e-6)
    np.testing.assert_allclose(made[:, 1].max(1), x.max(1), rtol=1e-6)
    assert envelope(x[:, :5], 100).shape == (3, 2, 2)


def test_a_rhythm_that_comes_is_seen_where_and_when_it_is() -> None:
    rng, times = np.random.default_rng(0), np.arange(round(60 * SFREQ_HZ)) / SFREQ_HZ
    x = rng.normal(size=(4, len(times)))
    x += np.where((times > 40) & (times < 50), 3 * np.sin(2 * np.pi * 10 * times), 0)
    frequency_hz, change_db = spectrogram(x, SFREQ_HZ)
    at_s = (np.arange(change_db.shape[1]) + 0.5) * 60 / change_db.shape[1]
    row, column = np.unravel_index(change_db.argmax(), change_db.shape)
    assert frequency_hz[row] == 10
    assert 40 < at_s[column] < 50
    during = (at_s > 41) & (at_s < 49)
    np.testing.assert_allclose(np.median(change_db, axis=1), 0, atol=1e-9)
    assert change_db[row, during].min() > 10 > np.abs(change_db[row, at_s < 38]).max()


@pytest.mark.parametrize("n_times", [2, 100, 256, 300, 100_000])
def test_any_length_gives_a_spectrogram(n_times: int) -> None:
    frequency_hz, change_db = spectrogram(np.random.default_rng(0).normal(size=(2, n_times)), SFREQ_HZ)
    assert change_db.shape[0] == len(frequency_hz) >= 0
    assert 1 <= change_db.shape[1] <= 600


def test_a_flat_recording_has_no_power_and_says_so() -> None:
    _, change_db = spectrogram(np.zeros((2, 1280)), SFREQ_HZ)
    assert np.isnan(change_db).all()
