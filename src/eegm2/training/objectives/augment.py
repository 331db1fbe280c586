"""Changes of training windows that leave what is learnt from them true: none of them destroys covariances.

Everything random about a window follows from its seed, as masks do, so a run that goes on repeats it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from eegm2.training.objectives.options import AugmentOptions

#: Fewest channels that a window keeps.
FEWEST = 4
#: Added to a window's seed, so that its masks are drawn from another stream.
_CHANGED, _COVERED, _KEPT = 1, 2, 3
_LOWEST_HZ = 0.5


class Augment:
    """Random gains, signs and references (`changed`), noise (`covered`) and missing channels (`kept`).

    Parameters
    ----------
    options : AugmentOptions
        How much of each; nothing by default.
    sfreq_hz : float
        Sampling rate of the windows.
    """

    def __init__(self, options: AugmentOptions, sfreq_hz: float) -> None:
        self.options, self.sfreq_hz = options, sfreq_hz

    def changed(self, x: Tensor, seeds: Sequence[int]) -> Tensor:
        """Return windows (batch, n_chans, n_times) with other gains, signs and references."""
        options = self.options
        if not (options.gain_db or options.sign or options.rereference):
            return x
        n_chans = x.shape[1]
        mixing = torch.empty(len(seeds), n_chans, n_chans)
        for window, seed in enumerate(seeds):
            generator = torch.Generator().manual_seed(seed + _CHANGED)
            gain = options.gain_db * torch.randn(n_chans, generator=generator)
            turned, moved = torch.rand(2, generator=generator).tolist()
            reference = int(torch.randint(n_chans + 1, (1,), generator=generator))
            matrix = torch.diag(10 ** (gain / 20)) * (-1.0 if turned < options.sign else 1.0)
            if moved < options.rereference:
                everywhere = matrix.mean(0) if reference == n_chans else matrix[reference]
                matrix = matrix - everywhere
            mixing[window] = matrix
        return mixing.to(x) @ x

    def covered(self, x: Tensor, seeds: Sequence[int]) -> Tensor:
        """Return windows with noise whose power falls as 1/f, each channel's amount drawn evenly."""
        if not self.options.aperiodic_noise:
            return x
        n_chans, n_times = x.shape[1:]
        frequencies = torch.fft.rfftfreq(n_times, 1 / self.sfreq_hz)
        shape = torch.where(frequencies > 0, frequencies.clamp_min(_LOWEST_HZ) ** -0.5, 0.0)
        noise = torch.empty(x.shape, dtype=torch.float32)
        for window, seed in enumerate(seeds):
            generator = torch.Generator().manual_seed(seed + _COVERED)
            amount = self.options.aperiodic_noise * torch.rand(n_chans, 1, generator=generator)
            white = torch.randn(n_chans, n_times, generator=generator)
            made = torch.fft.irfft(torch.fft.rfft(white) * shape, n=n_times)
            noise[window] = amount * made / made.std(-1, keepdim=True, correction=0).clamp_min(1e-12)
        return x + noise.to(x) * x.std(dim=-1, keepdim=True, correction=0)

    def kept(self, x: Tensor, seeds: Sequence[int]) -> Tensor | None:
        """Return which channels stay, bool (batch, n_chans); None where all do."""
        options, n_chans = self.options, x.shape[1]
        if not (options.channel_subsets or options.channel_dropout) or n_chans <= FEWEST:
            return None
        kept = torch.ones(len(seeds), n_chans, dtype=torch.bool)
        for window, seed in enumerate(seeds):
            generator = torch.Generator().manual_seed(seed + _KEPT)
            subset, size = torch.rand(2, generator=generator).tolist()
            order = torch.randperm(n_chans, generator=generator)
            stays = torch.rand(n_chans, generator=generator) >= options.channel_dropout
            if subset < options.channel_subsets:
                stays[order[FEWEST + math.floor(size * (n_chans - FEWEST + 1)) :]] = False
            kept[window] = at_least(stays, order, FEWEST)
        return kept.to(x.device)


def at_least(stays: Tensor, order: Tensor, fewest: int) -> Tensor:
    """Return `stays` with as many more, in the order given, as it takes for `fewest` to stay."""
    missing = fewest - int(stays.sum())
    if missing > 0:
        stays = stays.clone()
        stays[order[~stays[order]][:missing]] = True
    return stays
