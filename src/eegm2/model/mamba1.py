"""Mamba-1 mixer, for the ablations S3 and S4.

References
----------
Gu, Dao, "Mamba", arXiv 2312.00752, section 3; EEGM2, arXiv 2502.17873, section 5.6.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eegm2.model.config import EEGM2Config
from eegm2.model.layers import linear
from eegm2.model.mamba2 import DT_RANGE, inverse_softplus, log_uniform
from eegm2.model.mixer import Mixer
from eegm2.model.state import MambaState
from eegm2.ops import causal_conv1d, compute_dtype, selective_scan


class Mamba1(Mixer):
    """Mamba-1 mixer over time: a selective scan with one state per inner channel.

    Parameters
    ----------
    channels : int
        Model channels c; inner channels are ``expand * c``, the rank of dt is ``ceil(c / 16)``.
    config : EEGM2Config
        Supplies d_state, d_conv and expand.
    """

    causal = True

    def __init__(self, channels: int, config: EEGM2Config) -> None:
        super().__init__()
        self.d_inner = config.expand * channels
        self.d_state = config.d_state
        self.d_conv = config.d_conv
        self.dt_rank = math.ceil(channels / 16)
        self.in_proj = nn.Linear(channels, 2 * self.d_inner, bias=False)
        self.conv1d = nn.Conv1d(self.d_inner, self.d_inner, self.d_conv, groups=self.d_inner)
        self.x_proj = nn.Linear(self.d_inner, self.dt_rank + 2 * self.d_state, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, self.d_inner)
        nn.init.uniform_(self.dt_proj.weight, -(self.dt_rank**-0.5), self.dt_rank**-0.5)
        with torch.no_grad():
            self.dt_proj.bias.copy_(inverse_softplus(log_uniform(self.d_inner, *DT_RANGE)))
        self.A_log = nn.Parameter(torch.arange(1, self.d_state + 1.0).log().repeat(self.d_inner, 1))
        self.D = nn.Parameter(torch.ones(self.d_inner))
        self.out_proj = nn.Linear(self.d_inner, channels, bias=False)

    def forward(self, u: Tensor, state: MambaState | None = None) -> tuple[Tensor, MambaState]:
        """Mix over time; shapes as in :class:`eegm2.model.mamba2.Mamba2`."""
        x, z = linear(self.in_proj, u).chunk(2, dim=-1)
        x, conv_state = causal_conv1d(
            x, self.conv1d.weight.squeeze(1), self.conv1d.bias, state.conv if state is not None else None
        )
        x = F.silu(x)
        dt, B, C = linear(self.x_proj, x).split([self.dt_rank, self.d_state, self.d_state], dim=-1)
        dtype = compute_dtype(self.A_log)
        with torch.autocast(device_type=u.device.type, enabled=False):
            rate = F.linear(dt.to(dtype), self.dt_proj.weight.to(dtype), self.dt_proj.bias.to(dtype))
            y, ssm_state = selective_scan(
                x,
                F.softplus(rate),
                -torch.exp(self.A_log.to(dtype)),
                B,
                C,
                self.D,
                state.ssm if state is not None else None,
            )
        return linear(self.out_proj, y.to(z.dtype) * F.silu(z)), MambaState(conv_state, ssm_state)
