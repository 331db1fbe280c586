"""Band power by class: within people first, and no difference between people in it."""

from __future__ import annotations

import numpy as np

from eegm2.evaluation.baselines.class_power import band_power_by_class
from eegm2.evaluation.windows.labelled import LabelledWindows

SFREQ_HZ = 128.0


def sine(frequency_hz: float, amplitude_uv: float) -> np.ndarray:
    times = np.arange(512) / SFREQ_HZ
    return np.tile(amplitude_uv * np.sin(2 * np.pi * frequency_hz * times), (2, 1))


def data(rows: list[tuple[str, int, np.ndarray]]) -> LabelledWindows:
    subject = np.array([row[0] for row in rows])
    x = np.stack([row[2] for row in rows]).astype(np.float32)
    y = np.array([row[1] for row in rows])
    return LabelledWindows(x, y, subject, subject, np.zeros(len(rows)), ("shut", "open"))


def test_power_is_that_of_the_rhythm_in_decibels() -> None:
    power_db, bands = band_power_by_class(data([("a", 0, sine(10, 20)), ("a", 1, sine(10, 10))]), SFREQ_HZ)
    assert bands == ("delta", "theta", "alpha", "beta", "gamma")
    alpha = power_db[:, bands.index("alpha")]
    np.testing.assert_allclose(alpha[0], 10 * np.log10(20**2 / 2), atol=0.1)
    np.testing.assert_allclose(alpha[0] - alpha[1], 20 * np.log10(2), atol=1e-3)


def test_people_without_all_classes_and_many_windows_do_not_tilt_it() -> None:
    both = [("a", 0, sine(10, 20)), ("a", 1, sine(10, 10)), ("b", 0, sine(10, 2)), ("b", 1, sine(10, 1))]
    alone = [("c", 0, sine(10, 500))]
    many = [("a", 0, sine(10, 20))] * 9
    expected, _ = band_power_by_class(data(both), SFREQ_HZ)
    found, _ = band_power_by_class(data(both + alone + many), SFREQ_HZ)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_groups_of_different_people_are_compared_all_the_same() -> None:
    power_db, bands = band_power_by_class(data([("a", 0, sine(10, 20)), ("b", 1, sine(10, 10))]), SFREQ_HZ)
    assert np.isfinite(power_db).all()
    assert power_db[0, bands.index("alpha"), 0] > power_db[1, bands.index("alpha"), 0]
