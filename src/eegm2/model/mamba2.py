"""Mamba-2 mixer (structured state space duality).

References
----------
Dao, Gu, "Transformers are SSMs", arXiv 2405.21060, section 7.1; EEGM2, arXiv 2502.17873, section 3.2.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eegm2.errors import ConfigError
from eegm2.model.config import EEGM2Config, largest_divisor
from eegm2.model.layers import linear
from eegm2.model.mixer import Mixer
from eegm2.model.state import MambaState
from eegm2.ops import compute_dtype, mamba2_mix

DT_RANGE = (1e-3, 1e-1)
A_RANGE = (1.0, 16.0)


class GatedRMSNorm(nn.Module):
    """Root-mean-square norm of a gated signal, ``RMSNorm(y * silu(z)) * weight``, in groups of channels."""

    def __init__(self, channels: int, groups: int = 1, eps: float = 1e-5) -> None:
        super().__init__()
        self.groups = groups
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, y: Tensor, z: Tensor) -> Tensor:
        """Return the normed product, shape of `y`: (..., channels)."""
        gated = (y * F.silu(z)).to(compute_dtype(y)).unflatten(-1, (self.groups, -1))
        scale = torch.rsqrt(gated.square().mean(dim=-1, keepdim=True) + self.eps)
        return ((gated * scale).flatten(-2) * self.weight).to(z.dtype)


class Mamba2(Mixer):
    """Mamba-2 mixer over time.

    One projection gives z (gate), x (input), B, C and dt. After a causal depthwise convolution and SiLU of
    (x, B, C), the scan ``h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t``, ``y_t = C_t h_t + D x_t`` runs per
    head; the result is gated, normed and projected back.

    Parameters
    ----------
    channels : int
        Model channels c; inner channels are ``expand * c``.
    config : EEGM2Config
        Supplies d_state, d_conv, expand, headdim and ngroups (mamba_ssm's names).
    """

    causal = True

    def __init__(self, channels: int, config: EEGM2Config) -> None:
        super().__init__()
        self.d_inner = config.expand * channels
        self.d_state = config.d_state
        self.d_conv = config.d_conv
        self.ngroups = config.ngroups
        self.headdim = largest_divisor(self.d_inner, config.headdim)
        self.n_heads = self.d_inner // self.headdim
        if self.n_heads % self.ngroups:
            raise ConfigError(
                f"model config: ngroups is {self.ngroups}, which does not divide {self.n_heads} heads"
            )
        conv_channels = self.d_inner + 2 * self.ngroups * self.d_state
        self.in_proj = nn.Linear(channels, self.d_inner + conv_channels + self.n_heads, bias=False)
        self.conv1d = nn.Conv1d(conv_channels, conv_channels, self.d_conv, groups=conv_channels)
        self.dt_bias = nn.Parameter(inverse_softplus(log_uniform(self.n_heads, *DT_RANGE)))
        self.A_log = nn.Parameter(torch.empty(self.n_heads).uniform_(*A_RANGE).log())
        self.D = nn.Parameter(torch.ones(self.n_heads))
        self.norm = GatedRMSNorm(self.d_inner, self.ngroups)
        self.out_proj = nn.Linear(self.d_inner, channels, bias=False)

    def forward(self, u: Tensor, state: MambaState | None = None) -> tuple[Tensor, MambaState]:
        """Mix over time.

        Parameters
        ----------
        u : Tensor, shape (batch, length, channels)
            Input.
        state : MambaState, optional
            State after the samples before `u`; None is the start of a recording.

        Returns
        -------
        y : Tensor, shape (batch, length, channels)
        state : MambaState
            State after `u`.
        """
        y, state = self._mix(linear(self.in_proj, u), state)
        return linear(self.out_proj, y), state

    def _mix(self, projected: Tensor, state: MambaState | None) -> tuple[Tensor, MambaState]:
        assert self.conv1d.bias is not None
        y, conv_state, ssm_state = mamba2_mix(
            projected,
            self.conv1d.weight.squeeze(1),
            self.conv1d.bias,
            self.dt_bias,
            -torch.exp(self.A_log.to(compute_dtype(self.A_log))),
            self.D,
            self.norm.weight,
            self.norm.eps,
            state.conv if state is not None else None,
            state.ssm if state is not None else None,
            self.ngroups,
            self.d_state,
            self.headdim,
        )
        return y, MambaState(conv_state, ssm_state)


def log_uniform(n: int, low: float, high: float) -> Tensor:
    """Draw `n` values whose logarithm is uniform between `low` and `high`."""
    return torch.empty(n).uniform_(math.log(low), math.log(high)).exp()


def inverse_softplus(value: Tensor) -> Tensor:
    """Return b with ``softplus(b) == value``."""
    return value + torch.log(-torch.expm1(-value))
