"""What the oscillatory objective hides: chunks of time, and electrodes around a random one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def hidden_patches(seeds: Sequence[int], n_patches: int, *, share: float, chunks: int) -> Tensor:
    """Choose chunks of neighbouring patches, bool (batch, n_patches), True where hidden.

    As many patches as the share says (at least one where it is above 0) are divided evenly among the chunks,
    which do not overlap. The first patch always stays: a causal network knows nothing before it.

    Parameters
    ----------
    seeds : sequence of int
        One per window.
    n_patches : int
        Patches of a window.
    share : float
        Of the patches.
    chunks : int
        Fewer where they would be shorter than a patch, or leave no patch between them.
    """
    hidden = torch.zeros(len(seeds), n_patches, dtype=torch.bool)
    if share == 0 or n_patches < 2:
        return hidden
    count = min(max(round(share * n_patches), 1), n_patches - 1)
    shown = n_patches - count
    chunks = max(1, min(chunks, count, shown))
    lengths = [count // chunks + (i < count % chunks) for i in range(chunks)]
    for window, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        mixed = [lengths[i] for i in torch.randperm(chunks, generator=generator).tolist()]
        before = (1 + torch.randperm(shown, generator=generator)[:chunks]).sort().values.tolist()
        for length, shown_before, gone in zip(mixed, before, [sum(mixed[:i]) for i in range(chunks)]):
            hidden[window, shown_before + gone : shown_before + gone + length] = True
    return hidden


def near_electrodes(
    seeds: Sequence[int], places: Tensor, kept: Tensor, *, radius: float, fewest: int
) -> Tensor:
    """Leave out the electrodes around a random one, the nearest first, but never so many that few stay.

    Parameters
    ----------
    seeds : sequence of int
        One per window.
    places : Tensor, shape (n_chans, 3)
        Directions from the head's centre as unit vectors.
    kept : Tensor of bool, shape (batch, n_chans)
        Channels that are there.
    radius : float
        Distance in radii of the head, the centre of the hidden ones included; 0 hides none.
    fewest : int
        Channels that stay.

    Returns
    -------
    Tensor of bool, shape (batch, n_chans)
        Channels that stay.
    """
    if radius == 0:
        return kept
    found = kept.clone()
    for window, seed in enumerate(seeds):
        there = torch.nonzero(kept[window])[:, 0].cpu()
        spare = len(there) - fewest
        if spare < 1:
            continue
        generator = torch.Generator().manual_seed(seed)
        centre = there[int(torch.randint(len(there), (1,), generator=generator))]
        distance = (places[there] - places[centre]).norm(dim=-1)
        nearest = distance.argsort(stable=True)[:spare]
        found[window, there[nearest[distance[nearest] < radius]].to(found.device)] = False
    return found
