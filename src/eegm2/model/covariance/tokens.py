"""Tokens of covariance: a tangent vector per band, a few times a second, from samples as they come.

References
----------
Arsigny, Fillard, Pennec, Ayache (2007), SIAM J. Matrix Anal. Appl. 29:328-347, for the logarithm; Ledoit and
Wolf (2004), J. Multivariate Anal. 88:365-411, for shrinking towards a multiple of the identity.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from eegm2.model.config import EEGM2Config
from eegm2.model.covariance.bank import FilterBank
from eegm2.model.covariance.logarithm import logarithm
from eegm2.ops import compiled_inference
from eegm2.ops.eigen import SMALL

if TYPE_CHECKING:
    from eegm2.ops.cpu.tangent import TangentWeights

#: Power, in squared units of the scaled signal, below which bands are silent; keeps logarithms finite.
SILENCE = 1e-7


class CovarianceTokens(nn.Module):
    """Running covariances of every band, shrunk, as the upper triangle of their logarithms.

    Parameters
    ----------
    config : EEGM2Config
        Bands, kernels, length of a token step and of the running window.
    """

    def __init__(self, config: EEGM2Config) -> None:
        super().__init__()
        self.config = config
        self.bank = FilterBank(config)
        level = math.log(config.shrinkage / (1 - config.shrinkage))
        self.shrinkage_logit = nn.Parameter(torch.full((config.n_bands,), level))
        channels = config.inner_chans
        row, column = torch.triu_indices(channels, channels, device="cpu")
        scale = torch.where(row == column, 1.0, math.sqrt(2))
        self.register_buffer("triangle", row * channels + column, persistent=False)
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("identity", torch.eye(channels), persistent=False)
        self.register_buffer("diagonal", torch.arange(channels) * (channels + 1), persistent=False)

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Return the tangent vectors of (batch, channels, time), (batch, n_tokens, tangent_size).

        Parameters
        ----------
        hidden : Tensor of bool, shape (batch, n_tokens), optional
            Steps that do not count.
        """
        return self.running(*self._spectra(x, hidden))

    def covariances(self, x: Tensor, hidden: Tensor | None = None) -> Tensor:
        """Return the running covariances, (batch, n_tokens, n_bands, channels, channels), not shrunk."""
        return self._divided(*self._spectra(x, hidden))

    def _spectra(self, x: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the cross-spectra of every step, and the samples that each running window knows."""
        spectra = self.bank.cross_spectra(x)
        index = torch.arange(spectra.shape[1], device=x.device)[None]
        if hidden is None:
            return spectra, known_samples(index, self.config)
        total = running_sum(step_samples(index, self.config) * ~hidden, self.config.window_tokens)
        return spectra * ~hidden[:, :, None, None, None], total

    def _divided(self, spectra: Tensor, total: Tensor) -> Tensor:
        summed = running_sum(spectra, self.config.window_tokens)[:, spectra.shape[1] - total.shape[1] :]
        return summed / total.clamp_min(1)[:, :, None, None, None]

    def running(self, spectra: Tensor, total: Tensor) -> Tensor:
        """Return the tangent vectors of running covariances, (batch, n_tokens, tangent_size).

        Parameters
        ----------
        spectra : Tensor, shape (batch, steps, n_bands, channels, channels)
            Of the tokens' steps, and before these of steps that their running windows still see; what is not
            given is zero.
        total : Tensor, shape (batch, n_tokens) or (1, n_tokens)
            Samples that each running window knows.
        """
        compiled = self.compiled(spectra) if total.numel() else None
        if compiled is None:
            return self.tangent(self._divided(spectra, total))
        return compiled(spectra, total.clamp_min(1).to(spectra.dtype).expand(spectra.shape[0], -1))

    def compiled(self, spectra: Tensor) -> TangentWeights | None:
        """Return what makes tangent vectors of cross-spectra in compiled code; None where that cannot."""
        if self.config.inner_chans > SMALL or not compiled_inference(spectra, (self.shrinkage_logit,)):
            return None
        from eegm2.ops.cpu.tangent import TangentWeights

        shares = self.shrinkage_logit.detach().double().sigmoid()
        return TangentWeights(shares, self.config.window_tokens, SILENCE)

    def tangent(self, covariances: Tensor) -> Tensor:
        """Shrink (…, n_bands, channels, channels) and return the logarithms, (…, tangent_size).

        Upper triangles row by row, off the diagonal times √2, one band after another.
        """
        share = self.shrinkage_logit.sigmoid()[:, None, None]
        level = covariances.flatten(-2)[..., self.get_buffer("diagonal")].mean(-1)[..., None, None]
        shrunk = (1 - share) * covariances + (share * level + SILENCE) * self.get_buffer("identity")
        flat = logarithm(shrunk).flatten(-2)
        return (flat[..., self.get_buffer("triangle")] * self.get_buffer("scale")).flatten(-2)


def running_sum(x: Tensor, window: int) -> Tensor:
    """Return the sum over each step of axis 1 and the `window` - 1 before it; zeros before the start."""
    before = x.new_zeros(x.shape[0], window - 1, *x.shape[2:])
    return torch.cat([before, x], dim=1).unfold(1, window, 1).sum(-1)


def step_samples(index: Tensor, config: EEGM2Config) -> Tensor:
    """Return how many samples of each token step the bank knows: none within half a kernel of the start."""
    return ((index + 1) * config.token_step - config.kernel_taps // 2).clamp(0, config.token_step)


def known_samples(index: Tensor, config: EEGM2Config) -> Tensor:
    """Return how many samples of its running window each token knows.

    Half a kernel after the start, and before it, the bank sees nothing.

    Parameters
    ----------
    index : Tensor of int64
        Tokens since the start of the recording; may be negative.
    """
    seen = (index + 1) * config.token_step - config.kernel_taps // 2
    forgotten = seen - config.window_tokens * config.token_step
    return seen.clamp(min=0) - forgotten.clamp(min=0)


def evidence(config: EEGM2Config, first: int, steps: int) -> Tensor:
    """Return what share of its running window each token knows, (steps,): 1 but for the first of a recording.

    Parameters
    ----------
    first : int
        Index of the first token, counted from the start of the recording.
    """
    known = known_samples(torch.arange(first, first + steps), config).float()
    return known / (config.token_step * config.window_tokens) if known.sum() > 0 else torch.ones_like(known)
