"""Networks as the oscillatory objective sees them: channels to predict on, and a state for every patch."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from eegm2.data.electrodes import Positions
from eegm2.model.covariance.tokens import evidence
from eegm2.training.objectives.montages import Montages


class TokenView(nn.Module):
    """A network with covariance tokens: time is hidden by its learnt token, electrodes are left out.

    Parameters
    ----------
    network : EEGM2
        With its first weights; a copy of its virtual channels stays for the targets.
    ch_names : sequence of sequence of str
        Channels of each store.
    positions : mapping, optional
        Places of electrodes that no table knows.
    """

    def __init__(
        self, network: Any, ch_names: Sequence[Sequence[str]], positions: Positions | None = None
    ) -> None:
        super().__init__()
        config = network.config
        self.step, self.size, self.n_chans = config.token_step, config.trunk_channels, config.inner_chans
        electrodes = network.trunk.electrodes
        self.any_electrodes = electrodes is not None
        self.electrodes = copy.deepcopy(electrodes).requires_grad_(False) if electrodes is not None else None
        self.montages = Montages(ch_names, config.harmonics_order, positions)

    def inner(self, x: Tensor, store_number: int) -> Tensor:
        """Return the channels that targets are of, (batch, n_chans, time)."""
        return x if self.electrodes is None else self.electrodes(x, self.montages.spread(store_number))

    def states(
        self, model: Any, x: Tensor, store_number: int, kept: Tensor | None, hidden: Tensor | None
    ) -> Tensor:
        """Return the network's states, (batch, n_steps, size).

        Parameters
        ----------
        model : EEGM2
        x : Tensor, shape (batch, n_chans, time)
        store_number : int
        kept : Tensor of bool, shape (batch, n_chans), optional
            Channels that it sees; None: all.
        hidden : Tensor of bool, shape (batch, n_steps), optional
            Steps that it does not see.
        """
        if not self.any_electrodes:
            seen = x if kept is None else x * kept[..., None]
            return model.tokens(seen, hidden=hidden).state
        return model.tokens(x, self.montages.spread(store_number, kept), hidden).state

    def pool(self, states: Tensor, config: Any) -> Tensor:
        """Return the mean state of each window, weighted as features are, (batch, size)."""
        known = evidence(config, 0, states.shape[1]).to(states)
        return (states * (known / known.sum())[:, None]).sum(1)


class EncoderView(nn.Module):
    """A network without tokens, by its encoder: what is hidden is zero; targets are of its channels."""

    step = 8
    any_electrodes = False

    def __init__(
        self,
        network: Any,
        ch_names: Sequence[Sequence[str]],
        positions: Positions | None = None,
        *,
        places: bool,
    ) -> None:
        super().__init__()
        self.size, self.n_chans = network.config.representation_channels, network.config.n_chans
        self.montages = Montages(ch_names, 1, positions) if places else None

    def inner(self, x: Tensor, store_number: int) -> Tensor:
        """Return the channels themselves."""
        return x

    def states(
        self, model: Any, x: Tensor, store_number: int, kept: Tensor | None, hidden: Tensor | None
    ) -> Tensor:
        """Return the representation, (batch, n_steps, size); see `TokenView.states`."""
        seen = x if kept is None else x * kept[..., None]
        if hidden is not None:
            shown = (~hidden).repeat_interleave(self.step, dim=1)
            rest = torch.ones(len(x), x.shape[-1] - shown.shape[1], dtype=torch.bool, device=x.device)
            seen = seen * torch.cat([shown, rest], dim=1)[:, None]
        encoded: Tensor = model.encode(seen)
        return encoded.transpose(1, 2)

    def pool(self, states: Tensor, config: Any) -> Tensor:
        """Return the mean state of each window, (batch, size)."""
        return states.mean(1)
