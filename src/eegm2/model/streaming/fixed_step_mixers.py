"""The Mamba mixers over the few steps of an exported streaming step, as plain tensor operations."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from eegm2.model.mamba1 import Mamba1
from eegm2.model.mamba2 import Mamba2
from eegm2.ops import causal_conv1d, selective_scan


def mamba2_block(
    mixer: Mamba2, u: Tensor, exists: Tensor, conv: Tensor, ssm: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Mix a few steps with Mamba-2 as one chunk; returns the output and both states.

    Parameters
    ----------
    u : Tensor, shape (batch, steps, channels)
    exists : Tensor of bool, shape (steps, 1)
        False where a step has no influence on the states.
    conv, ssm : Tensor
        States as in :class:`eegm2.model.state.MambaState`.
    """
    inner, groups = mixer.d_inner, mixer.ngroups * mixer.d_state
    z, xBC, dt = mixer.in_proj(u).split([inner, inner + 2 * groups, mixer.n_heads], dim=-1)
    xBC, conv = causal_conv1d(xBC, mixer.conv1d.weight.squeeze(1), mixer.conv1d.bias, conv)
    x, B, C = F.silu(xBC).split([inner, groups, groups], dim=-1)
    dt = F.softplus(dt + mixer.dt_bias) * exists
    x = x.unflatten(-1, (mixer.n_heads, mixer.headdim))
    B, C = (t.unflatten(-1, (mixer.ngroups, mixer.d_state)) for t in (B, C))
    y, ssm = one_chunk(x, dt, -torch.exp(mixer.A_log), B, C, ssm)
    y = (y + mixer.D[:, None] * x).flatten(2)
    return mixer.out_proj(mixer.norm(y, z)), conv, ssm


def one_chunk(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """Mamba-2's SSD layer over a few steps as matrix products; arguments as :func:`eegm2.ops.ssd`.

    References
    ----------
    Dao and Gu, "Transformers are SSMs" (arXiv 2405.21060), section 6, for a single chunk.
    """
    heads = x.shape[2]
    B, C = (t.transpose(1, 2).repeat_interleave(heads // t.shape[2], dim=1) for t in (B, C))  # b h l n
    log_decay = torch.cumsum((dt * A).transpose(1, 2), dim=2)  # b h l
    fed = (x * dt[..., None]).transpose(1, 2)  # b h l p
    index = torch.arange(x.shape[1], device=x.device)
    ahead = index[:, None] < index[None, :]
    decay = torch.exp((log_decay[..., :, None] - log_decay[..., None, :]).masked_fill(ahead, -torch.inf))
    y = (decay * (C @ B.transpose(2, 3))) @ fed
    y = y + (C * torch.exp(log_decay)[..., None]) @ state.transpose(2, 3)
    to_end = torch.exp(log_decay[..., -1:] - log_decay)[..., None] * fed
    state = torch.exp(log_decay[..., -1])[..., None, None] * state + to_end.transpose(2, 3) @ B
    return y.transpose(1, 2), state


def mamba1_block(
    mixer: Mamba1, u: Tensor, exists: Tensor, conv: Tensor, ssm: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Mix a few steps with Mamba-1, one after the other; shapes as :func:`mamba2_block`."""
    x, z = mixer.in_proj(u).chunk(2, dim=-1)
    x, conv = causal_conv1d(x, mixer.conv1d.weight.squeeze(1), mixer.conv1d.bias, conv)
    x = F.silu(x)
    dt, B, C = mixer.x_proj(x).split([mixer.dt_rank, mixer.d_state, mixer.d_state], dim=-1)
    dt = F.softplus(mixer.dt_proj(dt)) * exists
    y, ssm = selective_scan(x, dt, -torch.exp(mixer.A_log), B, C, mixer.D, ssm, backend="recurrence")
    return mixer.out_proj(y * F.silu(z)), conv, ssm
