"""What is hidden: so much of the time, in chunks, and the electrodes around one."""

from __future__ import annotations

import pytest
import torch

from eegm2.training.objectives.hiding import hidden_patches, near_electrodes
from eegm2.training.objectives.montages import Montages

TEN_TWENTY = (
    *("Fp1", "Fp2", "F3", "F4", "C3", "C4", "P3", "P4", "O1", "O2"),
    *("F7", "F8", "T7", "T8", "P7", "P8", "Fz", "Cz", "Pz"),
)


def chunks_of(row: list[bool]) -> list[int]:
    """Lengths of the hidden stretches."""
    text = "".join("x" if hidden else " " for hidden in row)
    return [len(part) for part in text.split()]


@pytest.mark.parametrize("n_patches", [2, 3, 8, 9, 40])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("chunks", [1, 2, 4])
def test_as_much_time_as_asked_for_in_so_many_chunks(n_patches: int, share: float, chunks: int) -> None:
    hidden = hidden_patches(range(50), n_patches, share=share, chunks=chunks)
    count = min(max(round(share * n_patches), 1), n_patches - 1)
    assert set(hidden.sum(1).tolist()) == {count}
    assert not hidden[:, 0].any()
    expected = min(chunks, count, n_patches - count)
    assert {len(chunks_of(row)) for row in hidden.tolist()} == {expected}
    lengths = {length for row in hidden.tolist() for length in chunks_of(row)}
    assert max(lengths) - min(lengths) <= 1


def test_every_later_patch_is_hidden_sometimes_and_a_seed_decides() -> None:
    hidden = hidden_patches(range(200), 8, share=0.5, chunks=2)
    assert hidden[:, 1:].any(0).all()
    assert torch.equal(hidden_patches([7], 8, share=0.5, chunks=2)[0], hidden[7])
    assert not hidden_patches([1], 8, share=0.0, chunks=2).any()
    assert not hidden_patches([1], 1, share=0.5, chunks=2).any()


def test_electrodes_around_one_are_hidden() -> None:
    places = Montages([TEN_TWENTY], 4).places(0)
    kept = torch.ones(200, len(places), dtype=torch.bool)
    stays = near_electrodes(range(200), places, kept, radius=0.75, fewest=4)
    assert torch.equal(near_electrodes([7], places, kept[:1], radius=0.75, fewest=4)[0], stays[7])
    for row in ~stays:
        hidden = places[row]
        widest = torch.cdist(hidden, hidden).amax(1)
        assert float(widest.min()) < 0.75, "one of them is the centre of all"
    assert (~stays).any(0).all()
    assert torch.equal(near_electrodes([7], places, kept, radius=0.0, fewest=4), kept)


def test_four_of_those_that_are_there_stay() -> None:
    places = Montages([TEN_TWENTY], 4).places(0)
    kept = torch.zeros(50, len(places), dtype=torch.bool)
    kept[:, :6] = True
    stays = near_electrodes(range(50), places, kept, radius=9.0, fewest=4)
    assert set(stays.sum(1).tolist()) == {4}
    assert not (stays & ~kept).any()
    few = kept.clone()
    few[:, 3:] = False
    assert torch.equal(near_electrodes(range(50), places, few, radius=9.0, fewest=4), few)
