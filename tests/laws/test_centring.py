"""Laws of centred learning: batches of one size with every window once, and nobody else looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from eegm2.evaluation.features.centring import centre_features
from eegm2.evaluation.protocols.centred import TOGETHER, Centring
from eegm2.evaluation.windows.labelled import LabelledWindows

RNG = np.random.default_rng(17)


def uneven() -> LabelledWindows:
    """Return windows of unlike recordings, two of a person, in no order, at times that none share."""
    counts = [40, 23, 31, 18, 27]
    recording = np.repeat([f"r{i}" for i in range(5)], counts)
    start_s = np.concatenate([100.0 * i + 2.0 * RNG.permutation(n) for i, n in enumerate(counts)])
    mixed = RNG.permutation(len(recording))
    y = np.arange(len(recording)) % 2
    recording, start_s = recording[mixed], start_s[mixed]
    person = np.array([f"p{int(name[1]) // 2}" for name in recording])
    return LabelledWindows(np.zeros((len(y), 1, 4)), y, person, recording, start_s, ("a", "b"))


@pytest.mark.parametrize("batch_size", [3, 8, 16, 50, 1000])
def test_an_epoch_has_batches_of_about_one_size_and_every_window_once(batch_size: int) -> None:
    data = uneven()
    indices = np.flatnonzero(data.recording != "r2")
    centring, generator = Centring(data, "recording", batch_size), torch.Generator().manual_seed(5)
    epochs = [centring.batches(indices, generator) for _ in range(2)]
    together = min(TOGETHER, batch_size)
    for batches in epochs:
        assert sorted(np.concatenate(batches)) == indices.tolist()
        assert len(batches) == -(-len(indices) // batch_size)
        assert max(abs(len(b) - len(indices) / len(batches)) for b in batches) <= together
    first, second = (np.concatenate(batches) for batches in epochs)
    assert not np.array_equal(first, second), "every epoch has an order of its own"
    again = np.concatenate(centring.batches(indices, torch.Generator().manual_seed(5)))
    np.testing.assert_array_equal(again, first)
    other = np.concatenate(centring.batches(indices, torch.Generator().manual_seed(6)))
    assert not np.array_equal(other, first)


@pytest.mark.parametrize("centre", ["recording", "running"])
def test_windows_are_centred_on_those_of_their_recordings_and_on_no_others(centre: Any) -> None:
    """As the frozen probe's are; of recordings that are not asked for no window is looked at."""
    data = uneven()
    features = (
        RNG.standard_normal((len(data), 3))
        + 10 * RNG.standard_normal((5, 3))[np.unique(data.recording, return_inverse=True)[1]]
    )
    expected = centre_features(features, data, centre)
    looked: list[np.ndarray] = []

    def pooled(rows: np.ndarray) -> torch.Tensor:
        looked.append(rows)
        return torch.from_numpy(features[rows])

    centring = Centring(data, centre, 16)
    for wanted in (["r1"], ["r3", "r4"], ["r0", "r2", "r3"]):
        inside = np.flatnonzero(np.isin(data.recording, wanted))
        some = RNG.permutation(
            np.concatenate([np.flatnonzero(data.recording == name)[2::5] for name in wanted])
        )
        np.testing.assert_allclose(centring.judging(pooled, some), expected[some], atol=1e-9)
        centring.begin(pooled, some)
        found = centring.learning(torch.from_numpy(features[some]), some)
        np.testing.assert_allclose(found, expected[some], atol=1e-9)
        for rows in looked[-2:]:
            np.testing.assert_array_equal(rows, inside)
