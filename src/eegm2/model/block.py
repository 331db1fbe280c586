"""The residual block around a sequence mixer, and the attention mixer of S5."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from eegm2.errors import ConfigError
from eegm2.model.config import MIXERS, EEGM2Config, largest_divisor
from eegm2.model.mamba1 import Mamba1
from eegm2.model.mamba2 import GatedRMSNorm, Mamba2
from eegm2.model.mixer import Mixer
from eegm2.model.state import MambaState
from eegm2.ops import Kept, as_made, compiled_inference, compiled_products
from eegm2.plugins import is_plugin

if TYPE_CHECKING:
    from eegm2.ops.cpu.block import BlockWeights
    from eegm2.ops.cpu.selective import SelectiveWeights

    Compiled = BlockWeights | SelectiveWeights


class Attention(Mixer):
    """Multi-head self-attention over the whole window (S5); looks both ways, so it has no state."""

    def __init__(self, channels: int, config: EEGM2Config) -> None:
        super().__init__()
        heads = largest_divisor(channels, config.n_heads)
        self.mha = nn.MultiheadAttention(channels, heads, dropout=config.dropout, batch_first=True)

    def forward(self, u: Tensor, state: Any = None) -> tuple[Tensor, None]:
        """Mix over time; `u` is (batch, length, channels).

        Raises
        ------
        ConfigError
            If a state is given: attention over the whole window cannot be streamed.
        """
        if state is not None:
            raise ConfigError(
                "mixer 'attention' looks at the whole window and cannot continue from a state; use 'mamba2'"
            )
        y, _ = self.mha(u, u, u, need_weights=False)
        return y, None


class SequenceBlock(nn.Module):
    """A mixer with norm and residual: ``LayerNorm(mixer(u)) + u``, or ``LayerNorm(mixer(u) + u)``.

    Parameters
    ----------
    channels : int
        Channels of input and output.
    config : EEGM2Config
        Chooses the mixer and the norm order.

    Attributes
    ----------
    checkpointed : bool
        Keep nothing but the input for the gradient and compute the block again in the backward pass.
    checkpoint_windows : int
        Then compute so many windows of the batch at a time, so that only their inner signals exist together
        (several times the block's expanded channels); 0 takes the whole batch. Windows do not see each other.

    References
    ----------
    EEGM2, arXiv 2502.17873, section 3.2 (``norm_order="before_residual"``).
    """

    def __init__(self, channels: int, config: EEGM2Config) -> None:
        super().__init__()
        self.norm_first = config.norm_order == "before_residual"
        self.mixer: nn.Module = MIXERS.make(config.mixer, channels, config, options=config.mixer_options)
        if is_plugin(config.mixer):
            _refuse_other_output(self.mixer, channels, config.mixer)
        self.norm = nn.LayerNorm(channels)
        self.checkpointed = False
        self.checkpoint_windows = 0
        self.kept = Kept()

    def forward(self, u: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Return the block's output, (batch, length, channels), and its state after `u`."""
        if self.checkpointed and torch.is_grad_enabled():
            if self.checkpoint_windows and state is None:
                parts = u.split(self.checkpoint_windows)
                return torch.cat(
                    [checkpoint(self._output, part, use_reentrant=False) for part in parts]
                ), None
            result: tuple[Tensor, Any] = checkpoint(self._run, u, state, use_reentrant=False)
            return result
        return self._run(u, state)

    def _output(self, u: Tensor) -> Tensor:
        return self._run(u, None)[0]

    def _run(self, u: Tensor, state: Any) -> tuple[Tensor, Any]:
        compiled = self.compiled(u, state)
        if compiled is not None:
            y, *after = compiled(u, *(() if state is None else state.tensors()))
            return y, MambaState(*after)
        weights = self._weights()
        if state is None and isinstance(self.mixer, Mamba2) and weights and compiled_products(u, weights):
            from eegm2.ops.cpu.block_gradient import TrainedBlock

            y, *after = TrainedBlock.apply(u, self._options(), *weights)
            return y, MambaState(*after)
        y, state = self.mixer(u, state)
        return (self.norm(y) + u if self.norm_first else self.norm(y + u)), state

    def compiled(self, u: Tensor, state: MambaState | None = None) -> Compiled | None:
        """Return the block as the kernels for inference take it; None where those cannot take `u`."""
        weights = self._weights()
        if weights is None:
            return None
        if not compiled_inference(u, weights if state is None else (*weights, *state.tensors())):
            return None
        return self.kept.of(weights, lambda: self._laid_out(weights))

    def _weights(self) -> tuple[Tensor, ...] | None:
        """Return the parameters of a block with one of Mamba's mixers that is as it was made; else None."""
        mixer, norm = self.mixer, self.norm
        if isinstance(mixer, Mamba1):
            parts: tuple[nn.Module, ...] = (mixer.x_proj, mixer.dt_proj)
            kinds: tuple[type[nn.Module], ...] = (Mamba1, nn.Linear, nn.Linear)
        elif isinstance(mixer, Mamba2) and mixer.ngroups == 1:
            parts, kinds = (mixer.norm,), (Mamba2, GatedRMSNorm)
        else:
            return None
        parts = (mixer, *parts, mixer.in_proj, mixer.conv1d, mixer.out_proj, norm)
        if not all(map(as_made, parts, (*kinds, nn.Linear, nn.Conv1d, nn.Linear, nn.LayerNorm))):
            return None
        conv, last = mixer.conv1d, (mixer.out_proj.weight, norm.weight, norm.bias)
        assert conv.bias is not None
        first = (mixer.in_proj.weight, conv.weight, conv.bias)
        if isinstance(mixer, Mamba1):
            steps = (mixer.x_proj.weight, mixer.dt_proj.weight, mixer.dt_proj.bias)
            return *first, *steps, mixer.A_log, mixer.D, *last
        return *first, mixer.dt_bias, mixer.A_log, mixer.D, mixer.norm.weight, *last

    def _options(self) -> dict[str, Any]:
        mixer = self.mixer
        if not isinstance(mixer, Mamba2):
            return {"eps": self.norm.eps, "norm_first": self.norm_first}
        eps = (mixer.norm.eps, self.norm.eps)
        return {"d_state": mixer.d_state, "headdim": mixer.headdim, "eps": eps, "norm_first": self.norm_first}

    def _laid_out(self, weights: tuple[Tensor, ...]) -> Compiled:
        from eegm2.ops.cpu.block import BlockWeights
        from eegm2.ops.cpu.selective import SelectiveWeights

        make = BlockWeights.of if isinstance(self.mixer, Mamba2) else SelectiveWeights.of
        made: Compiled = make(*weights, **self._options())
        return made


def _refuse_other_output(mixer: nn.Module, channels: int, name: str) -> None:
    """Raise a ConfigError if a mixer that is not ours returns something else than :meth:`Mixer.forward`."""
    if any(tensor.is_meta for tensor in [torch.empty(0), *mixer.parameters(), *mixer.buffers()]):
        return
    given = torch.zeros(1, 4, channels)
    try:
        with torch.no_grad(), torch.random.fork_rng():
            found = mixer(given)
        good = isinstance(found, tuple) and len(found) == 2 and found[0].shape == given.shape
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ConfigError(f"mixer {name}: fails on (1, 4, {channels}): {reason}") from error
    if not good:
        first = found[0] if isinstance(found, tuple) else found
        raise ConfigError(
            f"mixer {name}: gave {tuple(getattr(first, 'shape', ()))} for (1, 4, {channels}), expected "
            "(y, state) with y of the same shape"
        )
