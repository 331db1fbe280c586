"""The scans in plain torch: chunks of time as batched matrix products, for any device, autograd and export.

Lengths are padded to whole chunks with dt = 0, which neither decays nor feeds the state. Nothing branches on
values, and while exporting nothing branches on the length either, so that one graph serves every length.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

CHUNK = 32  # the fastest of 16, 32, 64, 128 and 256 on two AVX2 cores at d_state 16, headdim 64
BLOCK = 32  # chunks whose states are joined by one triangular product
SEGMENT = 256  # steps of Mamba-1 that exist as (length, channels, d_state) at a time
STRIDE = 16  # steps of Mamba-1 taken one after another, for all strides of a segment together


def _products(left: Tensor, right: Tensor) -> Tensor:
    """Matrix products over equal leading dimensions.

    torch.matmul would look whether a leading size is 1, and an exported graph would then hold only for that.
    """
    leading = left.shape[:-2]
    product = torch.bmm(left.reshape(-1, *left.shape[-2:]), right.reshape(-1, *right.shape[-2:]))
    return product.reshape(*leading, left.shape[-2], right.shape[-1])


def _decay_matrix(log_decay: Tensor) -> Tensor:
    """Return exp(sum of log_decay over j < m <= i) for i >= j, else 0; shape (..., k) -> (..., k, k).

    The sums are taken over masked copies, not as differences of one cumulative sum: nothing cancels.
    """
    size = log_decay.shape[-1]
    index = torch.arange(size, device=log_decay.device)
    below = index[:, None] > index[None, :]
    terms = log_decay[..., :, None].expand(*log_decay.shape, size).masked_fill(~below, 0.0)
    sums = torch.cumsum(terms, dim=-2)
    return torch.exp(sums.masked_fill(index[:, None] < index[None, :], -torch.inf))


def _accumulate(log_decay: Tensor, states: Tensor, depth: int) -> Tensor:
    """Inclusive prefix of ``H[i] = exp(log_decay[i]) H[i-1] + states[i]``.

    Parameters
    ----------
    log_decay : Tensor, shape (batch, heads, count)
    states : Tensor, shape (batch, heads, count, features)
    depth : int
        How often blocks of blocks are formed before one quadratic product joins the rest.
    """
    if depth == 0:
        return _products(_decay_matrix(log_decay), states)
    batch, heads, count, features = states.shape
    pad = -count % BLOCK
    if torch.compiler.is_exporting():
        pad += BLOCK  # never one block alone: an exported graph would hold only for that
    log_decay = F.pad(log_decay, (0, pad)).reshape(batch, heads, -1, BLOCK)
    states = F.pad(states, (0, 0, 0, pad)).reshape(batch, heads, -1, BLOCK, features)
    local = _products(_decay_matrix(log_decay), states)
    ends = _accumulate(log_decay.sum(-1), local[..., -1, :], depth - 1)
    before = F.pad(ends, (0, 0, 1, 0))[:, :, :-1]
    local = local + torch.exp(torch.cumsum(log_decay, dim=-1))[..., None] * before[..., None, :]
    return local.reshape(batch, heads, -1, features)[:, :, :count]


def ssd_chunked(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    initial_state: Tensor | None = None,
    chunk_size: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """Mamba-2's SSD layer in four steps of matrix products; arguments as `ssd_recurrence`.

    Parameters
    ----------
    chunk_size : int
        Steps per chunk: a matter of speed and memory only.

    References
    ----------
    Dao and Gu, "Transformers are SSMs" (arXiv 2405.21060), section 6.
    """
    batch, length, heads, headdim = x.shape
    groups, d_state = B.shape[2:]
    per_group = heads // groups * headdim
    pad = -length % chunk_size
    skip = x
    if torch.compiler.is_exporting() or pad:
        x, B, C = (F.pad(tensor, (0, 0, 0, 0, 0, pad)) for tensor in (x, B, C))
        dt = F.pad(dt, (0, 0, 0, pad))
    dt = dt.reshape(batch, -1, chunk_size, heads)
    xdt = x.reshape(batch, -1, chunk_size, heads, headdim) * dt[..., None]
    B = B.reshape(batch, -1, chunk_size, groups, d_state).transpose(2, 3).contiguous()  # b c g q n
    C = C.reshape(batch, -1, chunk_size, groups, d_state).transpose(2, 3).contiguous()
    chunks = dt.shape[1]
    summed = torch.cumsum(dt * A, dim=2)  # log decay since the chunk began, b c q h

    # 1. what each step of a chunk receives from the steps before it in the same chunk
    by_head = summed.transpose(2, 3).contiguous()  # b c h q
    index = torch.arange(chunk_size, device=x.device)
    ahead = index[:, None] < index[None, :]
    decay = torch.exp((by_head[..., :, None] - by_head[..., None, :]).masked_fill(ahead, -torch.inf))
    scores = _products(C, B.transpose(-1, -2).contiguous())  # b c g q q
    decay = decay.reshape(batch, chunks, groups, -1, chunk_size, chunk_size) * scores[:, :, :, None]
    decay = decay.reshape(batch, chunks, heads, chunk_size, chunk_size)
    y = _products(decay, xdt.transpose(2, 3).contiguous()).transpose(2, 3)  # b c q h p

    # 2. what each chunk adds to the state by its end
    to_end = torch.exp(summed[:, :, -1:] - summed)[..., None] * xdt
    to_end = to_end.reshape(batch, chunks, chunk_size, groups, per_group).permute(0, 1, 3, 4, 2).contiguous()
    states = _products(to_end, B).reshape(batch, chunks, heads, headdim * d_state)

    # 3. the states between chunks; the initial state is a chunk before the first
    if initial_state is None:
        initial_state = x.new_zeros(batch, heads, headdim, d_state)
    first = initial_state.reshape(batch, heads, 1, headdim * d_state)
    states = torch.cat([first, states.transpose(1, 2)], dim=2)
    between = _accumulate(F.pad(by_head[..., -1].transpose(1, 2), (1, 0)), states, _depth(length, chunk_size))
    final = between[:, :, -1].reshape(batch, heads, headdim, d_state)

    # 4. what each step receives from the state in which its chunk began
    before = between[:, :, :-1].transpose(1, 2).reshape(batch, chunks, groups, per_group, d_state)
    carried = _products(C, before.transpose(-1, -2).contiguous()).transpose(2, 3)  # b c q g rp
    carried = carried.reshape(batch, chunks, chunk_size, heads, headdim) * torch.exp(summed)[..., None]
    y = (y + carried).reshape(batch, -1, heads, headdim)[:, :length]
    return (y if D is None else y + D[:, None] * skip), final


def _depth(length: int, chunk_size: int) -> int:
    """Levels of `_accumulate`; constant while exporting, where the length is a symbol."""
    if torch.compiler.is_exporting():
        return 1
    chunks, depth = length // chunk_size + 2, 0
    while chunks > 2 * BLOCK:
        chunks, depth = chunks // BLOCK + 1, depth + 1
    return depth


def selective_scan_chunked(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    initial_state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Mamba-1's selective scan by segments; arguments as `selective_scan_recurrence`.

    Only one segment exists as (batch, steps, channels, d_state) at a time: in training each segment is
    computed again for its gradient, and only the states between segments are kept. While exporting, where
    the number of segments is unknown, the whole length is one segment.
    """
    batch, length, channels = x.shape
    state = x.new_zeros(batch, channels, A.shape[1]) if initial_state is None else initial_state
    if torch.compiler.is_exporting():
        y, state = _scan_segment(x, dt, A, B, C, state)
    else:
        outputs = []
        for start in range(0, length, SEGMENT):
            here = slice(start, start + SEGMENT)
            arguments = (x[:, here], dt[:, here], A, B[:, here], C[:, here], state)
            if torch.is_grad_enabled():
                y, state = checkpoint(
                    _scan_segment, *arguments, use_reentrant=False, preserve_rng_state=False
                )
            else:
                y, state = _scan_segment(*arguments)
            outputs.append(y)
        y = torch.cat(outputs, dim=1)
    return (y if D is None else y + D * x), state


def _scan_segment(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Scan one segment: strides in parallel from zero, then the states between strides, then their sum."""
    length = x.shape[1]
    pad = -length % STRIDE
    dt = F.pad(dt, (0, 0, 0, pad)).unflatten(1, (-1, STRIDE))  # b k s d
    xdt = F.pad(x, (0, 0, 0, pad)).unflatten(1, (-1, STRIDE)) * dt
    B = F.pad(B, (0, 0, 0, pad)).unflatten(1, (-1, STRIDE))  # b k s n
    C = F.pad(C, (0, 0, 0, pad)).unflatten(1, (-1, STRIDE))
    log_decay = dt[..., None] * A  # b k s d n
    decay = torch.exp(log_decay)
    inputs = xdt[..., None] * B[..., None, :]
    local = [inputs[:, :, 0]]
    for step in range(1, STRIDE):
        local.append(torch.addcmul(inputs[:, :, step], decay[:, :, step], local[-1]))
    totals = log_decay.sum(2).permute(0, 2, 3, 1)  # b d n k
    ends = torch.cat([state[:, None], local[-1]], dim=1).permute(0, 2, 3, 1)[..., None]  # b d n 1+k 1
    matrix = _decay_matrix(F.pad(totals, (1, 0)))
    between = _products(matrix, ends)[..., 0].permute(0, 3, 1, 2)  # b 1+k d n
    since_start = torch.exp(torch.cumsum(log_decay, dim=2))
    states = torch.stack(local, dim=2) + since_start * between[:, :-1, None]
    y = _products(states, C[..., None])[..., 0].flatten(1, 2)[:, :length]
    return y, between[:, -1]
