"""Declared configuration: dataclasses whose fields carry their own help.

One dataclass per command is the single source of its Python arguments, its ``--help`` and its TOML file.
Nothing heavy is imported here, so that ``eegm2 --help`` is quick.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import math
import re
import tomllib
import types
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from eegm2.errors import ConfigError
from eegm2.records import Kind

T = TypeVar("T")

NOT_NEGATIVE = Kind("0 or more", lambda value: value >= 0)
ABOVE_0 = Kind("above 0", lambda value: value > 0)
SECONDS = Kind("seconds above 0", ABOVE_0.fits)
AT_LEAST_1 = Kind("at least 1", lambda value: value >= 1)
SHARE = Kind("a share between 0 and 1", lambda value: 0 <= value <= 1)
BELOW_1 = Kind("0 <= {name} < 1", lambda value: 0 <= value < 1)


def one_of(*names: str, words: str = "") -> Kind:
    """Return the kind of what is one of `names`: "a, b or c", or `words` and all of them."""
    text = f"{words} {', '.join(names)}" if words else f"{', '.join(names[:-1])} or {names[-1]}"
    return Kind(text, lambda value: value in names)


def option(default: Any, help: str, *, later: bool = False, parts: Any = None, alias: str = "") -> Any:
    """Declare a dataclass field with its help text.

    Parameters
    ----------
    default : object
        Default value; lists and dicts are copied for every instance.
    help : str
        One sentence, shown by ``--help``; states the unit where there is one.
    later : bool
        The option came after files had been written with `to_dict`: it leaves its default out, so that these
        files and their hashes stay as they are.
    parts : eegm2.plugins.Registry, optional
        The value names one of these, or none where it is empty; see `check_parts`.
    alias : str
        Another flag of it, such as the singular of a list.
    """
    metadata = {"help": help, "later": later, "parts": parts, "alias": alias}
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: type(default)(default), metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def split_commas(values: Iterable[str]) -> tuple[str, ...]:
    r"""Return values given several times, or once with commas between, as one tuple.

    ``\\,`` is a comma within a value; spaces around values and empty ones are left out.
    """
    parts = [part for value in values for part in re.split(r"(?<!\\),", value)]
    return tuple(part.replace("\\,", ",").strip() for part in parts if part.strip())


def to_dict(config: Any) -> dict[str, Any]:
    """Return a dataclass as plain JSON-serialisable values (tuples become lists)."""
    return {
        field.name: _plain(getattr(config, field.name))
        for field in dataclasses.fields(config)
        if not (field.metadata.get("later") and getattr(config, field.name) == _usual(field, None))
    }


def check_parts(config: Any) -> None:
    """Refuse names of parts (objectives, mixers …) that can be none, importing nothing; see `option`."""
    for field in dataclasses.fields(config):
        if field.metadata.get("parts") is not None and getattr(config, field.name):
            field.metadata["parts"].check(getattr(config, field.name))


def expect(config: Any, kind: Kind, *names: str) -> None:
    """Refuse options of a dataclass that are not of a kind, each value of a list; None always is.

    Raises
    ------
    ConfigError
        Naming the option, its value and what was expected.
    """
    for name in names:
        given = getattr(config, name)
        for value in given if isinstance(given, tuple) else (given,):
            if value is not None and not kind.fits(value):
                raise ConfigError(f"{name}: got {value!r}, expected {kind.name.format(name=name)}")


def pairs(texts: Iterable[str], where: str) -> dict[str, Any]:
    """Return ``name=value`` texts as a table; values are read as TOML has them, else as text.

    Raises
    ------
    ConfigError
        If one is of another form, or a name comes twice.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ConfigError(f"{where}: got {text!r}, expected name=value")
        if name in found:
            raise ConfigError(f"{where}: {name} is given twice; give it once")
        try:
            read = tomllib.loads(f"value = {value}")
        except (ValueError, RecursionError):
            read = {}
        plain = len(read) == 1 and isinstance(read["value"], int | float | bool | str | list)
        found[name] = read["value"] if plain else value
    return found


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value


def non_defaults(config: Any, base: Any = None) -> dict[str, Any]:
    """Return the fields in which a dataclass differs from its defaults, as plain values.

    What is named after these (by their hash) keeps its name when the library learns a new option.

    Parameters
    ----------
    config : dataclass
        Its fields may be dataclasses: of these too only what differs is returned.
    base : dataclass, optional
        Of the same class, in place of the declared defaults.
    """
    found = {}
    for field in dataclasses.fields(config):
        value, usual = getattr(config, field.name), _usual(field, base)
        if dataclasses.is_dataclass(value) and type(value) is type(usual):
            if inner := non_defaults(value, usual):
                found[field.name] = inner
        elif _plain(value) != _plain(usual):
            found[field.name] = _plain(value)
    return found


def conflicts(record: Any, config: Any, base: Any = None) -> list[str]:
    """Return the fields in which a stored ``to_dict`` and a dataclass of today differ.

    A field that the record lacks is younger than it and counts as its default; one that only the record
    has is gone since, and differs. So new options leave what was made before them valid, and a changed
    default does not.

    Parameters
    ----------
    record : dict
        As JSON gave it back.
    config, base : dataclass
        As in :func:`non_defaults`.
    """
    if not isinstance(record, dict):
        return [field.name for field in dataclasses.fields(config)]
    now = to_dict(config)
    usual = {field.name: _plain(_usual(field, base)) for field in dataclasses.fields(config)}
    now = {name: now.get(name, value) for name, value in usual.items()}
    gone = [name for name in record if name not in now]
    return gone + [name for name, value in now.items() if record.get(name, usual[name]) != value]


def _usual(field: Any, base: Any) -> Any:
    """Return a field's default (MISSING where it has none), or what `base` has."""
    if base is not None:
        return getattr(base, field.name)
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


@functools.cache
def type_hints(cls: type) -> dict[str, Any]:
    """Return the types of a dataclass's fields; reading them from their text takes long, and they stay."""
    return get_type_hints(cls)


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
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: got {values!r:.80}, expected a table")
    fields = {field.name for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = type_hints(cls)  # type: ignore[arg-type]
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
    except RecursionError:
        raise ConfigError(f"{path}: not valid TOML (it is nested too deeply)") from None
    except ValueError as error:  # no TOML, not UTF-8, or a number of thousands of digits
        reason = " ".join(str(error).split())[:160]
        raise ConfigError(f"{path}: not valid TOML ({reason}); correct it, and save it as UTF-8") from error


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
        if abs(value) > 2**1000:
            raise ConfigError(f"{where}: got a number of {len(str(value))} digits, expected a float")
        return float(value)
    if annotation is float and isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{where}: got {value}, expected a finite number")
    if annotation is Path and isinstance(value, str):
        return Path(value)
    if isinstance(annotation, type) and (
        not isinstance(value, annotation) or (annotation is int and isinstance(value, bool))
    ):
        raise ConfigError(f"{where}: got {value!r}, expected {annotation.__name__}")
    return value
