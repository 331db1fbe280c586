"""The covariance embedding's share of an exported streaming step, as plain tensor operations."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from eegm2.model.covariance.tokens import known_samples
from eegm2.model.covariance.trunk import CovarianceTrunk


class Carries(Protocol):
    """What keeps the last rows of a signal until the next step."""

    def carry(self, name: str, x: Tensor) -> Tensor:
        """Put what was kept of the past before `x` and keep the last steps of both."""


class CovarianceStep(nn.Module):
    """Covariances, their logarithms by products, and the means of the encoder's steps, a hop at a time.

    Parameters
    ----------
    trunk : CovarianceTrunk
        Of the network.
    """

    def __init__(self, trunk: CovarianceTrunk) -> None:
        super().__init__()
        self.trunk, self.config = trunk, trunk.config
        self.each = self.config.token_step // 8
        self.register_buffer("matrix", trunk.tokens.bank.matrix().detach())
        mixing = None if trunk.electrodes is None else trunk.electrodes.mixing().detach().t().contiguous()
        self.register_buffer("mixing", mixing)

    def delay_tokens(self, encoded_lag: int) -> int:
        """Return how many tokens late the encoder's steps are, in whole tokens."""
        return -(-encoded_lag // self.each)

    def state_shapes(self, encoded_lag: int, reconstructs: bool) -> dict[str, tuple[int, ...]]:
        """Return the shape of every state without the batch axis."""
        config, lag = self.config, self.delay_tokens(encoded_lag)
        shapes = {
            "samples": (config.kernel_taps - 1, config.inner_chans),
            "spectra": (config.window_tokens - 1, config.n_bands * config.inner_chans**2),
            "means": (lag * self.each - encoded_lag, 4 * config.width),
            "tangents": (lag, config.tangent_size),
        }
        if reconstructs:
            shapes["hold"] = (1, 4 * config.width)
        return {name: shape for name, shape in shapes.items() if shape[0]}

    def virtual(self, rows: Tensor) -> Tensor:
        """Return the channels that the network works on, (batch, hop, inner_chans)."""
        return rows if self.trunk.electrodes is None else rows @ self.get_buffer("mixing")

    def tangent(self, run: Carries, rows: Tensor, first: Tensor) -> Tensor:
        """Return the tangent vectors of a hop whose first token has the index `first`."""
        config, bank = self.config, self.trunk.tokens.bank
        samples = run.carry("samples", rows).transpose(1, 2)
        fresh = bank.cross_spectra(samples, config.kernel_taps - 1, self.get_buffer("matrix")).flatten(2)
        tokens, window = fresh.shape[1], config.window_tokens
        spectra = run.carry("spectra", fresh) if window > 1 else fresh
        summed = torch.stack([spectra[:, place : place + window].sum(1) for place in range(tokens)], dim=1)
        index = first + torch.arange(tokens, device=rows.device)
        total = known_samples(index, config).clamp(min=1).to(rows.dtype)
        shape = (config.n_bands, config.inner_chans, config.inner_chans)
        return self.trunk.tokens.tangent((summed / total[:, None]).unflatten(2, shape))

    def mean(self, encoded: Tensor) -> Tensor:
        """Return the mean of the encoder's steps in each token, (batch, tokens, 4w)."""
        return encoded.unflatten(1, (encoded.shape[1] // self.each, self.each)).mean(2)

    def raised(self, state: Tensor) -> Tensor:
        """Return what is added to the encoder's steps, (batch, tokens, 4w)."""
        assert self.trunk.rise is not None
        risen: Tensor = self.trunk.rise(state)
        return risen

    def held(self, tokens: Tensor) -> Tensor:
        """Hold tokens, the one before the hop first, until the next one is complete, (batch, steps, 4w)."""
        before, now = tokens[:, :-1], tokens[:, 1:]
        return torch.stack([*[before] * (self.each - 1), now], dim=2).flatten(1, 2)
