"""The residual block around a sequence mixer, and the attention mixer of S5."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from eegm2.errors import ConfigError
from eegm2.model.config import MIXERS, EEGM2Config, largest_divisor
from eegm2.model.mixer import Mixer
from eegm2.plugins import is_plugin


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
        y, state = self.mixer(u, state)
        return (self.norm(y) + u if self.norm_first else self.norm(y + u)), state


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
