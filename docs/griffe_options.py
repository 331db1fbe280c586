"""Show a configuration's fields by their default and their help, as the command line does."""

from __future__ import annotations

import ast
import contextlib
from typing import Any

import griffe


class Options(griffe.Extension):
    """Reads ``name: type = option(default, "help")`` as a default and a description."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Put the first argument of `option` in the place of the call, and the second into the docstring."""
        value = attr.value
        if not isinstance(value, griffe.ExprCall) or str(value.function) != "option":
            return
        default, *rest = value.arguments
        attr.value = default
        if attr.docstring is None and rest:
            with contextlib.suppress(ValueError):  # put together at run time
                text = " ".join(str(ast.literal_eval(str(rest[0]))).split())
                attr.docstring = griffe.Docstring(text, parent=attr, lineno=attr.lineno)
