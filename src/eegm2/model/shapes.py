"""Networks without memory for their weights: what a header asks for, at any size, before it is believed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

#: What fills a tensor or changes each of its values: shape and dtype stay.
VALUES = frozenset(
    (
        "uniform_",
        "normal_",
        "exp",
        "log",
        "neg",
        "expm1",
        "clamp",
        "clamp_min",
        "mul",
        "add",
        "sub",
        "__rsub__",
    )
)


class _Shapes(TorchFunctionMode):
    """Leaves values that are not there as they are: torch would import torch.compile for them, 0.8 s."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        tensors = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
        alike = len({(t.shape, t.dtype) for t in tensors}) == 1 and tensors[0].is_floating_point()
        if alike and (getattr(func, "__module__", "") == "torch.nn.init" or func.__name__ in VALUES):
            return tensors[0]
        if func is torch.arange:
            return func(*args, **{**kwargs, "device": "cpu"}).to("meta")
        return func(*args, **kwargs)


@contextlib.contextmanager
def without_memory() -> Iterator[None]:
    """Build networks on torch's meta device: shapes and dtypes, no values, no random number drawn."""
    with torch.device("meta"), _Shapes():
        yield
