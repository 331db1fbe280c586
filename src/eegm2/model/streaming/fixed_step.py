"""One streaming step of fixed size as a pure function of tensors: what is exported to other runtimes.

A step takes `hop` samples (a multiple of 8), the position of the first of them, the end of the stream and
the states, and returns outputs that lag by a fixed delay. Shapes never change. Every layer knows the absolute
index of what it is given; what lies before the start or behind the end is replaced by that layer's own
padding and leaves the mixers' states alone, so that start and end are exact too.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eegm2.errors import ConfigError
from eegm2.model.block import SequenceBlock
from eegm2.model.fused import embedding_weights, output_weights, weights
from eegm2.model.mamba1 import Mamba1
from eegm2.model.mamba2 import Mamba2
from eegm2.model.network import EEGM2
from eegm2.model.streaming.fixed_step_covariance import CovarianceStep
from eegm2.model.streaming.fixed_step_mixers import mamba1_block, mamba2_block
from eegm2.model.streaming.stream import check_streamable


@dataclass
class _Signal:
    """A block of steps (batch, steps, channels) at 1/rate of the sampling rate, `lag` steps late."""

    value: Tensor
    rate: int
    lag: int


@dataclass
class _Pass:
    """One pass through the layers: time, the states that come in and those that go out."""

    position: Tensor
    end: Tensor
    states: dict[str, Tensor]
    after: dict[str, Tensor] = field(default_factory=dict)

    def index(self, signal: _Signal) -> Tensor:
        """Absolute index of each step of a signal, shape (steps,)."""
        steps = torch.arange(signal.value.shape[1], device=signal.value.device)
        return steps + (self.position // signal.rate - signal.lag)

    def exists(self, signal: _Signal) -> Tensor:
        """Whether each step lies between start and end, shape (steps, 1)."""
        index = self.index(signal)
        return ((index >= 0) & (index < self.end // signal.rate))[:, None]

    def carry(self, name: str, x: Tensor) -> Tensor:
        """Put what was kept of the past before `x` and keep the last steps of both."""
        kept = self.states[name]
        rows = torch.cat([kept, x], dim=1)
        self.after[name] = rows[:, rows.shape[1] - kept.shape[1] :]
        return rows


class StreamStep(nn.Module):
    """The streaming step of a network.

    Parameters
    ----------
    model : EEGM2
        Any preset with a Mamba mixer.
    hop : int
        Samples per step, a positive multiple of 8, and of a token with the covariance embedding.
    reconstruct : bool
        False leaves mediator and decoder out.

    Attributes
    ----------
    state_shapes : dict of str to tuple of int
        Shape of every state without the batch axis; all begin as zeros.
    delay_samples, delay_steps : int
        The first reconstructed sample of a step has index ``position - delay_samples``, its first
        representation step ``position / step_samples - delay_steps``; negative ones do not exist.

    Raises
    ------
    ConfigError
        If the model cannot be streamed or `hop` is not a whole number of steps.
    """

    def __init__(self, model: nn.Module, hop: int = 32, *, reconstruct: bool = True) -> None:
        super().__init__()
        check_streamable(model, reconstruct)
        assert isinstance(model, EEGM2)
        step = model.config.step_samples
        if hop < step or hop % step:
            raise ConfigError(f"hop: got {hop} samples, expected a positive multiple of {step}")
        self.hop, self.reconstructs, self.config = hop, reconstruct, model.config
        self.delay_samples = 0
        self.state_shapes: dict[str, tuple[int, ...]] = {}
        with torch.no_grad():
            self._convolution("embedding", *embedding_weights(model.encoder))
            self._convolution("conv2", *weights(model.encoder.conv2))
            self._convolution("conv3", *weights(model.encoder.conv3))
            blocks: dict[str, nn.Module] = {"block1": model.encoder.block1}
            if reconstruct and model.mediator is not None and model.decoder is not None:
                self.linear_in, self.linear_out = model.mediator.linear_in, model.mediator.linear_out
                blocks |= {
                    "mediator": model.mediator.block,
                    "deblock3": model.decoder.block3,
                    "deblock2": model.decoder.block2,
                }
                self._convolution("deconv3", *weights(model.decoder.conv3))
                self._convolution("deconv2", *weights(model.decoder.conv2))
                self._convolution("output", *output_weights(model.decoder.conv1, model.decoder.output))
            if model.trunk is not None:
                blocks |= {f"trunk{place}": block for place, block in enumerate(model.trunk.blocks)}
                self.covariance = CovarianceStep(model.trunk)
        self.blocks = nn.ModuleDict(blocks)
        self._set_state_shapes()

    def _convolution(self, name: str, weight: Tensor, bias: Tensor) -> None:
        """Keep a convolution as the matrix over rows of neighbouring steps."""
        kernel, channels = weight.shape[2], weight.shape[1]
        self.register_buffer(f"{name}_matrix", weight.permute(0, 2, 1).reshape(weight.shape[0], -1).clone())
        self.register_buffer(f"{name}_bias", bias)
        self.state_shapes[name] = (kernel - 1, channels)

    def _set_state_shapes(self) -> None:
        """Derive delays and the sizes of what the other layers keep."""
        w = self.config.width
        lag1 = self.state_shapes["embedding"][0] // 2
        lag2 = (lag1 + lag1 % 2) // 2 + 1
        lag3 = (lag2 + lag2 % 2) // 2 + 1
        self.delay_steps = (lag3 + lag3 % 2) // 2
        for name, lag, channels in (("pool1", lag1, w), ("pool2", lag2, 2 * w), ("pool3", lag3, 4 * w)):
            if lag % 2:
                self.state_shapes[name] = (1, channels)
        encoded_lag = self.delay_steps
        if self.config.embedding == "covariance":
            self.state_shapes |= self.covariance.state_shapes(encoded_lag, self.reconstructs)
            self.delay_steps = self.covariance.delay_tokens(encoded_lag)
            encoded_lag = self.delay_steps * self.covariance.each
        if self.reconstructs:
            lag = encoded_lag
            levels = ((3, lag3, 4 * w, 4 * w), (2, lag2, 4 * w, 2 * w), (1, lag1, 2 * w, w))
            for level, skip_lag, channels, skip_channels in levels:
                self.state_shapes[f"upsample{level}"] = (1, channels)
                self.state_shapes[f"skip{level}"] = (2 * lag + 1 - skip_lag, skip_channels)
                lag = 2 * lag + 2
            self.delay_samples = lag
        for name, block in self.blocks.items():
            assert isinstance(block, SequenceBlock)
            mixer = block.mixer
            assert isinstance(mixer, Mamba1 | Mamba2)
            ssm = (mixer.n_heads, mixer.headdim) if isinstance(mixer, Mamba2) else (mixer.d_inner,)
            self.state_shapes[f"{name}.conv"] = (mixer.d_conv - 1, mixer.conv1d.in_channels)
            self.state_shapes[f"{name}.ssm"] = (*ssm, mixer.d_state)

    def initial_states(self, batch: int) -> list[Tensor]:
        """Return the states before the first step, in the order of ``state_shapes``."""
        like = self.get_buffer("embedding_matrix")
        return [like.new_zeros(batch, *shape) for shape in self.state_shapes.values()]

    def forward(self, x: Tensor, position: Tensor, end: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """Take one step.

        Parameters
        ----------
        x : Tensor, shape (batch, n_chans, hop)
            The next samples; what lies at or behind `end` is ignored.
        position : Tensor of int64, shape ()
            Index of the first of them, a multiple of 8.
        end : Tensor of int64, shape ()
            Number of samples of the whole stream; a large number while it is not known.
        *states : Tensor
            In the order of ``state_shapes``.

        Returns
        -------
        tuple of Tensor
            Representation (batch, representation_channels, hop / step_samples), then the reconstruction
            (batch, n_chans, hop) unless left out, the next position, and the states after the step.
        """
        run = _Pass(position, end, dict(zip(self.state_shapes, states)))
        rows = x.transpose(1, 2)
        if self.config.embedding == "covariance":
            rows = self.covariance.virtual(rows)
        signal = self._conv(run, "embedding", _Signal(rows, 1, 0))
        x1 = self._block(run, "block1", signal)
        x2 = self._conv(run, "conv2", self._pool(run, "pool1", x1))
        x3 = self._conv(run, "conv3", self._pool(run, "pool2", x2))
        encoded = representation = self._pool(run, "pool3", x3)
        if self.config.embedding == "covariance":
            encoded, representation = self._tokens(run, rows, encoded)
        outputs = [representation.value.transpose(1, 2)]
        if self.reconstructs:
            signal = _Signal(self.linear_in(encoded.value), encoded.rate, encoded.lag)
            signal = self._block(run, "mediator", signal)
            signal = _Signal(self.linear_out(signal.value), signal.rate, signal.lag)
            signal = self._conv(run, "deconv3", self._join(run, 3, x3, signal))
            signal = self._conv(run, "deconv2", self._join(run, 2, x2, self._block(run, "deblock3", signal)))
            signal = self._conv(run, "output", self._join(run, 1, x1, self._block(run, "deblock2", signal)))
            outputs.append(signal.value.transpose(1, 2))
        after = [run.after[name] for name in self.state_shapes]
        return (*outputs, position + self.hop, *after)

    def _tokens(self, run: _Pass, rows: Tensor, encoded: _Signal) -> tuple[_Signal, _Signal]:
        """Return the encoder's steps, delayed and with what the trunk says, and states and tangents."""
        part, step = self.covariance, self.config.token_step
        steps, lag = encoded.value.shape[1], part.delay_tokens(encoded.lag)
        delayed = encoded.value if encoded.lag == lag * part.each else run.carry("means", encoded.value)
        delayed = delayed[:, :steps]
        first = run.position // step
        tangent = part.tangent(run, rows, first)
        tangent = run.carry("tangents", tangent)[:, : tangent.shape[1]] if lag else tangent
        signal = _Signal(part.trunk.join(tangent, part.mean(delayed)), step, lag)
        for place in range(len(part.trunk.blocks)):
            signal = self._block(run, f"trunk{place}", signal)
        if self.reconstructs:
            risen = torch.where(run.exists(signal), part.raised(signal.value), 0.0)
            held = run.carry("hold", risen)
            delayed = delayed + part.held(held)
        tokens = _Signal(torch.cat([signal.value, tangent], dim=2), step, lag)
        return _Signal(delayed, encoded.rate, lag * part.each), tokens

    def _conv(self, run: _Pass, name: str, signal: _Signal) -> _Signal:
        """Convolve; what does not exist is zero padding."""
        x = torch.where(run.exists(signal), signal.value, 0.0)
        kernel = self.state_shapes[name][0] + 1
        rows, steps = run.carry(name, x), x.shape[1]
        taps = torch.cat([rows[:, j : j + steps] for j in range(kernel)], dim=2)
        y = F.linear(taps, self.get_buffer(f"{name}_matrix"), self.get_buffer(f"{name}_bias"))
        return _Signal(y, signal.rate, signal.lag + kernel // 2)

    def _pool(self, run: _Pass, name: str, signal: _Signal) -> _Signal:
        """Take the maximum of pairs, waiting one step where the lag is odd."""
        lag, x = signal.lag, signal.value
        steps = x.shape[1]
        if lag % 2:
            x, lag = run.carry(name, x)[:, :steps], lag + 1
        pairs = x.unflatten(1, (steps // 2, 2))
        return _Signal(torch.maximum(pairs[:, :, 0], pairs[:, :, 1]), 2 * signal.rate, lag // 2)

    def _block(self, run: _Pass, name: str, signal: _Signal) -> _Signal:
        """Apply a sequence block; steps that do not exist leave its state as it is."""
        block, exists = self.blocks[name], run.exists(signal)
        assert isinstance(block, SequenceBlock)
        u = torch.where(exists, signal.value, 0.0)
        conv, ssm = run.states[f"{name}.conv"], run.states[f"{name}.ssm"]
        if isinstance(block.mixer, Mamba2):
            y, conv, ssm = mamba2_block(block.mixer, u, exists, conv, ssm)
        else:
            assert isinstance(block.mixer, Mamba1)
            y, conv, ssm = mamba1_block(block.mixer, u, exists, conv, ssm)
        run.after[f"{name}.conv"], run.after[f"{name}.ssm"] = conv, ssm
        y = block.norm(y) + u if block.norm_first else block.norm(y + u)
        return _Signal(y, signal.rate, signal.lag)

    def _join(self, run: _Pass, level: int, skip: _Signal, signal: _Signal) -> _Signal:
        """Interpolate to twice the rate, clamped at start and end, and join the delayed skip connection."""
        name = f"upsample{level}"
        rows = torch.cat([run.states[name], signal.value], dim=1)
        first = run.position // signal.rate - signal.lag - 1
        index = first + torch.arange(rows.shape[1], device=rows.device)
        last = run.end // signal.rate - 1
        nearest = torch.minimum(index.clamp(min=0), last) - first
        rows = rows.index_select(1, nearest.clamp(0, rows.shape[1] - 1))
        run.after[name] = rows[:, rows.shape[1] - 1 :]
        before, now = rows[:, :-1], rows[:, 1:]
        pairs = torch.stack([0.75 * before + 0.25 * now, 0.25 * before + 0.75 * now], dim=2)
        delayed = run.carry(f"skip{level}", skip.value)[:, : skip.value.shape[1]]
        joined = torch.cat([delayed, pairs.flatten(1, 2)], dim=2)
        return _Signal(joined, skip.rate, 2 * signal.lag + 1)
