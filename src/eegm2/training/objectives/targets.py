"""Targets of the oscillatory objective: of each patch of a window, and of the window as a whole."""

from __future__ import annotations

import copy
import itertools
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from eegm2.errors import ConfigError
from eegm2.model.config import EEGM2Config
from eegm2.model.covariance.bank import SIX_EDGES_HZ
from eegm2.model.covariance.tokens import CovarianceTokens, step_samples

#: Lowest power, in shares of a channel's mean power over frequencies, so that silence has a logarithm.
_SILENCE = 1e-6
#: Standardised targets beyond this are artefacts.
_LIMIT = 5.0


class BandPower(nn.Module):
    """Log power of the usual bands in every patch and channel, less the patch's own 1/f line.

    The line is a least-squares fit of log power on log frequency over the bins between the lowest and the
    highest band edge, so what is left are oscillations: neither a gain nor a slope of the spectrum counts.

    Parameters
    ----------
    sfreq_hz : float
        Sampling rate.
    patch : int
        Samples of a patch.

    References
    ----------
    Donoghue et al. (2020), Nature Neuroscience 23:1655-1665, for oscillations above an aperiodic line.
    """

    def __init__(self, sfreq_hz: float, patch: int) -> None:
        super().__init__()
        frequencies = np.fft.rfftfreq(patch, 1 / sfreq_hz)
        edges = np.array(SIX_EDGES_HZ)
        inside = (frequencies >= edges[0]) & (frequencies < min(edges[-1], 0.45 * sfreq_hz))
        if inside.sum() < 4:
            raise ConfigError(
                f"patch_s: a patch of {patch / sfreq_hz:g} s holds {inside.sum()} frequencies between "
                f"{edges[0]:g} and {edges[-1]:g} Hz, too few to fit a line to; make patch_s longer"
            )
        log_f = np.log(frequencies[inside])
        line = np.stack([np.ones_like(log_f), log_f], axis=1)
        residual = np.eye(len(log_f)) - line @ np.linalg.pinv(line)
        rows = [
            (frequencies[inside] >= low) & (frequencies[inside] < high)
            for low, high in itertools.pairwise(edges)
        ]
        means = np.array([row / row.sum() for row in rows if row.any()])
        self.patch, self.n_bands = patch, len(means)
        self.register_buffer("bins", torch.from_numpy(np.flatnonzero(inside)), persistent=False)
        self.register_buffer("weights", torch.from_numpy(means @ residual).float(), persistent=False)
        self.register_buffer("taper", torch.hann_window(patch, periodic=False), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, n_patches, n_bands * channels) of (batch, channels, time)."""
        n_patches = x.shape[-1] // self.patch
        patches = x[..., : n_patches * self.patch].unflatten(-1, (n_patches, self.patch)).float()
        patches = (patches - patches.mean(-1, keepdim=True)) * self.get_buffer("taper")
        power = torch.fft.rfft(patches).abs().square()[..., self.get_buffer("bins")]
        power = power + _SILENCE * power.mean(-1, keepdim=True) + torch.finfo(power.dtype).tiny
        oscillations = power.log() @ self.get_buffer("weights").T
        return oscillations.transpose(1, 2).flatten(2)


class Tangents(nn.Module):
    """Tangent vectors of band-wise covariances, of every patch and of the whole window.

    Parameters
    ----------
    tokens : CovarianceTokens
        Filter bank and shrinkage as they are now; later training does not move the copy.
    patch : int
        Samples of a patch, whole token steps.
    """

    def __init__(self, tokens: CovarianceTokens, patch: int) -> None:
        super().__init__()
        self.tokens = copy.deepcopy(tokens).requires_grad_(False)
        config = tokens.config
        self.steps = patch // config.token_step
        self.late = round(config.kernel_taps / 2 / config.token_step)
        self.size = config.tangent_size

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return patches' and windows' vectors, (batch, n_patches, size) and (batch, size)."""
        tokens = self.tokens
        spectra, counts = self._spectra(x)
        n_patches = spectra.shape[1] // self.steps
        whole = self._mean(spectra, counts)
        spectra, counts = (
            spectra[:, self.late :],
            counts[self.late :],
        )  # what a kernel gives is half of it late
        missing = n_patches * self.steps - spectra.shape[1]
        if missing > 0:
            spectra = torch.cat([spectra, spectra.new_zeros(len(x), missing, *spectra.shape[2:])], dim=1)
            counts = torch.cat([counts, counts.new_zeros(missing)])
        of_patch = spectra[:, : n_patches * self.steps].unflatten(1, (n_patches, self.steps)).sum(2)
        n_samples = counts[: n_patches * self.steps].unflatten(0, (n_patches, self.steps)).sum(1).clamp_min(1)
        return tokens.tangent(of_patch / n_samples[:, None, None, None]), tokens.tangent(whole)

    def whole(self, x: Tensor) -> Tensor:
        """Return the windows' vectors alone, (batch, size)."""
        return self.tokens.tangent(self._mean(*self._spectra(x)))

    def _spectra(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the cross-spectra of every token step, summed, and how many samples each counts."""
        bank = self.tokens.bank
        spectra = bank.cross_spectra(x)
        steps = torch.arange(spectra.shape[1], device=x.device)
        return spectra, step_samples(steps, self.tokens.config).to(spectra)

    @staticmethod
    def _mean(spectra: Tensor, counts: Tensor) -> Tensor:
        return spectra.sum(1) / counts.sum().clamp_min(1)


class Standard(nn.Module):
    """Running mean and spread of targets, of each store and number, by which they are standardised.

    An error of 1 is then that of who always says the mean. Training moves them, alike in all processes.

    Parameters
    ----------
    n_stores, size : int
        Stores, and numbers in a target.
    decay : float
        Of the running averages; the first batches count evenly.
    """

    def __init__(self, n_stores: int, size: int, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("mean", torch.zeros(n_stores, size))
        self.register_buffer("square", torch.ones(n_stores, size))
        self.register_buffer("batches", torch.zeros(n_stores))

    @torch.no_grad()
    def forward(self, target: Tensor, store_number: int) -> Tensor:
        """Return (..., size) standardised, within ±5; in training follow it first."""
        mean, square, batches = (self.get_buffer(name) for name in ("mean", "square", "batches"))
        if self.training:
            rows = target.flatten(0, -2).float()
            now = torch.stack([rows.mean(0), rows.square().mean(0)])
            if dist.is_available() and dist.is_initialized():
                dist.all_reduce(now)
                now = now / dist.get_world_size()
            batches[store_number] += 1
            weight = max(1 / float(batches[store_number]), 1 - self.decay)
            mean[store_number] += weight * (now[0] - mean[store_number])
            square[store_number] += weight * (now[1] - square[store_number])
        spread = (square[store_number] - mean[store_number].square()).clamp_min(1e-6).sqrt()
        return ((target - mean[store_number]) / spread).clamp(-_LIMIT, _LIMIT)


def less_mean(target: Tensor, groups: Tensor) -> Tensor:
    """Return targets (batch, ..., size) less the mean of their group over windows and patches.

    Parameters
    ----------
    groups : Tensor of int, shape (batch,)
        The same number for windows of one recording.
    """
    same = (groups[:, None] == groups[None, :]).to(target)
    of_window = target if target.dim() == 2 else target.mean(1)
    mean = (same @ of_window) / same.sum(1, keepdim=True)
    return target - (mean if target.dim() == 2 else mean[:, None])


def covariance_tokens(config: EEGM2Config, network: Any, sfreq_hz: float) -> CovarianceTokens:
    """Return a network's covariance tokens, or untrained ones over its channels where it has none."""
    if config.embedding == "covariance":
        tokens: CovarianceTokens = network.trunk.tokens
        return tokens
    shape = EEGM2Config.preset("covariance", n_chans=config.n_chans, n_virtual=0, sfreq_hz=sfreq_hz)
    return CovarianceTokens(shape)
