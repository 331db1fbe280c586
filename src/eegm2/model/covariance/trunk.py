"""The covariance embedding of the network: virtual channels, tokens, and the trunk that runs over them."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from eegm2.model.block import SequenceBlock
from eegm2.model.config import EEGM2Config
from eegm2.model.covariance.electrodes import harmonics, sites, spread
from eegm2.model.covariance.tokens import CovarianceTokens
from eegm2.model.fused import pointwise
from eegm2.ops import Kept


class Tokens(NamedTuple):
    """What the covariance embedding makes of windows.

    Attributes
    ----------
    tangent : Tensor, shape (batch, n_tokens, tangent_size)
        Tangent vectors.
    state : Tensor, shape (batch, n_tokens, trunk_channels)
        Output of the trunk.
    """

    tangent: Tensor
    state: Tensor

    @property
    def representation(self) -> Tensor:
        """State and tangent vector of every token, (batch, trunk_channels + tangent_size, n_tokens)."""
        return torch.cat([self.state, self.tangent], dim=-1).transpose(1, 2)


class VirtualChannels(nn.Module):
    """Virtual channels as learnt weights over spherical harmonics; to begin with, the sites of ``sites``.

    The buffer `spread`, (n_harmonics, n_chans), belongs to the montage that the model is loaded for. Until
    one is given, the channels are taken to lie at the first sites.
    """

    def __init__(self, config: EEGM2Config) -> None:
        super().__init__()
        order = config.harmonics_order

        begin = harmonics(sites(config.n_virtual), order)
        self.weight = nn.Parameter(torch.tensor(begin, dtype=torch.get_default_dtype()))
        here = spread(sites(config.n_chans), order)
        self.register_buffer("spread", torch.tensor(here, dtype=torch.get_default_dtype()))

    def mixing(self, spread: Tensor | None = None) -> Tensor:
        """Return the matrix from electrodes to virtual channels, (…, n_virtual, n_chans)."""
        return self.weight @ (self.get_buffer("spread") if spread is None else spread)

    def forward(self, x: Tensor, spread: Tensor | None = None) -> Tensor:
        """Map (batch, n_chans, time) to (batch, n_virtual, time)."""
        return (x.transpose(1, 2) @ self.mixing(spread).mT).transpose(1, 2)  # channels lie together


class CovarianceTrunk(nn.Module):
    """Tokens of covariance and of the raw encoder, joined, and Mamba over them.

    Parameters
    ----------
    config : EEGM2Config
        With ``embedding="covariance"``.
    """

    def __init__(self, config: EEGM2Config) -> None:
        super().__init__()
        self.config = config
        channels, raw = config.trunk_channels, 4 * config.width
        self.electrodes = VirtualChannels(config) if config.any_electrodes else None
        self.tokens = CovarianceTokens(config)
        self.tangent_norm = nn.LayerNorm(config.tangent_size)
        self.tangent_linear = nn.Linear(config.tangent_size, channels)
        self.raw_norm = nn.LayerNorm(raw)
        self.raw_linear = nn.Linear(raw, channels, bias=False)
        self.kept = (Kept(), Kept())
        self.hidden_token = nn.Parameter(torch.zeros(channels))
        self.blocks = nn.ModuleList(SequenceBlock(channels, config) for _ in range(config.trunk_blocks))
        self.rise = nn.Linear(channels, raw) if config.decoder else None
        nn.init.normal_(self.hidden_token, std=0.5)  # as large as a token: norms of zero have steep slopes

    def lent(self, config: EEGM2Config, spread: Tensor | None = None) -> CovarianceTrunk:
        """Return this trunk for another montage, or without decoder, sharing its weights."""
        made = copy.copy(self)
        made.config, made._modules = config, dict(self._modules)
        if not config.decoder:
            made.rise = None
        if spread is not None and self.electrodes is not None:
            made.electrodes = copy.copy(self.electrodes)
            made.electrodes._buffers = {"spread": spread.to(self.electrodes.weight.detach())}
        return made

    def virtual(self, x: Tensor, spread: Tensor | None = None) -> Tensor:
        """Return the channels that the network works on, (batch, inner_chans, time)."""
        return x if self.electrodes is None else self.electrodes(x, spread)

    def forward(self, x: Tensor, encoded: Tensor, hidden: Tensor | None = None) -> Tokens:
        """Return the tokens of inner channels (batch, inner_chans, time) and what the encoder made of them.

        Parameters
        ----------
        encoded : Tensor, shape (batch, 4w, time // 8)
        hidden : Tensor of bool, shape (batch, n_tokens), optional
            Steps that count in no covariance and whose token is the learnt one.
        """
        tangent = self.tokens(x, hidden)
        joined = self.join(tangent, pooled(encoded, self.config))
        if hidden is not None:
            joined = torch.where(hidden[..., None], self.hidden_token, joined)
        return Tokens(tangent, self.run(joined))

    def join(self, tangent: Tensor, raw: Tensor) -> Tensor:
        """Return what the trunk takes of tangent vectors and pooled encoder steps, (batch, n, channels)."""
        (kept, kept_raw), raw = self.kept, self.raw_norm(raw)
        joined = pointwise(self.tangent_linear, self.tangent_norm(tangent), kept)
        return joined + pointwise(self.raw_linear, raw, kept_raw)

    def run(self, joined: Tensor) -> Tensor:
        """Run the trunk over (batch, n_tokens, trunk_channels)."""
        for block in self.blocks:
            joined = block(joined)[0]
        return joined

    def raised(self, state: Tensor, steps: int) -> Tensor:
        """Hold the last complete token at each of `steps` encoder steps: (batch, 4w, steps), zero before."""
        assert self.rise is not None
        each = self.config.token_step // 8
        risen = self.rise(state)
        held = torch.cat([torch.zeros_like(risen[:, :1]), risen], dim=1)
        last = (torch.arange(steps, device=state.device) + 1) // each
        return held[:, last].transpose(1, 2)


def pooled(encoded: Tensor, config: EEGM2Config) -> Tensor:
    """Return the mean of the encoder's steps in each token, (batch, n_tokens, 4w), of (batch, 4w, steps)."""
    each = config.token_step // 8
    whole = encoded.shape[-1] // each
    return encoded[..., : whole * each].unflatten(-1, (whole, each)).mean(-1).transpose(1, 2)
