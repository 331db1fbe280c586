"""Long inputs without gradients in pieces of time: memory between input and output does not grow with them.

Sequence blocks hand over their state, and are cut where their kernel stores it anyway: nothing is computed in
another way than of the whole, and what the compiled kernels give is the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from eegm2.model.config import MIN_TIMES, EEGM2Config
from eegm2.model.covariance.tokens import known_samples
from eegm2.model.covariance.trunk import CovarianceTrunk, pooled
from eegm2.model.fused import pointwise
from eegm2.model.layers import BRANCH_KERNELS, pool
from eegm2.model.stretches import WHOLE, Blocks, Join, Rows, over_pairs
from eegm2.ops import compiled_inference

#: Samples of a piece, of all windows together, and what the samples of each are a multiple of. Smaller pieces
#: cost more than the cache that they fit into saves.
SAMPLES, LEAST = 12_288, 8 * WHOLE


class Network(Protocol):
    """What pieces ask of a network, that is of `eegm2.EEGM2`."""

    config: EEGM2Config
    encoder: Any
    trunk: CovarianceTrunk | None
    mediator: Any
    decoder: Any

    @property
    def causal(self) -> bool:
        """Whether its mixer hands over a state."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return its weights."""

    def modules(self) -> Iterator[nn.Module]:
        """Return itself, and its layers."""


def in_pieces(network: Network, x: Tensor, spread: Tensor | None, *, reconstruct: bool) -> Tensor | None:
    """Return what ``network(x)`` or ``network.encode(x)`` returns; None where it is better taken as a whole.

    Parameters
    ----------
    x : Tensor, shape (batch, n_chans, n_times)
        Checked.
    spread : Tensor, optional
        As of :meth:`EEGM2.forward`.
    reconstruct : bool
        Whether the decoder's output is asked for, or the representation.
    """
    batch, _, n_times = x.shape
    together = min(batch, max(SAMPLES // n_times, torch.get_num_threads()))
    longest = max(SAMPLES // (together * LEAST), 1) * LEAST
    if n_times <= 2 * longest or not _possible(network, x, spread):
        return None
    from eegm2.ops.cpu.runtime import empty

    size = -(-n_times // (-(-n_times // longest) * LEAST)) * LEAST
    config = network.config
    steps = n_times if reconstruct else n_times // config.step_samples
    channels = config.n_chans if reconstruct else config.representation_channels
    result = empty((batch, steps, channels), x.dtype)
    for first in range(0, batch, together):
        chosen, done = slice(first, first + together), 0
        own = spread if spread is None or spread.dim() == 2 else spread[chosen]
        for rows in _Pass(network, x[chosen], own, reconstruct=reconstruct).pieces(size):
            result[chosen, done : done + rows.shape[1]] = rows
            done += rows.shape[1]
    return result.transpose(1, 2)


def _possible(network: Network, x: Tensor, spread: Tensor | None) -> bool:
    """Return whether the mixer hands over a state, compiled kernels can run, and nobody looks at layers."""
    if not network.causal or not compiled_inference(x, (*network.parameters(), spread)):
        return False
    layers = list(network.modules())[1:]
    return not any(layer._forward_hooks or layer._forward_pre_hooks for layer in layers)


class _Pass:
    """One pass of a network over some windows."""

    def __init__(self, network: Network, x: Tensor, spread: Tensor | None, *, reconstruct: bool) -> None:
        self.network, self.x, self.spread, self.n_times = network, x, spread, x.shape[-1]
        self.x1, self.x2, self.x3, self.encoded = Rows(), Rows(), Rows(), Rows()
        self.block1 = Blocks(network.encoder.block1)
        trunk = network.trunk
        self.tokens = None if trunk is None else _Tokens(trunk, self.encoded, raises=reconstruct)
        self.decoding = _Decoding(network, (self.x1, self.x2, self.x3), self.n_times) if reconstruct else None

    def pieces(self, size: int) -> Iterator[Tensor]:
        """Yield the output, (batch, steps, channels), from the first step to the last."""
        for begin in range(0, self.n_times, size):
            end = min(begin + size, self.n_times)
            last = end == self.n_times
            for rows in self._encoded(begin, end, last):
                if self.tokens is None and self.decoding is None:
                    yield rows
                self.encoded.add(rows)
            if self.tokens is not None:
                rows = self.tokens(self._input, end, last)
                if self.decoding is None:
                    yield rows
            if self.decoding is not None:
                held = self.encoded
                yield self.decoding(self.tokens.raised(last) if self.tokens else held.take(held.stop), last)
            self._forget()

    def _input(self, begin: int, end: int) -> Tensor:
        """Return some samples of the channels that the network works on."""
        x, trunk = self.x[..., begin:end], self.network.trunk
        return x if trunk is None else trunk.virtual(x, self.spread)

    def _encoded(self, begin: int, end: int, last: bool) -> Iterator[Tensor]:
        """Take the encoder's levels as far as can be known, and yield what comes out at the end."""
        encoder, side = self.network.encoder, max(BRANCH_KERNELS) // 2
        low = max(begin - side, 0)
        u = encoder.embed(self._input(low, min(end + side, self.n_times)))
        self.x1.add(self.block1(u[:, begin - low : end - low], last))
        for source, conv, target in ((self.x1, encoder.conv2, self.x2), (self.x2, encoder.conv3, self.x3)):
            side, layer = conv.kernel_size[0] // 2, partial(conv, pooled=True)
            for rows in [*over_pairs(source, layer, side, target.stop, last)]:
                target.add(rows)
        yield from over_pairs(self.x3, pool, 0, self.encoded.stop, last)

    def _forget(self) -> None:
        """Drop the steps that neither the next level nor the decoder needs."""
        joins = None if self.decoding is None else self.decoding.joins
        ahead = (2 * self.x2.stop - 2, 2 * self.x3.stop - 2, 2 * self.encoded.stop)
        if self.tokens is None and joins is None:
            self.encoded.drop(self.encoded.stop)
        for place, rows in enumerate((self.x1, self.x2, self.x3)):
            rows.drop(ahead[place] if joins is None else min(ahead[place], joins[place].needs))


class _Decoding:
    """Mediator and decoder on what the encoder gives, as far as can be known."""

    def __init__(self, network: Network, skips: tuple[Rows, Rows, Rows], n_times: int) -> None:
        assert network.mediator is not None
        assert network.decoder is not None
        self.mediator, decoder = network.mediator, network.decoder
        convs = ((decoder.conv1, decoder.output), (decoder.conv2,), (decoder.conv3,))
        self.joins = [
            Join(skip, (n_times // (2 << place), n_times // (1 << place)), kept, *layers)
            for place, (skip, kept, layers) in enumerate(zip(skips, decoder.kept, convs))
        ]
        self.blocks = [Blocks(block) for block in (decoder.block2, decoder.block3, network.mediator.block)]

    def __call__(self, rows: Tensor, last: bool) -> Tensor:
        """Take the next steps of the representation and return the samples that are ready."""
        mediator, (join1, join2, join3) = self.mediator, self.joins
        block2, block3, block = self.blocks
        rows = block(pointwise(mediator.linear_in, rows, mediator.kept_in), last)
        rows = join3(pointwise(mediator.linear_out, rows, mediator.kept_out), last)
        return join1(block2(join2(block3(rows, last), last), last), last)


class _Tokens:
    """The trunk over covariance tokens: what it gives, and where it `raises` what it adds to the encoder."""

    def __init__(self, trunk: CovarianceTrunk, encoded: Rows, *, raises: bool) -> None:
        self.trunk, self.encoded, self.config, self.raises = trunk, encoded, trunk.config, raises
        self.each = self.config.token_step // MIN_TIMES
        self.blocks, self.done, self.told = Blocks(*trunk.blocks), 0, 0
        self.spectra, self.tangents, self.risen = Rows(), Rows(), Rows()

    def __call__(self, samples: Callable[[int, int], Tensor], end: int, last: bool) -> Tensor:
        """Return state and tangent vector of the tokens that are ready, (batch, tokens, channels).

        Parameters
        ----------
        samples : callable
            Returns inner channels from one sample to before another.
        end : int
            Samples that are there.
        """
        ready = min(self.encoded.stop // self.each, end // self.config.token_step)
        if ready > self.done:
            raw = self.encoded.between(self.done * self.each, ready * self.each).transpose(1, 2)
            tangent = self._tangents(samples, ready)
            self.tangents.add(tangent)
            states = self.blocks(self.trunk.join(tangent, pooled(raw, self.config)), last)
            self.done = ready
        else:  # none is complete: those that wait for a whole number may still be told to come
            nothing = self.encoded.between(self.encoded.stop, self.encoded.stop)
            self.tangents.add(nothing.new_zeros(nothing.shape[0], 0, self.config.tangent_size))
            states = self.blocks(nothing.new_zeros(nothing.shape[0], 0, self.config.trunk_channels), last)
        if self.raises:
            self._rise(states)
        else:
            self.encoded.drop(ready * self.each)
        known = self.tangents.take(self.tangents.first + states.shape[1])
        return torch.cat([states, known], dim=2)

    def _tangents(self, samples: Callable[[int, int], Tensor], ready: int) -> Tensor:
        """Return the tangent vectors of the tokens up to `ready`."""
        config, bank = self.config, self.trunk.tokens.bank
        begin = self.done * config.token_step
        low = max(begin - config.kernel_taps + 1, 0)
        self.spectra.add(bank.cross_spectra(samples(low, ready * config.token_step), begin - low))
        spectra = self.spectra.between(self.spectra.first, ready)
        self.spectra.drop(ready - config.window_tokens + 1)
        return self.trunk.tokens.running(spectra, known_samples(torch.arange(self.done, ready)[None], config))

    def _rise(self, states: Tensor) -> None:
        """Keep what tokens add to the encoder's steps; before the first there is nothing to add."""
        assert self.trunk.rise is not None
        if not self.risen.stop:
            self.risen.add(states.new_zeros(states.shape[0], 1, 4 * self.config.width))
        self.risen.add(self.trunk.rise(states))

    def raised(self, last: bool) -> Tensor:
        """Return the encoder's steps whose token is complete, and what it adds to them."""
        ready = self.encoded.stop
        if not last:
            ready = max(min(ready, self.risen.stop * self.each - 1), self.told)
        token = (torch.arange(self.told, ready) + 1) // self.each
        held = self.risen.between(self.risen.first, self.risen.stop)[:, token - self.risen.first]
        rows = self.encoded.between(self.told, ready) + held
        self.told = ready
        self.encoded.drop(min(ready, self.done * self.each))
        self.risen.drop((ready + 1) // self.each)
        return rows
