"""What is made of weights once and used for as long as they stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from eegm2.ops.backends import choose_backend
from eegm2.ops.checks import FLOATS, needs_gradient

Made = TypeVar("Made")


class Kept:
    """Weights in the form that compiled kernels read, made anew when a bit of them has changed.

    Weights can be changed in ways that leave no trace (``p.data``, memory shared with NumPy), so every use
    reads them and compares a number that follows every bit. Copies of a module and files leave it behind.
    """

    def __init__(self) -> None:
        self._made: tuple[Any, Any] | None = None

    def of(self, tensors: Sequence[Tensor | None], make: Callable[[], Made]) -> Made:
        """Return ``make()``, or what it returned when `tensors` were last as they are now."""
        from eegm2.ops.cpu.prepared import identity

        found, made = identity([t for t in tensors if t is not None]), self._made
        if made is None or made[0] != found:
            with torch.no_grad():
                made = self._made = (found, make())
        result: Made = made[1]
        return result

    def __deepcopy__(self, memo: Any) -> Kept:
        return Kept()

    def __reduce__(self) -> tuple[type[Kept], tuple[()]]:
        return Kept, ()


def compiled_products(x: Tensor, tensors: Sequence[Tensor | None]) -> bool:
    """Return whether compiled products can take this input and these weights.

    They take plain tensors of one full precision on a CPU, where nothing traces the network or wants narrower
    products.
    """
    return (
        x.device.type == "cpu"
        and x.numel() > 0
        and type(x) in (Tensor, nn.Parameter)
        and x.dtype in FLOATS[:2]
        and all(t is None or (t.dtype == x.dtype and t.device == x.device) for t in tensors)
        and not (torch.compiler.is_compiling() or torch.compiler.is_exporting() or torch.jit.is_tracing())
        and not torch.is_autocast_enabled("cpu")
        and choose_backend("auto", x.device) == "numba"
    )


def compiled_inference(x: Tensor, tensors: Sequence[Tensor | None]) -> bool:
    """Return whether `compiled_products` are possible and nothing asks for gradients."""
    return not needs_gradient(x, *tensors) and compiled_products(x, tensors)


def as_made(module: nn.Module, kind: type[nn.Module]) -> bool:
    """Return whether a module does what its kind does: it is no other form of it, and has no hooks."""
    return type(module) is kind and not (module._forward_hooks or module._forward_pre_hooks)
