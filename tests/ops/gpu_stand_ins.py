"""What the GPU libraries document, step by step in plain torch: the other side of the tests of our mapping.

Written from their documented conventions, not from our scan: simple_gla has keys and values with a state of
(batch, heads, d_key, d_value), a log decay per head and a scale; mamba_chunk_scan_combined takes mamba_ssm's
names.
"""

from __future__ import annotations

import torch
from torch import Tensor


def chunk_simple_gla(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None = None,
    g_gamma: Tensor | None = None,
    scale: float | None = None,
    initial_state: Tensor | None = None,
    output_final_state: bool = False,
) -> tuple[Tensor, Tensor | None]:
    batch, length, heads, d_key = q.shape
    assert k.shape == q.shape
    assert v.shape[:3] == (batch, length, heads)
    assert g is not None
    assert g.shape == (batch, length, heads)
    assert g_gamma is None
    scale = d_key**-0.5 if scale is None else scale
    state = q.new_zeros(batch, heads, d_key, v.shape[3]) if initial_state is None else initial_state
    assert state.shape == (batch, heads, d_key, v.shape[3])
    outputs = []
    for t in range(length):
        state = g[:, t].exp()[..., None, None] * state + torch.einsum("bhk,bhv->bhkv", k[:, t], v[:, t])
        outputs.append(scale * torch.einsum("bhk,bhkv->bhv", q[:, t], state))
    return torch.stack(outputs, 1), state if output_final_state else None


def mamba_chunk_scan_combined(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    chunk_size: int,
    D: Tensor | None = None,
    z: Tensor | None = None,
    dt_bias: Tensor | None = None,
    initial_states: Tensor | None = None,
    dt_softplus: bool = False,
    dt_limit: tuple[float, float] = (0.0, float("inf")),
    return_final_states: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    batch, length, heads, headdim = x.shape
    groups, d_state = B.shape[2:]
    assert chunk_size & (chunk_size - 1) == 0
    assert z is None
    assert dt_bias is None
    assert not dt_softplus
    group = torch.arange(heads) // (heads // groups)
    state = x.new_zeros(batch, heads, headdim, d_state) if initial_states is None else initial_states
    outputs = []
    for t in range(length):
        fed = torch.einsum("bh,bhp,bhn->bhpn", dt[:, t], x[:, t], B[:, t, group])
        state = torch.exp(dt[:, t] * A)[..., None, None] * state + fed
        y = torch.einsum("bhpn,bhn->bhp", state, C[:, t, group])
        outputs.append(y if D is None else y + D[:, None] * x[:, t])
    y = torch.stack(outputs, 1)
    return (y, state) if return_final_states else y


STAND_INS = {"fla": chunk_simple_gla, "mamba_ssm": mamba_chunk_scan_combined}
