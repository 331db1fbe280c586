"""What a mixer is: the layer over time inside a sequence block."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn


class Mixer(nn.Module):
    """Base of every layer that mixes over time; made as ``Mixer(channels, config)``.

    A subclass that declares `Options` is made as ``Mixer(channels, config, options)``.

    Attributes
    ----------
    causal : bool
        Whether an output depends on its own and earlier steps alone, and `forward` goes on from the state
        that it returned. Such a network can be streamed, another one cannot.
    Options : type, optional
        A frozen dataclass of what it can be told (``--mixer-option``, ``mixer_options``); its fields are made
        with `eegm2.option`.
    """

    causal: ClassVar[bool] = False
    Options: ClassVar[type[Any] | None] = None

    def forward(self, u: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """Mix over time; windows of a batch do not see each other.

        Parameters
        ----------
        u : Tensor, shape (batch, length, channels)
        state : tuple of Tensor, optional
            Of a causal mixer: what it returned after the steps before `u`, the batch first. None and zeros
            both mean the start of a recording.

        Returns
        -------
        y : Tensor, shape (batch, length, channels)
        state : tuple of Tensor, or None
            After `u`; None of a mixer that is not causal.
        """
        raise NotImplementedError
