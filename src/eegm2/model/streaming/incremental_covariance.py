"""What the covariance embedding adds to the layers of `incremental`: covariances, means, held tokens."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from eegm2.model.config import EEGM2Config
from eegm2.model.covariance.tokens import CovarianceTokens, known_samples
from eegm2.model.streaming.incremental import PoolState, zeroed


@dataclass(frozen=True)
class CovarianceState:
    """Past of the covariances.

    Attributes
    ----------
    index : int
        Samples seen.
    tail : Tensor, shape (batch, taps - 1 and up to a step less one, channels)
        Samples that later kernels still see.
    spectra : Tensor, shape (batch, window - 1, n_bands * channels²)
        Cross-spectra of the last steps.
    age : Tensor of int64, shape (batch, 1)
        Tokens of each batch item's own stream.
    """

    index: int
    tail: Tensor
    spectra: Tensor
    age: Tensor


class Covariances:
    """Tangent vectors of whole token steps, with the cross-spectra of the running window kept."""

    def __init__(self, tokens: CovarianceTokens, like: Tensor) -> None:
        self.tokens, self.like, self.config = tokens, like, tokens.config
        self.matrix = tokens.bank.matrix().detach()
        self.compiled = tokens.bank.compiled(like), tokens.compiled(like)
        self.shape = (self.config.n_bands, self.config.inner_chans, self.config.inner_chans)
        half = self.config.kernel_taps // (2 * self.config.token_step)  # tokens until all kernels see samples
        ages = torch.arange(self.config.window_tokens + half + 2, device=like.device)
        self.known = known_samples(ages, self.config).clamp_min(1).to(like.dtype)

    def start(self, batch: int) -> CovarianceState:
        """Return the state before the first sample."""
        size = self.config.n_bands * self.config.inner_chans**2
        tail = self.like.new_zeros(batch, self.config.kernel_taps - 1, self.config.inner_chans)
        spectra = self.like.new_zeros(batch, self.config.window_tokens - 1, size)
        return CovarianceState(0, tail, spectra, self.like.new_zeros(batch, 1, dtype=torch.int64))

    def step(
        self, state: CovarianceState, x: Tensor, *, last: bool = False
    ) -> tuple[Tensor, CovarianceState]:
        """Take (batch, samples, channels); return the tangent vectors of complete steps, and the state."""
        rows, past = torch.cat([state.tail, x], dim=1), self.config.kernel_taps - 1
        ready = (rows.shape[1] - past) // self.config.token_step
        index = state.index + x.shape[1]
        if not ready:
            return x.new_zeros(x.shape[0], 0, self.config.tangent_size), replace(
                state, index=index, tail=rows
            )
        used = ready * self.config.token_step
        seen = rows[:, : past + used].transpose(1, 2)
        bank, tangents = self.compiled
        fresh = bank(seen, past) if bank else self.tokens.bank.cross_spectra(seen, past, self.matrix)
        spectra = torch.cat([state.spectra, fresh.flatten(2)], dim=1)
        age = state.age if ready == 1 else state.age + torch.arange(ready, device=x.device)
        total = self.known[age.clamp_max(len(self.known) - 1)]  # from there on it stays
        tangent = (tangents or self.tokens.running)(spectra.unflatten(2, self.shape), total)
        kept = spectra[:, ready:].clone()
        return tangent, CovarianceState(index, rows[:, used:].clone(), kept, state.age + ready)

    def restart(self, state: CovarianceState, items: list[int], first: Tensor) -> CovarianceState:
        """Forget the past of some batch items."""
        tail, spectra, age = (zeroed(tensor, items) for tensor in (state.tail, state.spectra, state.age))
        return replace(state, tail=tail, spectra=spectra, age=age)


class MeanPool:
    """Mean of every `each` steps; steps that are left over at the end are dropped."""

    def __init__(self, like: Tensor, channels: int, config: EEGM2Config) -> None:
        self.like, self.channels, self.each = like, channels, config.token_step // 8

    def start(self, batch: int) -> PoolState:
        """Return the state before the first step."""
        return PoolState(0, self.like.new_zeros(batch, 0, self.channels))

    def step(self, state: PoolState, x: Tensor, *, last: bool = False) -> tuple[Tensor, PoolState]:
        """Take (batch, steps, channels); return (batch, complete means, channels) and the state."""
        rows = torch.cat([state.tail, x], dim=1)
        ready = rows.shape[1] // self.each
        y = rows[:, : ready * self.each].unflatten(1, (ready, self.each)).mean(2)
        return y, PoolState(state.index + x.shape[1], rows[:, ready * self.each :].clone())

    def restart(self, state: PoolState, items: list[int], first: Tensor) -> PoolState:
        """Return the state unchanged: streams begin at whole tokens."""
        return state


class Hold:
    """Tokens held until the next one is complete, zero before the first; a step waits for its token."""

    def __init__(self, like: Tensor, channels: int, config: EEGM2Config) -> None:
        self.like, self.channels, self.each = like, channels, config.token_step // 8

    def start(self, batch: int) -> PoolState:
        """Return the state before the first token."""
        return PoolState(0, self.like.new_zeros(batch, 1, self.channels))

    def step(
        self, state: PoolState, x: Tensor, *, last: bool = False, total: int = 0
    ) -> tuple[Tensor, PoolState]:
        """Take (batch, tokens, channels); return `each` steps per token, with `last` up to `total` in all."""
        rows = torch.cat([state.tail, x], dim=1)
        before, now = rows[:, :-1], rows[:, 1:]
        held = torch.stack([*[before] * (self.each - 1), now], dim=2).flatten(1, 2)
        index = state.index + x.shape[1]
        if last and total > index * self.each:
            rest = rows[:, -1:].expand(-1, total - index * self.each, -1)
            held = torch.cat([held, rest], dim=1)
        return held, PoolState(index, rows[:, -1:].clone())

    def restart(self, state: PoolState, items: list[int], first: Tensor) -> PoolState:
        """Forget the token of some batch items."""
        return replace(state, tail=zeroed(state.tail, items))
