"""Declared configuration: dataclasses whose fields carry their own help.

One dataclass per command is the single source of its Python arguments, its ``--help`` and its TOML file.
Nothing heavy is imported here, so that ``eegm2 --help`` is quick.
"""

from __future__ import annotations

import dataclasses
import difflib
import tomllib
import types
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from eegm2.errors import ConfigError

T = TypeVar("T")


def option(default: Any, help: str) -> Any:
    """Declare a dataclass field with its help text.

    Parameters
    ----------
    default : object
        Default value; lists and dicts are copied for every instance.
    help : str
        One sentence, shown by ``--help``; states the unit where there is one.
    """
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata={"help": help})
    return dataclasses.field(default=default, metadata={"help": help})


def to_dict(config: Any) -> dict[str, Any]:
    """Return a dataclass as plain JSON-serialisable values (tuples become lists)."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            return to_dict(value)
        if isinstance(value, Path):
            return str(value)
        if isinstance(value, list | tuple):
            return [plain(item) for item in value]
        if isinstance(value, dict):
            return {str(key): plain(item) for key, item in value.items()}
        return value

    return {field.name: plain(getattr(config, field.name)) for field in dataclasses.fields(config)}


def from_dict(cls: type[T], values: dict[str, Any], *, where: str = "configuration") -> T:
    """Build a dataclass from plain values, strictly.

    Parameters
    ----------
    cls : type
        The dataclass.
    values : dict
        Field names and values; missing fields take their defaults.
    where : str
        Named in error messages (a file, usually).

    Raises
    ------
    ConfigError
        If a key is unknown (the nearest known key is suggested) or a value is of the wrong type.
    """
    fields = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = get_type_hints(cls)
    arguments = {}
    for key, value in values.items():
        if key not in fields:
            near = difflib.get_close_matches(key, fields, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; known keys: {', '.join(sorted(fields))}"
            raise ConfigError(f"{where}: unknown key '{key}'{hint}")
        arguments[key] = _convert(value, hints[key], f"{where}: {key}")
    return cls(**arguments)


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read a TOML file, with a one-line error where it is missing or malformed."""
    try:
        with Path(path).open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration file ({error.strerror})") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not valid TOML ({error})") from error


def _convert(value: Any, annotation: Any, where: str) -> Any:
    """Return `value` as `annotation` asks, or raise a ConfigError; never guesses a boolean from text."""
    origin = get_origin(annotation)
    if annotation is Any:
        return value
    if origin in (Union, types.UnionType):
        choices = get_args(annotation)
        if value is None and type(None) in choices:
            return None
        for choice in choices:
            if choice is not type(None):
                try:
                    return _convert(value, choice, where)
                except ConfigError as error:
                    last = error
        raise last
    if origin is Literal:
        if value not in get_args(annotation):
            raise ConfigError(
                f"{where}: got {value!r}, expected one of {', '.join(map(repr, get_args(annotation)))}"
            )
        return value
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: got {value!r}, expected a list")
        inner = get_args(annotation)
        item = inner[0] if inner else Any
        if origin is tuple and len(inner) > 1 and inner[1] is not Ellipsis:
            if len(value) != len(inner):
                raise ConfigError(f"{where}: got {len(value)} values, expected {len(inner)}")
            return tuple(_convert(v, a, where) for v, a in zip(value, inner))
        return origin(_convert(v, item, where) for v in value)
    if origin is dict:
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: got {value!r}, expected a table")
        return dict(value)
    if dataclasses.is_dataclass(annotation):
        if isinstance(value, annotation):  # type: ignore[arg-type]
            return value
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: got {value!r}, expected a table")
        return from_dict(annotation, value, where=where)  # type: ignore[arg-type]
    if annotation is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if annotation is Path and isinstance(value, str):
        return Path(value)
    if isinstance(annotation, type) and (
        not isinstance(value, annotation) or (annotation is int and isinstance(value, bool))
    ):
        raise ConfigError(f"{where}: got {value!r}, expected {annotation.__name__}")
    return value
