"""EEGM2 as it runs in torch without any kernel of ours: the scan in chunks of 256, written as its formula.

This is what is left of mamba_ssm on a machine without CUDA. It is here to be compared with, not to be used.

References
----------
Dao and Gu, "Transformers are SSMs" (arXiv 2405.21060), section 6.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eegm2.model.block import SequenceBlock
from eegm2.model.mamba2 import Mamba2
from eegm2.model.network import EEGM2

CHUNK = 256


def segment_sums(a: Tensor) -> Tensor:
    """Return S with ``S[i, j] = a[j+1] + … + a[i]`` for i >= j, else -inf; shape (..., k) -> (..., k, k)."""
    size = a.shape[-1]
    lower = torch.ones(size, size, dtype=torch.bool, device=a.device).tril()
    terms = a[..., :, None].expand(*a.shape, size).masked_fill(~lower.tril(-1), 0.0)
    return terms.cumsum(-2).masked_fill(~lower, -torch.inf)


def ssd_plain(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor | None = None, chunk_size: int = CHUNK
) -> tuple[Tensor, Tensor]:
    """Mamba-2's SSD layer in four einsums over chunks; arguments and result as of `eegm2.ops.ssd`.

    Parameters
    ----------
    x : Tensor, shape (batch, length, heads, headdim)
    dt : Tensor, shape (batch, length, heads)
    A : Tensor, shape (heads,)
    B, C : Tensor, shape (batch, length, groups, d_state)
    D : Tensor, shape (heads,), optional
    chunk_size : int

    Returns
    -------
    y : Tensor, shape (batch, length, heads, headdim)
    final_state : Tensor, shape (batch, heads, headdim, d_state)
    """
    length, heads = dt.shape[1:]
    repeats, pad = heads // B.shape[2], -length % chunk_size
    B, C = B.repeat_interleave(repeats, dim=2), C.repeat_interleave(repeats, dim=2)
    X, B, C = (
        F.pad(t, (0, 0, 0, 0, 0, pad)).unflatten(1, (-1, chunk_size)) for t in (x * dt[..., None], B, C)
    )
    a = F.pad(dt * A, (0, 0, 0, pad)).unflatten(1, (-1, chunk_size)).permute(0, 3, 1, 2)  # b h c l
    summed = a.cumsum(-1)
    # 1. inside each chunk
    L = torch.exp(segment_sums(a))
    within = torch.einsum("bclhn,bcshn,bhcls,bcshp->bclhp", C, B, L, X)
    # 2. what each chunk leaves behind
    to_end = torch.exp(summed[..., -1:] - summed)
    states = torch.einsum("bclhn,bhcl,bclhp->bchpn", B, to_end, X)
    # 3. from chunk to chunk, the first starting from zero
    states = torch.cat([torch.zeros_like(states[:, :1]), states], dim=1)
    between = torch.exp(segment_sums(F.pad(summed[..., -1], (1, 0))))
    states = torch.einsum("bhzc,bchpn->bzhpn", between, states)
    # 4. what each step receives from the chunks before
    carried = torch.einsum("bclhn,bchpn,bhcl->bclhp", C, states[:, :-1], torch.exp(summed))
    y = (within + carried).flatten(1, 2)[:, :length]
    return (y if D is None else y + D[:, None] * x), states[:, -1]


class PlainMamba2(nn.Module):
    """The Mamba-2 mixer as a sequence of torch operations around `ssd_plain`, sharing another's weights."""

    def __init__(self, mixer: Mamba2) -> None:
        super().__init__()
        self.mixer = mixer

    def forward(self, u: Tensor, state: None = None) -> tuple[Tensor, None]:
        """Mix over time from the start; `u` is (batch, length, channels)."""
        m = self.mixer
        groups = m.ngroups * m.d_state
        z, xBC, dt = m.in_proj(u).split([m.d_inner, m.d_inner + 2 * groups, m.n_heads], dim=-1)
        conv = m.conv1d
        xBC = F.conv1d(xBC.transpose(1, 2), conv.weight, conv.bias, padding=m.d_conv - 1, groups=conv.groups)
        xBC = F.silu(xBC[..., : u.shape[1]].transpose(1, 2))
        x, B, C = xBC.split([m.d_inner, groups, groups], dim=-1)
        y, _ = ssd_plain(
            x.unflatten(-1, (m.n_heads, m.headdim)),
            F.softplus(dt + m.dt_bias),
            -torch.exp(m.A_log),
            B.unflatten(-1, (m.ngroups, m.d_state)),
            C.unflatten(-1, (m.ngroups, m.d_state)),
            m.D,
        )
        return m.out_proj(m.norm(y.flatten(2), z)), None


class PlainEEGM2(nn.Module):
    """An EEGM2 whose Mamba-2 mixers are plain; shares (and takes over) the modules of `model`."""

    def __init__(self, model: EEGM2) -> None:
        super().__init__()
        for module in model.modules():
            if isinstance(module, SequenceBlock) and isinstance(module.mixer, Mamba2):
                module.mixer = PlainMamba2(module.mixer)
        self.encoder, self.mediator, self.decoder = model.encoder, model.mediator, model.decoder

    def forward(self, x: Tensor) -> Tensor:
        """Reconstruct (batch, n_chans, n_times), or return the representation where there is no decoder."""
        representation, skips = self.encoder(x)
        if self.mediator is None or self.decoder is None:
            return representation
        return self.decoder(self.mediator(representation), skips)
