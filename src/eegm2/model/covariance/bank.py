"""A bank of complex band-pass kernels, shared by all channels, and the cross-spectra of each band."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eegm2.model.config import EEGM2Config
from eegm2.ops import Kept, compiled_inference

if TYPE_CHECKING:
    from eegm2.ops.cpu.tangent import BankWeights

#: Edges of the six bands to begin with, in Hz.
SIX_EDGES_HZ = (1.0, 4.0, 8.0, 13.0, 20.0, 30.0, 40.0)
#: Full width at half maximum of a Gaussian over its standard deviation.
_FWHM = 2 * math.sqrt(2 * math.log(2))


def band_edges_hz(n_bands: int, sfreq_hz: float) -> tuple[float, ...]:
    """Return the edges of the bands to begin with: the usual six, or 1 to 40 Hz in equal ratios.

    Bands end at 0.45 of the sampling rate at the latest.
    """
    top = min(SIX_EDGES_HZ[-1], 0.45 * sfreq_hz)
    if n_bands == len(SIX_EDGES_HZ) - 1 and top == SIX_EDGES_HZ[-1]:
        return SIX_EDGES_HZ
    low = min(SIX_EDGES_HZ[0], top / 2)
    return tuple(low * (top / low) ** (band / n_bands) for band in range(n_bands + 1))


class FilterBank(nn.Module):
    """Gabor kernels with learnt centres and widths; causal, the output at t sees the last `taps` samples.

    A kernel is a Gaussian around the middle of its taps times a complex exponential, less the share of the
    Gaussian that makes it blind to a constant, with unit gain at its centre; so what comes out is half a
    kernel late. Widths are full widths at half maximum. Both are kept as logarithms, so they stay positive.

    Parameters
    ----------
    config : EEGM2Config
        Supplies n_bands, sfreq_hz, the taps and the samples of a step.

    References
    ----------
    Paillard, Hipp, Engemann (2025), "GREEN", Patterns 6:101182, for learnt Gabor wavelets before covariances.
    """

    def __init__(self, config: EEGM2Config) -> None:
        super().__init__()
        self.taps, self.step, self.sfreq_hz = config.kernel_taps, config.token_step, config.sfreq_hz
        edges = band_edges_hz(config.n_bands, config.sfreq_hz)
        pairs = list(pairwise(edges))
        self.log_centre_hz = nn.Parameter(torch.tensor([math.log((low + high) / 2) for low, high in pairs]))
        self.log_width_hz = nn.Parameter(torch.tensor([math.log(high - low) for low, high in pairs]))
        self.kept = Kept()
        self.stride = sampling_stride(config.sfreq_hz)
        taken = torch.arange(self.stride - 1, self.step, self.stride)
        lag = torch.arange(self.taps + self.step - 1)[:, None] - taken[None, :]
        self.register_buffer("place", (self.taps - 1 - lag).remainder(self.taps + 1), persistent=False)
        self.register_buffer("inside", (lag >= 0) & (lag < self.taps), persistent=False)

    @property
    def n_bands(self) -> int:
        """Bands."""
        return self.log_centre_hz.shape[0]

    def kernels(self) -> Tensor:
        """Return real and imaginary parts, (n_bands, 2, taps); the last tap meets the newest sample."""
        centre = self.log_centre_hz.exp().clamp(max=0.49 * self.sfreq_hz)[:, None]
        spread_hz = self.log_width_hz.exp()[:, None] / _FWHM
        time_s = (torch.arange(self.taps, device=centre.device) - (self.taps - 1) / 2) / self.sfreq_hz
        envelope = torch.exp(-0.5 * (2 * math.pi * spread_hz * time_s.to(centre)).square())
        envelope = envelope / envelope.sum(-1, keepdim=True)
        phase = 2 * math.pi * centre * time_s.to(centre)
        cosine = envelope * phase.cos()
        cosine = cosine - envelope * cosine.sum(-1, keepdim=True)
        sine = envelope * phase.sin()
        return torch.stack([cosine, sine], dim=1)

    def matrix(self) -> Tensor:
        """Return all kernels at all places of a step that are taken, (taps + step - 1, n_bands, 2 * taken).

        Rows are the samples of a segment (what a step and its past need), columns the filtered samples.
        """
        kernels = self.kernels()
        padded = torch.cat([kernels, kernels.new_zeros(*kernels.shape[:2], 1)], dim=-1)
        place, inside = self.get_buffer("place"), self.get_buffer("inside")
        placed = padded[:, :, place.flatten()].unflatten(-1, tuple(place.shape)) * inside
        return placed.permute(2, 0, 1, 3).flatten(2)

    def compiled(self, x: Tensor) -> BankWeights | None:
        """Return the bank as its kernel takes it; None where that cannot take `x`."""
        weights = (self.log_centre_hz, self.log_width_hz)
        if not compiled_inference(x, weights):
            return None
        from eegm2.ops.cpu.tangent import BankWeights

        return self.kept.of(weights, lambda: BankWeights.of(self.matrix(), self.step, self.stride))

    def cross_spectra(self, x: Tensor, before: int = 0, matrix: Tensor | None = None) -> Tensor:
        """Return ``Re(Z Z^H)`` summed over each whole step, (batch, steps, n_bands, channels, channels).

        The sum is taken over every few samples, see :func:`sampling_stride`, and counted so many times.

        Parameters
        ----------
        x : Tensor, shape (batch, channels, before + time)
        before : int
            Samples of `x` before the first step, fewer than taps; what is not given is zero, as before the
            start of a recording.
        matrix : Tensor, optional
            :meth:`matrix`, where it is at hand.
        """
        compiled = self.compiled(x) if matrix is None else None
        if compiled is not None and x.shape[-1] - before >= self.step:
            return compiled(x, before)
        matrix = self.matrix() if matrix is None else matrix
        rows = F.pad(x, (self.taps - 1 - before, 0)) if before < self.taps - 1 else x
        segments = rows.unfold(2, self.taps + self.step - 1, self.step).transpose(1, 2)
        batch, steps, channels, length = segments.shape
        filtered = segments.reshape(-1, length) @ matrix.flatten(1)
        filtered = filtered.view(-1, channels, *matrix.shape[1:]).transpose(1, 2).flatten(0, 1)
        products = torch.bmm(filtered, filtered.transpose(1, 2)) * self.stride
        return products.view(batch, steps, self.n_bands, channels, channels)


def sampling_stride(sfreq_hz: float) -> int:
    """Return how many samples apart filtered signals are taken: 32 Hz or a little more, and 8 at most.

    A band-passed signal, as a complex one, says all it has to say at a rate of its width.
    """
    return min(8, 2 ** max(0, math.floor(math.log2(sfreq_hz / 32))))
