"""The whole network in a stream: exact, with memory constant in time.

Every layer looks a bounded number of samples ahead: the representation needs 9 samples after the last one
that it covers, the reconstruction at most 30 (7 and 28 with the kernel-3 embedding). Linear maps that
follow each other with nothing in between (embedding branches, their fusion and the first linear layer; the
last convolution and the output projection) are multiplied out once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from eegm2.errors import ConfigError
from eegm2.model.block import SequenceBlock
from eegm2.model.covariance.trunk import CovarianceTrunk
from eegm2.model.fused import embedding_weights, output_weights, weights
from eegm2.model.network import EEGM2, Encoder
from eegm2.model.streaming.incremental import Pool, SameConv, incremental_block
from eegm2.model.streaming.incremental_covariance import Covariances, Hold, MeanPool
from eegm2.model.streaming.incremental_decoder import Delay, LayerState, Upsample

#: Samples per step of the encoder.
STEP = 8


@dataclass(frozen=True)
class StreamState:
    """What the network remembers of the past.

    Attributes
    ----------
    position : int
        Samples taken since the start.
    layers : dict of str to LayerState
        State per layer.
    starts : tuple of int
        First sample of each batch item's own stream; later than 0 after a reset of that item.
    """

    position: int
    layers: dict[str, LayerState] = field(repr=False)
    starts: tuple[int, ...]


class StreamNetwork:
    """Incremental form of a trained network; holds weights only, the caller holds the state.

    Parameters
    ----------
    model : EEGM2
        Any preset with a Mamba mixer. Some weights are shared and some copied: build a new StreamNetwork when
        they change.
    n_times : int, optional
        Total number of samples, where known. Makes totals that are not divisible by 8 exact, because the
        interpolation of the offline network then depends on the total.
    reconstruct : bool
        False leaves mediator and decoder out.

    Raises
    ------
    ConfigError
        If the network cannot be streamed; the message says why.
    """

    def __init__(self, model: nn.Module, n_times: int | None = None, *, reconstruct: bool = True) -> None:
        check_streamable(model, reconstruct)
        assert isinstance(model, EEGM2)
        self.config = model.config
        self.n_times = n_times
        self.reconstructs = reconstruct
        self.layers: dict[str, tuple[int, Any]] = {}
        self.trunk = model.trunk
        self.mixing: Tensor | None = None
        with torch.no_grad():
            self._add_encoder(model.encoder)
            if model.trunk is not None:
                self._add_trunk(model.trunk)
            if reconstruct:
                self._add_decoder(model)

    def _add_encoder(self, encoder: Encoder) -> None:
        w = self.config.width
        with torch.no_grad():
            embedding = SameConv(*embedding_weights(encoder))
        self.like = embedding.matrix
        self.look_ahead_samples = 6 + embedding.look_ahead
        self.latency_samples = (27 if self.reconstructs else 6) + embedding.look_ahead
        self.layers |= {
            "embedding": (1, embedding),
            "block1": (1, incremental_block(encoder.block1)),
            "pool1": (1, Pool(self.like, w)),
            "conv2": (2, SameConv(*weights(encoder.conv2))),
            "pool2": (2, Pool(self.like, 2 * w)),
            "conv3": (4, SameConv(*weights(encoder.conv3))),
            "pool3": (4, Pool(self.like, 4 * w)),
        }

    def _add_trunk(self, trunk: CovarianceTrunk) -> None:
        config, raw = self.config, 4 * self.config.width
        if trunk.electrodes is not None:
            self.mixing = trunk.electrodes.mixing().detach().t().contiguous()
        both = torch.cat([trunk.tangent_linear.weight, trunk.raw_linear.weight], dim=1).detach()
        self.join_tokens = SameConv(both[:, :, None], trunk.tangent_linear.bias.detach())
        self.layers |= {
            "covariances": (1, Covariances(trunk.tokens, self.like)),
            "means": (8, MeanPool(self.like, raw, config)),
            "tokens": (config.token_step, Delay(self.like, config.tangent_size, raw)),
        }
        for place, block in enumerate(trunk.blocks):
            assert isinstance(block, SequenceBlock)
            self.layers[f"trunk{place}"] = (config.token_step, incremental_block(block))
        if self.reconstructs:
            self.latency_samples += config.token_step - STEP
            self.layers["hold"] = (config.token_step, Hold(self.like, raw, config))
            self.layers["held"] = (8, Delay(self.like, raw, raw))

    def _add_decoder(self, model: EEGM2) -> None:
        assert model.mediator is not None
        assert model.decoder is not None
        w, decoder = self.config.width, model.decoder
        self.linear_in, self.linear_out = (
            SameConv(layer.weight.detach()[:, :, None], layer.bias.detach())
            for layer in (model.mediator.linear_in, model.mediator.linear_out)
        )
        self.layers["mediator"] = (8, incremental_block(model.mediator.block))
        for level, rate, channels in ((3, 4, 4 * w), (2, 2, 4 * w), (1, 1, 2 * w)):
            lengths = None if self.n_times is None else (self.n_times // (2 * rate), self.n_times // rate)
            self.layers[f"upsample{level}"] = (2 * rate, Upsample(self.like, channels, lengths))
            self.layers[f"skip{level}"] = (rate, Delay(self.like, (1, 2, 4)[level - 1] * w, channels))
        self.layers["deconv3"] = (4, SameConv(*weights(decoder.conv3)))
        self.layers["deblock3"] = (4, incremental_block(decoder.block3))
        self.layers["deconv2"] = (2, SameConv(*weights(decoder.conv2)))
        self.layers["deblock2"] = (2, incremental_block(decoder.block2))
        with torch.no_grad():
            self.layers["output"] = (1, SameConv(*output_weights(decoder.conv1, decoder.output)))

    def start(self, batch: int) -> StreamState:
        """Return the state before the first sample of `batch` streams."""
        layers = {name: layer.start(batch) for name, (_, layer) in self.layers.items()}
        return StreamState(0, layers, (0,) * batch)

    def restart(self, state: StreamState, items: list[int]) -> StreamState:
        """Let the streams of some batch items begin anew with the next sample.

        Raises
        ------
        ConfigError
            If the total length is fixed, or the position is not a whole step of the representation.
        """
        if self.n_times is not None:
            raise ConfigError("reset: got some items of a stream whose n_times is fixed; reset all of them")
        step = self.config.step_samples
        if state.position % step:
            raise ConfigError(
                f"reset: the stream is at sample {state.position}, expected a multiple of {step}; "
                f"push {step - state.position % step} more samples first, or stream these items on their own"
            )
        starts = tuple(state.position if i in set(items) else s for i, s in enumerate(state.starts))
        return replace(state, starts=starts)

    @torch.no_grad()
    def step(
        self, state: StreamState, x: Tensor, *, last: bool = False
    ) -> tuple[Tensor, Tensor | None, StreamState]:
        """Take the next samples and return what can be known by then.

        Parameters
        ----------
        state : StreamState
            Left as it is.
        x : Tensor, shape (batch, n_chans, k)
            Next samples, any k >= 0.
        last : bool
            True at the end of the stream: everything left is returned.

        Returns
        -------
        representation : Tensor, shape (batch, representation_channels, steps ready)
        reconstruction : Tensor, shape (batch, n_chans, samples ready), or None
        state : StreamState
        """
        run = _Run(self, state, x.shape[2], last)
        rows = x.transpose(1, 2) if self.mixing is None else x.transpose(1, 2) @ self.mixing
        x1 = run("block1", run("embedding", rows))
        x2 = run("conv2", run("pool1", x1))
        x3 = run("conv3", run("pool2", x2))
        representation = encoded = run("pool3", x3)
        reconstruction = None
        if self.trunk is not None:
            representation = self._tokens(run, rows, encoded)
            if self.reconstructs:
                encoded = self._raised(run, encoded, representation)
        if self.reconstructs:
            y = self.linear_out.apply(run("mediator", self.linear_in.apply(encoded)))
            y = run("deblock3", run("deconv3", run.join(3, x3, y)))
            y = run("deblock2", run("deconv2", run.join(2, x2, y)))
            reconstruction = run("output", run.join(1, x1, y)).transpose(1, 2)
        done = StreamState(state.position + x.shape[2], run.layers, state.starts)
        return representation.transpose(1, 2), reconstruction, done

    def _tokens(self, run: _Run, rows: Tensor, encoded: Tensor) -> Tensor:
        """Return states and tangent vectors of the tokens that are complete, (batch, ready, channels)."""
        assert self.trunk is not None
        joined = run.meet("tokens", run("covariances", rows), run("means", encoded))
        if joined.shape[1] == 0:
            return joined.new_zeros(joined.shape[0], 0, self.config.representation_channels)
        tangent, raw = joined.split([self.config.tangent_size, 4 * self.config.width], dim=2)
        normed = torch.cat([self.trunk.tangent_norm(tangent), self.trunk.raw_norm(raw)], dim=2)
        state = self.join_tokens.apply(normed)
        for place in range(len(self.trunk.blocks)):
            state = run(f"trunk{place}", state)
        return torch.cat([state, tangent], dim=2)

    def _raised(self, run: _Run, encoded: Tensor, tokens: Tensor) -> Tensor:
        """Add what the trunk says to the encoder's steps whose token is complete."""
        assert self.trunk is not None
        assert self.trunk.rise is not None
        state = self.trunk.rise(tokens[..., : self.config.trunk_channels])
        held = run("hold", state, total=run.total // STEP)
        both = run.meet("held", encoded, held)
        return both[..., : encoded.shape[2]] + both[..., encoded.shape[2] :]


class _Run:
    """One step through the layers: looks up each layer's state and keeps the new one."""

    def __init__(self, network: StreamNetwork, state: StreamState, steps: int, last: bool) -> None:
        self.network, self.last = network, last
        self.layers = dict(state.layers)
        self.total = state.position + steps
        self.starts = sorted({s for s in state.starts if s > 0})
        self.items = {s: [i for i, own in enumerate(state.starts) if own == s] for s in self.starts}

    def __call__(self, name: str, x: Tensor, **options: Any) -> Tensor:
        """Put `x` through a layer, beginning batch items anew where their streams start."""
        rate, layer = self.network.layers[name]
        state, outputs = self.layers[name], []
        for start in self.starts:
            cut = start // rate - state.index
            if 0 <= cut < x.shape[1]:
                y, state = layer.step(state, x[:, :cut])
                outputs.append(y)
                x = x[:, cut:]
                state = layer.restart(state, self.items[start], x[:, :1])
        y, self.layers[name] = layer.step(state, x, last=self.last, **options)
        return torch.cat([*outputs, y], dim=1) if outputs else y

    def join(self, level: int, skip: Tensor, y: Tensor) -> Tensor:
        """Interpolate `y` to a skip connection's rate and join both."""
        rate = self.network.layers[f"skip{level}"][0]
        return self.meet(f"skip{level}", skip, self(f"upsample{level}", y, total=self.total // rate))

    def meet(self, name: str, one: Tensor, other: Tensor) -> Tensor:
        """Put steps of two signals behind each other, each waiting for its partner."""
        joined, self.layers[name] = self.network.layers[name][1].join(self.layers[name], one, other)
        return joined


def check_streamable(model: nn.Module, reconstruct: bool) -> None:
    """Refuse networks that look at the whole window, with the reason."""
    if not isinstance(model, EEGM2):
        raise ConfigError(
            f"streaming: got a {type(model).__name__}; only EEGM2 with a Mamba mixer can be streamed "
            "(the U-Net pools over 16 samples and has no bounded incremental form here)"
        )
    if not model.causal:
        preset = " (preset s5)" if model.config.mixer == "attention" else ""
        raise ConfigError(
            f"streaming: mixer '{model.config.mixer}'{preset} looks at the whole window and cannot be "
            "streamed; use eegm2, light, s1, s3 or s4"
        )
    if reconstruct and not model.config.decoder:
        raise ConfigError(
            "streaming: output is 'reconstruction' but this model has no decoder; use output='representation'"
        )
