"""Torch operators of functions on CPU tensors, without the second that `torch.library.custom_op` takes first.

Its first call imports all of torch.compile, which nobody may have asked for. Here a function is handed to
the dispatcher as it is, and kept from being traced once torch.compile is there.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch

NAMESPACE = "eegm2"
_library = torch.library.Library(NAMESPACE, "FRAGMENT")


class Operator:
    """``torch.ops.eegm2.NAME``: a function that writes to none of its arguments.

    Parameters
    ----------
    name : str
    function : callable
        Its annotations are the operator's schema.

    Attributes
    ----------
    overload : torch.ops.OpOverload
        What the dispatcher calls.
    """

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self._name = name
        self._setup: Callable[[Any, tuple[Any, ...], Any], None] = _keep_nothing
        self._slopes: Callable[..., Any] = self._refuse
        schema = torch.library.infer_schema(function, mutates_args=())
        _library.define(name + schema, tags=(torch.Tag.pt2_compliant_tag,))
        _library.impl(name, _untraced(function), "CPU")
        self.overload = getattr(getattr(torch.ops, NAMESPACE), name).default
        torch.library.register_autograd(
            f"{NAMESPACE}::{name}",
            lambda ctx, *slopes: self._slopes(ctx, *slopes),
            setup_context=lambda ctx, inputs, output: self._setup(ctx, inputs, output),
            lib=_library,
        )
        functools.update_wrapper(self, function)

    def __call__(self, *arguments: Any) -> Any:
        """Run the function through the dispatcher."""
        return self.overload(*arguments)

    def register_fake(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Give the form for tensors without memory: shapes and dtypes of what is returned."""
        torch.library.register_fake(f"{NAMESPACE}::{self._name}", function, lib=_library)
        return function

    def register_autograd(
        self, slopes: Callable[..., Any], *, setup_context: Callable[[Any, tuple[Any, ...], Any], None]
    ) -> None:
        """Give the gradient; as `torch.library.register_autograd` has it."""
        self._slopes, self._setup = slopes, setup_context

    def _refuse(self, ctx: Any, *slopes: Any) -> Any:
        raise RuntimeError(f"{NAMESPACE}::{self._name} has no gradient; EEGM2_BACKEND=chunked has one")


def operator(name: str) -> Callable[[Callable[..., Any]], Operator]:
    """Make the decorated function the operator ``eegm2::name`` for CPU tensors."""
    return lambda function: Operator(name, function)


def _keep_nothing(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    pass


def _untraced(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, out of reach of torch.compile where that has been imported."""
    disabled = functools.cache(lambda: torch.compiler.disable(function))

    def run(*arguments: Any) -> Any:
        return (disabled() if "torch._dynamo" in sys.modules else function)(*arguments)

    return run
