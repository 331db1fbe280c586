"""The two state-space recurrences, step by step: the oracle that every other form is tested against.

Slow and plain on purpose: one line of torch per line of mathematics, any dtype and device, differentiable.
"""

from __future__ import annotations

import torch
from torch import Tensor


def ssd_recurrence(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Mamba-2's state-space duality (SSD) layer as a recurrence over time.

    ``H[t] = exp(dt[t] A) H[t-1] + dt[t] x[t] ⊗ B[t]``, ``y[t] = H[t] C[t] + D x[t]``, per head.

    Parameters
    ----------
    x : Tensor, shape (batch, length, heads, headdim)
    dt : Tensor, shape (batch, length, heads)
        Step size, positive (after softplus).
    A : Tensor, shape (heads,)
        Negative.
    B, C : Tensor, shape (batch, length, groups, d_state)
        Each group serves heads // groups consecutive heads.
    D : Tensor, shape (heads,), optional
    initial_state : Tensor, shape (batch, heads, headdim, d_state), optional
        Zero if absent.

    Returns
    -------
    y : Tensor, shape (batch, length, heads, headdim)
    final_state : Tensor, shape (batch, heads, headdim, d_state)

    References
    ----------
    Dao and Gu, "Transformers are SSMs" (arXiv 2405.21060), section 3.
    """
    batch, length, heads, headdim = x.shape
    repeats = heads // B.shape[2]
    B, C = B.repeat_interleave(repeats, dim=2), C.repeat_interleave(repeats, dim=2)
    state = x.new_zeros(batch, heads, headdim, B.shape[3]) if initial_state is None else initial_state
    outputs = []
    for t in range(length):
        decay = torch.exp(dt[:, t] * A)[:, :, None, None]
        state = decay * state + (dt[:, t, :, None] * x[:, t])[..., None] * B[:, t, :, None, :]
        outputs.append((state * C[:, t, :, None, :]).sum(-1))
    y = torch.stack(outputs, dim=1)
    return (y if D is None else y + D[:, None] * x), state


def selective_scan_recurrence(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Mamba-1's selective scan as a recurrence over time.

    ``h[t] = exp(dt[t] A) h[t-1] + dt[t] x[t] B[t]``, ``y[t] = h[t] · C[t] + D x[t]``, per channel.

    Parameters
    ----------
    x, dt : Tensor, shape (batch, length, channels)
        dt is positive (after softplus).
    A : Tensor, shape (channels, d_state)
        Negative.
    B, C : Tensor, shape (batch, length, d_state)
    D : Tensor, shape (channels,), optional
    initial_state : Tensor, shape (batch, channels, d_state), optional
        Zero if absent.

    Returns
    -------
    y : Tensor, shape (batch, length, channels)
    final_state : Tensor, shape (batch, channels, d_state)

    References
    ----------
    Gu and Dao, "Mamba" (arXiv 2312.00752), algorithm 2.
    """
    batch, length, channels = x.shape
    state = x.new_zeros(batch, channels, A.shape[1]) if initial_state is None else initial_state
    outputs = []
    for t in range(length):
        decay = torch.exp(dt[:, t, :, None] * A)
        state = decay * state + (dt[:, t] * x[:, t])[..., None] * B[:, t, None, :]
        outputs.append((state * C[:, t, None, :]).sum(-1))
    y = torch.stack(outputs, dim=1)
    return (y if D is None else y + D * x), state
