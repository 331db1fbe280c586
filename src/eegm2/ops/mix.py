"""Mamba-2's mixer between its two projections, over a block of time and with its states."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from eegm2.ops.checks import check_mix, compute_dtype
from eegm2.ops.conv import causal_conv1d
from eegm2.ops.dispatch import ssd


def mamba2_mix(
    zxbcdt: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    norm_weight: Tensor,
    eps: float,
    conv_state: Tensor | None,
    ssm_state: Tensor | None,
    ngroups: int,
    d_state: int,
    headdim: int,
    *,
    backend: str = "auto",
) -> tuple[Tensor, Tensor, Tensor]:
    """Convolution, SiLU, scan, skip, gate and normalisation of a projected block of time.

    ``x, B, C = silu(conv(xBC))``, ``h = ssd(x, softplus(dt + dt_bias), A, B, C, D) * silu(z)``,
    ``y = h / sqrt(mean(h²) + eps) * norm_weight``, the mean over d_inner / ngroups channels. Operation by
    operation; on a CPU sequence blocks as they were made take compiled passes instead, projections included
    (`eegm2.model.block.SequenceBlock`). No argument is written to.

    Parameters
    ----------
    zxbcdt : Tensor, shape (batch, length, 2 d_inner + 2 ngroups d_state + heads)
        Output of the input projection in the order z, x, B, C, dt; d_inner = heads * headdim.
    conv_weight : Tensor, shape (d_inner + 2 ngroups d_state, k)
    conv_bias : Tensor, shape (d_inner + 2 ngroups d_state,)
    dt_bias, A, D : Tensor, shape (heads,)
        A is negative (``-exp(A_log)``).
    norm_weight : Tensor, shape (d_inner,)
    eps : float
    conv_state : Tensor, shape (batch, k - 1, d_inner + 2 ngroups d_state), or None for zeros
    ssm_state : Tensor, shape (batch, heads, headdim, d_state), or None for zeros
    ngroups, d_state, headdim : int
    backend : {"auto", "recurrence", "chunked", "numba"}

    Returns
    -------
    y : Tensor, shape (batch, length, d_inner)
        Ready for the output projection.
    conv_state, ssm_state : Tensor
        To be given with the next block.

    Raises
    ------
    TypeError, ValueError
        If dtypes, shapes or devices do not fit; the message gives the argument and both shapes.

    References
    ----------
    Dao and Gu, "Transformers are SSMs" (arXiv 2405.21060), section 7.
    """
    tensors = (zxbcdt, conv_weight, conv_bias, dt_bias, A, D, norm_weight, conv_state, ssm_state)
    check_mix(*tensors, ngroups, d_state, headdim)
    channels = conv_weight.shape[0]
    heads = A.shape[0]
    inner, grouped = heads * headdim, ngroups * d_state
    dtype = compute_dtype(zxbcdt)
    z, xBC, dt = torch.split(zxbcdt, [inner, channels, heads], dim=-1)
    xBC, conv_state = causal_conv1d(xBC, conv_weight, conv_bias, conv_state)
    x, B, C = torch.split(F.silu(xBC), [inner, grouped, grouped], dim=-1)
    y, ssm_state = ssd(
        x.unflatten(-1, (heads, headdim)),
        F.softplus(dt.to(dtype) + dt_bias.to(dtype)),
        A,
        B.unflatten(-1, (ngroups, d_state)),
        C.unflatten(-1, (ngroups, d_state)),
        D,
        ssm_state,
        backend=backend,
    )
    y = (y.flatten(-2) * F.silu(z)).to(dtype).unflatten(-1, (ngroups, -1))
    y = y * torch.rsqrt(y.square().mean(-1, keepdim=True) + eps)
    return (y.flatten(-2) * norm_weight).to(zxbcdt.dtype), conv_state, ssm_state
