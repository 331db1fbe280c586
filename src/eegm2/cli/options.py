"""Turn a declared configuration into command-line options.

``@options(PretrainConfig)`` gives a command one option per dataclass field, plus ``--config FILE.toml``;
the command line wins over the file, the file over the defaults.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

from eegm2.config import from_dict, pairs, read_toml, split_commas
from eegm2.errors import ConfigError
from eegm2.plugins import trusting

SEVERAL = "Several: with commas, or given again."
"""Ends the help of every option that takes a list."""


def several(*flags: str, help: str) -> Any:
    """Return a Typer option that takes a list: values with commas between, or given again, or both."""
    return typer.Option(*flags, help=f"{help} {SEVERAL}", callback=_separated)


def _separated(values: list[Any] | None) -> list[Any] | None:
    """Split what was given at its commas; a path that is there keeps its own."""
    if values is None:
        return None
    parts: list[Any] = []
    for value in values:
        if isinstance(value, Path):
            parts += [value] if value.exists() else map(Path, split_commas([str(value)]))
        else:
            parts += split_commas([value])
    return parts


def options(cls: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Expose every field of the dataclass `cls` as an option of a Typer command.

    The decorated function receives the finished instance as its keyword argument ``config``; its other
    parameters stay as they are. Fields that are tuples of any length take lists, see :func:`several`.
    """
    hints = get_type_hints(cls)
    fields = dataclasses.fields(cls)

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        own = [p for p in inspect.signature(command, eval_str=True).parameters.values() if p.name != "config"]

        @functools.wraps(command)
        def run(**arguments: Any) -> None:
            context = arguments.pop("context")
            file = arguments.pop("config_file")
            given: dict[str, Any] = {}
            for field in fields:
                value = arguments.pop(field.name)
                source = context.get_parameter_source(field.name)
                if source is not None and source.name != "DEFAULT":
                    given[field.name] = _items(field.name, value, hints[field.name])
            from_file = read_toml(file) if file is not None else {}
            from_dict(cls, from_file, where=str(file))
            config = from_dict(cls, {**from_file, **given}, where="options")
            command(**arguments, config=config)

        context = inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
        parameters = [context, *own, *(_parameter(field, hints[field.name]) for field in fields)]
        parameters.append(
            inspect.Parameter(
                "config_file",
                inspect.Parameter.KEYWORD_ONLY,
                default=None,
                annotation=Annotated[
                    Path | None,
                    typer.Option(
                        "--config",
                        help="TOML file with any of these options as keys; unknown keys are errors.",
                    ),
                ],
            )
        )
        parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in parameters]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in parameters}
        return run

    return decorate


def with_trust(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command that reads models the option ``--trust``."""
    trust = inspect.Parameter(
        "trust",
        inspect.Parameter.KEYWORD_ONLY,
        default=None,
        annotation=Annotated[
            list[str] | None,
            several(
                "--trust", help="Import this package's code where a model names it: what you know alone."
            ),
        ],
    )

    @functools.wraps(command)
    def run(*, trust: list[str] | None = None, **arguments: Any) -> None:
        with trusting(*(trust or ())):
            command(**arguments)

    own = inspect.signature(command, eval_str=True).parameters.values()
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    run.__signature__ = inspect.Signature([*parameters, trust])  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in [*parameters, trust]}
    return run


def _parameter(field: dataclasses.Field[Any], annotation: Any) -> inspect.Parameter:
    """Return the Typer parameter of one dataclass field."""
    default = field.default
    if default is dataclasses.MISSING:
        default = field.default_factory() if field.default_factory is not dataclasses.MISSING else ...
    flag = field.metadata.get("alias") or _flag(field)
    whole = "--" + field.name.replace("_", "-")
    names = [f"{flag}/--no-{flag[2:]}"] if annotation is bool else [*dict.fromkeys([flag, whole])]
    text, parts = field.metadata.get("help", ""), field.metadata.get("parts")
    more: dict[str, Any] = {}
    if parts is not None:
        text = f"{text} One of {', '.join(parts.names)}; or package.module:Name."
        more["callback"] = _checked(parts)
    item = _item_of(annotation)
    if item is not None:
        kept = [str(value) for value in default] if isinstance(default, tuple | dict) else default
        several_of = Annotated[list[str], several(*names, help=text)]
        return inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=kept, annotation=several_of
        )
    if isinstance(default, tuple):
        default = list(default)
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[annotation, typer.Option(*names, help=text, **more)],
    )


def _checked(parts: Any) -> Callable[[str], str]:
    """Return what refuses a name that can be no part's; none is fine."""

    def check(value: str) -> str:
        if value:
            parts.check(value)
        return value

    return check


def _flag(field: dataclasses.Field[Any]) -> str:
    """Return a field's flag; that of a table, of which it gives one entry at a time, is in the singular."""
    name = field.name.removesuffix("s") if str(field.type).startswith("dict[") else field.name
    return "--" + name.replace("_", "-")


def _item_of(annotation: Any) -> Any:
    """Return the type of the items where a field is a tuple of any length (text: a table), else None."""
    if get_origin(annotation) is dict:
        return str
    if get_origin(annotation) is tuple and get_args(annotation)[1:] == (Ellipsis,):
        return get_args(annotation)[0]
    return None


def _items(name: str, value: Any, annotation: Any) -> Any:
    """Return what was given for an option, the items of a list as the numbers they are to be."""
    if get_origin(annotation) is dict:
        return pairs(value, name)
    item = _item_of(annotation)
    if item not in (int, float):
        return value
    try:
        return [item(part) for part in value]
    except ValueError:
        kind = "whole numbers" if item is int else "numbers"
        raise ConfigError(f"{name}: got {','.join(value)}, expected {kind} with commas between") from None
