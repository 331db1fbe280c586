"""Argument checks of every scan and convolution, in one place, before any kernel runs.

Shapes, dtypes and devices are always checked; values only where ``check_finite`` asks, because that reads
the whole input. All messages give the argument, the value received and what was expected.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def compute_dtype(*tensors: Tensor | None) -> torch.dtype:
    """Return float64 if any tensor is, else float32: states and sums are never in half precision."""
    double = any(tensor is not None and tensor.dtype == torch.float64 for tensor in tensors)
    return torch.float64 if double else torch.float32


def needs_gradient(*tensors: Tensor | None) -> bool:
    """Return whether autograd will ask for the gradient of any of these."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def check_tensors(op: str, expected: Mapping[str, tuple[Tensor | None, tuple[int, ...], str]]) -> None:
    """Check type, dtype, device and shape of named arguments.

    Parameters
    ----------
    op : str
        Name of the operation, for the message.
    expected : mapping of name -> (tensor or None, shape, axes)
        None means that an optional argument was not given. `axes` names the dimensions in the message.

    Raises
    ------
    TypeError
        If an argument is no tensor or not floating point, or float64 is mixed with narrower types.
    ValueError
        If a shape or device differs from what the first argument implies.
    """
    device = None
    dtypes = {}
    for name, (tensor, shape, axes) in expected.items():
        if tensor is None:
            continue
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{op}: {name} is {type(tensor).__name__}, expected a torch.Tensor")
        if tensor.dtype not in FLOATS:
            raise TypeError(
                f"{op}: {name} has dtype {tensor.dtype}, expected floating point; convert it with .float()"
            )
        if tensor.ndim != len(shape):
            raise ValueError(f"{op}: {name} has shape {tuple(tensor.shape)}, expected {axes}")
        for size, wanted in zip(tensor.shape, shape):
            if size != wanted:
                raise ValueError(
                    f"{op}: {name} has shape {tuple(tensor.shape)}, expected {axes} = {tuple(shape)}"
                )
        device = tensor.device if device is None else device
        if tensor.device != device:
            raise ValueError(f"{op}: {name} is on {tensor.device} but others are on {device}; move it there")
        dtypes[name] = tensor.dtype
    doubles = sorted(name for name, dtype in dtypes.items() if dtype == torch.float64)
    if doubles and len(doubles) != len(dtypes):
        others = sorted(set(dtypes) - set(doubles))
        raise TypeError(
            f"{op}: {', '.join(doubles)} is float64 but {', '.join(others)} is not; use one of them"
        )


def check_rank(op: str, name: str, tensor: Tensor, axes: str) -> None:
    """Check that `tensor` is a tensor with as many dimensions as `axes` names, none of them empty."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{op}: {name} is {type(tensor).__name__}, expected a torch.Tensor")
    if tensor.ndim != axes.count(",") + 1:
        raise ValueError(f"{op}: {name} has shape {tuple(tensor.shape)}, expected {axes}")
    for axis, size in zip(axes.strip("()").split(","), tensor.shape):
        if size == 0:
            raise ValueError(
                f"{op}: {name} has zero {axis.strip()} (shape {tuple(tensor.shape)}); nothing to scan"
            )


def check_finite(op: str, tensors: Mapping[str, Tensor | None]) -> None:
    """Raise if any named tensor holds a NaN or an infinity (skipped while tracing)."""
    if torch.compiler.is_compiling() or torch.compiler.is_exporting():
        return
    for name, tensor in tensors.items():
        if tensor is not None and not bool(torch.isfinite(tensor).all()):
            count = int((~torch.isfinite(tensor)).sum())
            raise ValueError(f"{op}: {name} holds {count} non-finite values of {tensor.numel()}")


def check_ssd(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    initial_state: Tensor | None,
) -> None:
    """Check the arguments of `eegm2.ops.ssd`; raises TypeError or ValueError."""
    check_rank("ssd", "x", x, "(batch, length, heads, headdim)")
    check_rank("ssd", "B", B, "(batch, length, groups, d_state)")
    batch, length, heads, headdim = x.shape
    groups, d_state = B.shape[2:]
    if heads % groups:
        raise ValueError(f"ssd: heads ({heads}) is not divisible by ngroups ({groups})")
    grouped = (batch, length, groups, d_state)
    check_tensors(
        "ssd",
        {
            "x": (x, tuple(x.shape), "(batch, length, heads, headdim)"),
            "dt": (dt, (batch, length, heads), "(batch, length, heads)"),
            "A": (A, (heads,), "(heads,)"),
            "B": (B, grouped, "(batch, length, groups, d_state)"),
            "C": (C, grouped, "(batch, length, groups, d_state)"),
            "D": (D, (heads,), "(heads,)"),
            "initial_state": (
                initial_state,
                (batch, heads, headdim, d_state),
                "(batch, heads, headdim, d_state)",
            ),
        },
    )


def check_selective_scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    initial_state: Tensor | None,
) -> None:
    """Check the arguments of `eegm2.ops.selective_scan`; raises TypeError or ValueError."""
    check_rank("selective_scan", "x", x, "(batch, length, channels)")
    check_rank("selective_scan", "A", A, "(channels, d_state)")
    batch, length, channels = x.shape
    d_state = A.shape[1]
    check_tensors(
        "selective_scan",
        {
            "x": (x, tuple(x.shape), "(batch, length, channels)"),
            "dt": (dt, (batch, length, channels), "(batch, length, channels)"),
            "A": (A, (channels, d_state), "(channels, d_state)"),
            "B": (B, (batch, length, d_state), "(batch, length, d_state)"),
            "C": (C, (batch, length, d_state), "(batch, length, d_state)"),
            "D": (D, (channels,), "(channels,)"),
            "initial_state": (initial_state, (batch, channels, d_state), "(batch, channels, d_state)"),
        },
    )


def check_conv(x: Tensor, weight: Tensor, bias: Tensor | None, state: Tensor | None) -> None:
    """Check the arguments of `eegm2.ops.causal_conv1d`; raises TypeError or ValueError."""
    check_rank("causal_conv1d", "x", x, "(batch, length, channels)")
    check_rank("causal_conv1d", "weight", weight, "(channels, kernel)")
    batch, _, channels = x.shape
    kernel = weight.shape[1]
    check_tensors(
        "causal_conv1d",
        {
            "x": (x, tuple(x.shape), "(batch, length, channels)"),
            "weight": (weight, (channels, kernel), "(channels, kernel)"),
            "bias": (bias, (channels,), "(channels,)"),
            "state": (state, (batch, kernel - 1, channels), "(batch, kernel - 1, channels)"),
        },
    )


def check_mix(
    zxbcdt: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A: Tensor,
    D: Tensor,
    norm_weight: Tensor,
    conv_state: Tensor | None,
    ssm_state: Tensor | None,
    ngroups: int,
    d_state: int,
    headdim: int,
) -> None:
    """Check the arguments of `eegm2.ops.mamba2_mix`; raises TypeError or ValueError."""
    check_rank("mamba2_mix", "zxbcdt", zxbcdt, "(batch, length, channels)")
    check_rank("mamba2_mix", "conv_weight", conv_weight, "(channels, kernel)")
    check_rank("mamba2_mix", "A", A, "(heads)")
    for name, value in (("ngroups", ngroups), ("d_state", d_state), ("headdim", headdim)):
        if value < 1:
            raise ValueError(f"mamba2_mix: {name} is {value}, expected at least 1")
    batch, length, _ = zxbcdt.shape
    heads, taps = A.shape[0], conv_weight.shape[1]
    if heads % ngroups:
        raise ValueError(f"mamba2_mix: heads ({heads}) is not divisible by ngroups ({ngroups})")
    inner = heads * headdim
    channels = inner + 2 * ngroups * d_state
    check_tensors(
        "mamba2_mix",
        {
            "zxbcdt": (
                zxbcdt,
                (batch, length, inner + channels + heads),
                "(batch, length, 2 d_inner + 2 ngroups d_state + heads)",
            ),
            "conv_weight": (conv_weight, (channels, taps), "(d_inner + 2 ngroups d_state, kernel)"),
            "conv_bias": (conv_bias, (channels,), "(d_inner + 2 ngroups d_state,)"),
            "dt_bias": (dt_bias, (heads,), "(heads,)"),
            "A": (A, (heads,), "(heads,)"),
            "D": (D, (heads,), "(heads,)"),
            "norm_weight": (norm_weight, (inner,), "(d_inner,)"),
            "conv_state": (conv_state, (batch, taps - 1, channels), "(batch, kernel - 1, channels)"),
            "ssm_state": (
                ssm_state,
                (batch, heads, headdim, d_state),
                "(batch, heads, headdim, d_state)",
            ),
        },
    )
