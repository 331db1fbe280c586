"""SSD through the kernels of other libraries: what their arguments are called there, and how they lie.

Both functions are plain torch around one call, so that the mapping is tested on any machine with stand-ins
that compute what the libraries document.
"""

from __future__ import annotations

from torch import Tensor

from eegm2.ops.gpu.libraries import load

MAMBA_CHUNK = 256  # mamba_ssm's own


def ssd_fla(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """SSD as gated linear attention with one decay per head (flash-linear-attention's ``simple_gla``).

    ``S[t] = exp(g[t]) S[t-1] + k[t] ⊗ v[t]``, ``o[t] = scale q[t] S[t]`` is SSD for q = C, k = B,
    v = dt x, g = dt A and scale 1. Its state is ours with the last two axes exchanged; it has no groups.

    Parameters
    ----------
    x, dt, A, B, C, D, initial_state
        As for `eegm2.ops.ssd`, float32.

    Returns
    -------
    y : Tensor, shape (batch, length, heads, headdim)
    final_state : Tensor, shape (batch, heads, headdim, d_state)

    References
    ----------
    Dao and Gu, "Transformers are SSMs" (arXiv 2405.21060), section 5; Yang et al., "Gated Linear Attention
    Transformers with Hardware-Efficient Training" (arXiv 2312.06635).
    """
    scan = load("fla")
    repeats = x.shape[2] // B.shape[2]
    if repeats > 1:
        B, C = B.repeat_interleave(repeats, dim=2), C.repeat_interleave(repeats, dim=2)
    y, state = scan(
        q=C.contiguous(),
        k=B.contiguous(),
        v=x * dt[..., None],
        g=dt * A,
        scale=1.0,
        initial_state=None if initial_state is None else initial_state.transpose(2, 3).contiguous(),
        output_final_state=True,
    )
    return (y if D is None else y + D[:, None] * x), state.transpose(2, 3)


def ssd_mamba(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """SSD by mamba_ssm's ``mamba_chunk_scan_combined``, whose conventions are ours.

    Parameters
    ----------
    x, dt, A, B, C, D, initial_state
        As for `eegm2.ops.ssd`, float32.

    Returns
    -------
    y : Tensor, shape (batch, length, heads, headdim)
    final_state : Tensor, shape (batch, heads, headdim, d_state)

    References
    ----------
    Dao and Gu, "Transformers are SSMs" (arXiv 2405.21060), section 6.
    """
    scan = load("mamba_ssm")
    y, state = scan(
        x.contiguous(),
        dt.contiguous(),
        A,
        B.contiguous(),
        C.contiguous(),
        chunk_size=MAMBA_CHUNK,
        D=D,
        initial_states=initial_state,
        return_final_states=True,
    )
    return y, state
