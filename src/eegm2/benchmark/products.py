"""The bound: how long the matrix products of a network take alone.

The products are those of its linear layers and convolutions, found by hooks on the plain network (so that no
fused path hides one). Two bounds: their operations at the highest rate that this machine reaches on square
products, and the products themselves, one after another, at their own shapes.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn

from eegm2.benchmark.plain import PlainEEGM2

#: Steps at which the shapes are read; every level of the network divides it.
PROBE = 256
#: Rows of a product that is timed; longer ones count in proportion.
ROWS = 16_384
SQUARES = (512, 1024, 1536)
#: Layers that inference may multiply out to one convolution, and those of them that only follow others.
EMBEDDING, AFTER = ("encoder.embedding", "encoder.linear1"), ("fuse", "linear1")

Shape = tuple[float, int, int]


def product_shapes(
    network: PlainEEGM2, n_chans: int, n_times: int, batch: int, *, composed: bool = False
) -> Counter[Shape]:
    """Return (rows, inner, columns) of every product of linear layers and convolutions, with its count.

    Parameters
    ----------
    network : PlainEEGM2
        Its mixers are plain, so every product passes through a module.
    n_chans, n_times, batch : int
        Shape of the input; rows are exact where n_times is divisible by 8.
    composed : bool
        Count embedding and first linear layer as the one convolution that they multiply out to, as inference
        may: the lower bound of the two.

    Returns
    -------
    Counter
        A convolution over time is a product of (rows, channels * kernel) with (channels * kernel, outputs).
        Depthwise convolutions are not products.
    """
    found: dict[str, Shape] = {}

    def note(name: str, module: nn.Module, output: Tensor) -> None:
        if isinstance(module, nn.Linear):
            found[name] = (output.numel() // module.out_features, module.in_features, module.out_features)
        elif isinstance(module, nn.Conv1d) and module.groups == 1:
            inner = module.in_channels * module.kernel_size[0]
            found[name] = (output.numel() // module.out_channels, inner, module.out_channels)

    handles = [
        module.register_forward_hook(lambda module, inputs, output, name=name: note(name, module, output))
        for name, module in network.named_modules()
    ]
    with torch.enable_grad():  # without gradients, layers may be multiplied out and pass no module
        network(torch.zeros(1, n_chans, PROBE))
    for handle in handles:
        handle.remove()
    if composed:
        first = {name: found.pop(name) for name in list(found) if name.startswith(EMBEDDING)}
        rows, _, columns = first["encoder.linear1"]
        found["composed"] = (rows, max(i for n, (_, i, _) in first.items() if not n.endswith(AFTER)), columns)
    scale = batch * n_times / PROBE
    return Counter((rows * scale, inner, columns) for rows, inner, columns in found.values())


def operations(shapes: Counter[Shape]) -> float:
    """Return the floating point operations, two per multiplication and addition."""
    return sum(2.0 * rows * inner * columns * count for (rows, inner, columns), count in shapes.items())


def median_seconds(work: Callable[[], object], at_least_s: float) -> float:
    """Return the median time of `work` over at least three runs and `at_least_s` seconds, after one."""
    work()
    times: list[float] = []
    while len(times) < 3 or sum(times) < at_least_s:
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def product_seconds(rows: int, inner: int, columns: int, at_least_s: float) -> float:
    """Return the median time of one float32 product, into memory that exists."""
    a, b, out = torch.randn(rows, inner), torch.randn(inner, columns), torch.empty(rows, columns)
    return median_seconds(lambda: torch.mm(a, b, out=out), at_least_s)


def product_rate() -> float:
    """Return the highest rate of float32 products on this machine, in operations per second."""
    return max(2.0 * size**3 / product_seconds(size, size, size, 0.15) for size in SQUARES)


def products_alone_s(shapes: Counter[Shape]) -> float:
    """Return the time of the products at their own shapes, one after another."""
    total = 0.0
    for (rows, inner, columns), count in shapes.items():
        timed = max(1, min(int(rows), ROWS))
        total += count * rows / timed * product_seconds(timed, inner, columns, 0.03)
    return total


def bound(network: PlainEEGM2, n_chans: int, n_times: int, batch: int, *, training: bool) -> dict[str, float]:
    """Return the bound of a forward pass, or of a training step: three products for each."""
    shapes = product_shapes(network, n_chans, n_times, batch, composed=not training)
    times = 3 if training else 1
    rate = product_rate()
    return {
        "gflop": times * operations(shapes) / 1e9,
        "gflop_per_s": rate / 1e9,
        "at_rate_s": times * operations(shapes) / rate,
        "alone_s": times * products_alone_s(shapes),
    }
