"""Augmentation: what it changes follows from the window's seed, and covariances stay whole."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eegm2.training.objectives.augment import Augment, at_least
from eegm2.training.objectives.options import AugmentOptions

SEEDS = list(range(40))


def windows(n_chans: int = 8, n_times: int = 512) -> torch.Tensor:
    return torch.randn(len(SEEDS), n_chans, n_times, generator=torch.Generator().manual_seed(0))


def augment(**options: float) -> Augment:
    return Augment(AugmentOptions(**options), 128.0)


def test_off_it_gives_the_window_itself() -> None:
    x, nothing = windows(), augment()
    assert nothing.changed(x, SEEDS) is x
    assert nothing.covered(x, SEEDS) is x
    assert nothing.kept(x, SEEDS) is None


ALL = {"gain_db": 1.0, "sign": 0.5, "rereference": 0.5}


def test_a_window_is_changed_alike_in_any_batch() -> None:
    x, some = windows(), augment(**ALL, channel_subsets=0.5, aperiodic_noise=0.5)
    kept = some.kept(x, SEEDS)
    assert kept is not None
    for window in (0, 17):
        alone = x[window : window + 1], SEEDS[window : window + 1]
        torch.testing.assert_close(some.changed(*alone)[0], some.changed(x, SEEDS)[window])
        assert torch.equal(some.covered(*alone)[0], some.covered(x, SEEDS)[window])
        other = some.kept(*alone)
        assert other is not None
        assert torch.equal(other[0], kept[window])


def test_gains_are_as_large_as_asked_for() -> None:
    x = windows(64)
    gain_db = 20 * torch.log10((augment(gain_db=2.0).changed(x, SEEDS) / x).mean(-1))
    assert float(gain_db.std()) == pytest.approx(2.0, rel=0.05)
    assert abs(float(gain_db.mean())) < 0.1


def test_signs_leave_covariances() -> None:
    x = windows()
    turned = augment(sign=0.5).changed(x, SEEDS)
    torch.testing.assert_close(turned @ turned.mT, x @ x.mT)
    share = float((turned[:, 0, 0] * x[:, 0, 0] < 0).float().mean())
    assert 0.25 < share < 0.75


def test_a_reference_is_taken_off_all_channels_alike() -> None:
    x = windows()
    off = x - augment(rereference=1.0).changed(x, SEEDS)
    torch.testing.assert_close(off, off[:, :1].expand_as(off))
    references = torch.cat([x, x.mean(1, keepdim=True)], dim=1)
    distance = (references - off[:, :1]).abs().amax(-1)
    chosen = distance.argmin(1)
    assert float(distance.amin(1).max()) < 1e-5
    assert set(chosen.tolist()) == set(range(9))


def test_noise_falls_as_one_over_f() -> None:
    x = windows(n_times=4096)
    added = augment(aperiodic_noise=0.5).covered(x, SEEDS) - x
    power = torch.fft.rfft(added).abs().square().mean((0, 1)).numpy()
    frequencies = np.fft.rfftfreq(4096, 1 / 128)
    inside = (frequencies > 1) & (frequencies < 50)
    slope = np.polyfit(np.log(frequencies[inside]), np.log(power[inside]), 1)[0]
    assert slope == pytest.approx(-1, abs=0.05)
    amounts = added.std(-1, correction=0) / x.std(-1, correction=0)
    assert float(amounts.max()) <= 0.5
    assert float(amounts.mean()) == pytest.approx(0.25, rel=0.1)


def test_subsets_hold_four_to_all_channels_alike_often() -> None:
    x = torch.empty(2000, 8, 1)
    kept = augment(channel_subsets=1.0).kept(x, range(2000))
    assert kept is not None
    sizes, counts = torch.unique(kept.sum(1), return_counts=True)
    assert sizes.tolist() == [4, 5, 6, 7, 8]
    assert int(counts.min()) > 300
    assert float(kept.float().mean(0).std()) < 0.03
    assert augment(channel_subsets=1.0).kept(torch.empty(5, 4, 1), range(5)) is None


def test_dropout_leaves_four() -> None:
    x = torch.empty(2000, 16, 1)
    kept = augment(channel_dropout=0.25).kept(x, range(2000))
    assert kept is not None
    assert float(kept.float().mean()) == pytest.approx(0.75, abs=0.02)
    nearly_all = augment(channel_dropout=0.95).kept(x, range(2000))
    assert nearly_all is not None
    assert int(nearly_all.sum(1).min()) == 4
    stays = torch.tensor([True, False, False, False])
    assert at_least(stays, torch.tensor([3, 0, 1, 2]), 2).tolist() == [True, False, False, True]
