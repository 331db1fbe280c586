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

from eegm2.config import from_dict, pairs, read_toml
from eegm2.plugins import trusting


def options(cls: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Expose every field of the dataclass `cls` as an option of a Typer command.

    The decorated function receives the finished instance as its keyword argument ``config``; its other
    parameters stay as they are.
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
                    table = get_origin(hints[field.name]) is dict
                    given[field.name] = pairs(value, _flag(field)) if table else value
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
            typer.Option(
                "--trust",
                metavar="PACKAGE",
                help="Import this package's code where a model names it; only what you know; repeatable.",
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
    flag, whole = _flag(field), "--" + field.name.replace("_", "-")
    names = [f"{flag}/--no-{flag[2:]}"] if annotation is bool else [*dict.fromkeys([flag, whole])]
    if isinstance(default, tuple | dict):
        default = list(default)
    annotation = _repeatable(annotation)
    help, parts = field.metadata.get("help", ""), field.metadata.get("parts")
    more: dict[str, Any] = {}
    if parts is not None:
        help = f"{help} One of {', '.join(parts.names)}; or package.module:Name."
        more["callback"] = _checked(parts)
    return inspect.Parameter(
        field.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[annotation, typer.Option(*names, help=help, **more)],
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


def _repeatable(annotation: Any) -> Any:
    """Typer repeats options typed as list; our dataclasses prefer tuples of any length, and tables."""
    if get_origin(annotation) is dict:
        return list[str]
    if get_origin(annotation) is tuple and get_args(annotation)[1:] == (Ellipsis,):
        return list[get_args(annotation)[0]]  # type: ignore[misc]
    return annotation
