"""Laws of contact: each verdict on a live channel has its limit, and holds on either side of it."""

from __future__ import annotations

import numpy as np
import pytest

from eegm2.deploy.live.quality import ChannelQuality, channel_quality, problems

RATE_HZ = 256.0
T = np.arange(1024) / RATE_HZ


def of(x: np.ndarray, rate_hz: float = RATE_HZ) -> ChannelQuality:
    (found,) = channel_quality(x[None], ["Cz"], rate_hz)
    return found


def noise(size: float = 10.0) -> np.ndarray:
    return size * np.random.default_rng(0).standard_normal(1024)


@pytest.mark.parametrize("hz", [1.0, 3.0, 10.0, 20.0, 33.0, 39.0, 42.0, 70.0])
def test_the_amplitude_is_of_what_lies_between_2_and_40_hz(hz: float) -> None:
    found = of(100 + 30 * np.sin(2 * np.pi * hz * T)).amplitude_uv
    assert found == pytest.approx(30 / 2**0.5 if 2 < hz < 40 else 0, abs=0.4)


@pytest.mark.parametrize(("size", "loose"), [(145.0, False), (155.0, True)])
def test_loose_is_more_than_any_eeg(size: float, loose: bool) -> None:
    found = of(size * 2**0.5 * np.sin(2 * np.pi * 10 * T))
    assert found.problems == (["loose"] if loose else [])


@pytest.mark.parametrize("side", [1.0, -1.0])
@pytest.mark.parametrize(("share", "clips"), [(0.03, False), (0.08, True), (0.4, True)])
def test_clipping_is_a_share_of_samples_at_either_end(share: float, clips: bool, side: float) -> None:
    x = side * noise()
    limit = np.quantile(side * x, 1 - share)
    found = of(side * np.minimum(side * x, limit))
    assert found.clipping == pytest.approx(share, abs=2e-3)
    assert found.problems == (["clips"] if clips else [])


@pytest.mark.parametrize("hz", [50.0, 60.0])
@pytest.mark.parametrize(("ratio", "covered"), [(3.5, False), (4.5, True)])
def test_mains_cover_the_eeg_from_four_times_its_power_on(hz: float, ratio: float, covered: bool) -> None:
    x = 10 * np.sin(2 * np.pi * 10 * T) + 10 * ratio**0.5 * np.sin(2 * np.pi * hz * T)
    found = of(x)
    assert found.mains == pytest.approx(ratio, rel=0.02)
    assert found.mains_hz == hz
    assert found.problems == ([f"{hz:g} Hz mains"] if covered else [])
    assert found.plain()["mains"] == round(found.mains, 2)


def test_a_page_gets_a_channel_as_it_is_in_few_digits() -> None:
    found = ChannelQuality("Cz", 12.3456, 1.23456, 60.0, 0.123456, False)
    assert found.plain() == {
        "name": "Cz", "amplitude_uv": 12.3, "mains": 1.23, "mains_hz": 60.0, "clipping": 0.123,
        "problems": ["clips"],
    }  # fmt: skip


def test_mains_above_half_the_rate_are_not_seen() -> None:
    assert of(10 * np.sin(2 * np.pi * 10 * np.arange(200) / 100), 100.0).mains == 0


@pytest.mark.parametrize(("range_uv", "flat"), [(0.4, True), (0.6, False)])
def test_flat_is_half_a_microvolt_and_says_all(range_uv: float, flat: bool) -> None:
    x = 500 + range_uv / 2 * np.sin(2 * np.pi * 10 * T)
    assert of(x).flat == flat
    assert (of(x).problems == ["flat"]) == flat
    named = channel_quality(np.stack([noise(), x * flat]), ["Fz", "Cz"], RATE_HZ)
    assert problems(named) == ["Cz flat"]
    assert [channel.name for channel in named] == ["Fz", "Cz"]
