"""Parts by name: ours by a short one, anybody's as ``package.module:Name``, imported with consent alone.

A `Registry` is one kind of part. Looking up a name of ours needs nothing. A name of the other form stands for
code that is not ours: it is imported where the user has named it or given consent (`trusting`), never because
a file says so.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import difflib
import importlib
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eegm2.config import from_dict
from eegm2.errors import CheckpointError, ConfigError, EEGM2Error

_MODULE = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*"
_PLUGIN = re.compile(rf"({_MODULE}):([A-Za-z_]\w*)", re.ASCII)
_TRUSTED: list[str] = []


def is_plugin(name: str) -> bool:
    """Return whether a name means a part that is not ours."""
    return bool(_PLUGIN.fullmatch(name))


@contextlib.contextmanager
def trusting(*packages: str) -> Iterator[None]:
    """Let parts of these packages be imported where a file names them, within a ``with`` block.

    Importing runs their code: trust what you have installed and know, not what a file asks for.

    Parameters
    ----------
    *packages : str
        ``package`` or ``package.module``, with all that is below; or one part, ``package.module:Name``.

    Raises
    ------
    ConfigError
        If one has another form.
    """
    for name in packages:
        if not re.fullmatch(rf"{_MODULE}(?::[A-Za-z_]\w*)?", name, re.ASCII):
            raise ConfigError(
                f"trust: got {name!r}, expected a package, package.module or package.module:Name"
            )
    _TRUSTED.extend(packages)
    try:
        yield
    finally:
        for name in packages:
            _TRUSTED.remove(name)


def trusted(name: str) -> bool:
    """Return whether consent has been given to import ``package.module:Name``."""
    return any(name == given or name.startswith((f"{given}.", f"{given}:")) for given in _TRUSTED)


def refuse_untrusted(where: object, what: str, name: str) -> None:
    """Raise a CheckpointError if a file names a part that is not ours and nobody has consented to it."""
    if is_plugin(name) and not trusted(name):
        package = name.partition(":")[0].partition(".")[0]
        raise CheckpointError(
            f"{where}: names the {what} {name}, whose code is not eegm2's and would be run; if you know it, "
            f"say --trust {package} (trust={package!r}, or with eegm2.trusting({package!r}) in Python)"
        )


def named_plugins(*configs: Any) -> tuple[str, ...]:
    """Return the parts that are not ours and that configurations name in fields made with ``parts``."""
    return tuple(dict.fromkeys(name for _, _, name in _named(configs)))


def consent(*configs: Any) -> None:
    """Import the parts that a user's own configurations name, and check the options given to them.

    From here on they can be used by name; files that name them are still refused outside of `trusting`.

    Raises
    ------
    ConfigError
        If one cannot be imported or is something else, or an option is unknown or of another type.
    """
    for config, field_name, name in _named(configs):
        registry: Registry = next(
            f.metadata["parts"] for f in dataclasses.fields(config) if f.name == field_name
        )
        with trusting(name):
            registry.find(name)
        values = getattr(config, f"{field_name}_options", None)
        if values is not None:
            registry.options(name, values)


def _named(configs: Iterable[Any]) -> Iterator[tuple[Any, str, str]]:
    """Yield configuration, field and name of every part that is not ours."""
    for config in configs:
        for entry in dataclasses.fields(config):
            value = getattr(config, entry.name)
            if entry.metadata.get("parts") is not None and is_plugin(value):
                yield config, entry.name, value


@dataclass(frozen=True)
class Registry:
    """One kind of part.

    Attributes
    ----------
    what : str
        Its name in messages and options.
    base : str
        ``module:Class`` that a part is a subclass of.
    ours : mapping of str to str, or callable that returns one
        Short names and the ``module:Name`` (or the part itself) behind each.
    methods : tuple of str
        What a part must define beyond the base.
    instances : bool
        Parts are instances of the base, not classes.
    """

    what: str
    base: str
    ours: Mapping[str, Any] | Callable[[], Mapping[str, Any]]
    methods: tuple[str, ...] = ()
    instances: bool = False
    _found: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def names(self) -> tuple[str, ...]:
        """Short names of ours."""
        return tuple(self.ours() if callable(self.ours) else self.ours)

    def check(self, name: str) -> None:
        """Refuse a name that can be no part's, importing nothing.

        Raises
        ------
        ConfigError
            If it is neither one of ours (the nearest is named) nor of the form ``package.module:Name``.
        """
        if not is_plugin(name) and name not in self.names:
            near = difflib.get_close_matches(name, self.names, n=1)
            hint = f"; did you mean '{near[0]}'?" if near else ""
            raise ConfigError(
                f"{self.what}: got '{name}', expected one of {', '.join(self.names)}, "
                f"or package.module:Name{hint}"
            )

    def find(self, name: str) -> Any:
        """Return a part, imported where that is needed.

        Raises
        ------
        ConfigError
            If there is none of this name, it cannot be imported, or it is something else.
        CheckpointError
            If it is not ours and consent is missing.
        """
        self.check(name)
        if name in self._found:
            return self._found[name]
        if is_plugin(name):
            refuse_untrusted(f"{self.what} {name}", self.what, name)
            part = _imported(name, f"{self.what} {name}")
            self._refuse_other(name, part)
        else:
            part = (self.ours() if callable(self.ours) else self.ours)[name]
            if isinstance(part, str):
                place, _, attribute = part.partition(":")
                part = getattr(importlib.import_module(place), attribute)
        self._found[name] = part
        return part

    def options(self, name: str, values: Mapping[str, Any]) -> Any:
        """Return the options of a part; see `read_options` and `find`."""
        return read_options(self.find(name), values, f"{self.what} {name}")

    def make(self, name: str, *arguments: Any, options: Mapping[str, Any]) -> Any:
        """Return ``part(*arguments)``, followed by its options where it declares any.

        Raises
        ------
        ConfigError
            As `options`; and if a part that is not ours cannot be made.
        """
        part, chosen = self.find(name), self.options(name, options)
        if chosen is not None:
            arguments = (*arguments, chosen)
        if not is_plugin(name):
            return part(*arguments)
        try:
            return part(*arguments)
        except EEGM2Error:
            raise
        except Exception as error:
            raise ConfigError(f"{self.what} {name}: cannot be made: {_said(error)}") from error

    def _refuse_other(self, name: str, part: Any) -> None:
        """Raise a ConfigError that says what a part lacks."""
        place, _, attribute = self.base.partition(":")
        base = getattr(importlib.import_module(place), attribute)
        wanted = attribute if place == "builtins" else f"eegm2.{attribute}"
        where = f"{self.what} {name}"
        if self.instances:
            if not isinstance(part, base):
                raise ConfigError(f"{where}: is {_kind(part)}, expected an instance of {wanted}")
        elif not (isinstance(part, type) and issubclass(part, base)):
            raise ConfigError(f"{where}: is {_kind(part)}, expected a subclass of {wanted}")
        else:
            lacking = [m for m in self.methods if getattr(part, m, None) is getattr(base, m, None)]
            if lacking:
                raise ConfigError(f"{where}: defines no {', '.join(lacking)}; see docs/plugins.md")
        declared = options_class(part)
        if declared is not None and not (isinstance(declared, type) and dataclasses.is_dataclass(declared)):
            raise ConfigError(f"{where}: its options are {_kind(declared)}, expected a dataclass")


def lazily(place: str) -> Callable[[], Mapping[str, Any]]:
    """Return a function that imports ``module:NAME``, a mapping of ours, when it is called."""
    module, _, attribute = place.partition(":")

    def ours() -> Mapping[str, Any]:
        found: Mapping[str, Any] = getattr(importlib.import_module(module), attribute)
        return found

    return ours


def declared(package: str, folder: Path, attribute: str) -> dict[str, str]:
    """Return what the modules of a package declare in a literal, name → ``module:Name``, importing nothing.

    Parameters
    ----------
    package : str
        Its name.
    folder : Path
        Where its modules are.
    attribute : str
        Of a module: ``{"name": "Class in this module"}``.
    """
    found: dict[str, str] = {}
    for path in sorted(folder.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        literal = re.search(rf"^{attribute} = (\{{.*?\}})$", text, re.MULTILINE | re.DOTALL)
        for name, part in ast.literal_eval(literal[1]).items() if literal else ():
            if name in found:
                raise ConfigError(f"{package}: {name} is declared twice, again in {path.name}")
            found[name] = f"{package}.{path.stem}:{part}"
    return found


def options_class(part: Any) -> Any:
    """Return the dataclass of a part's options, None where it declares none."""
    return getattr(part, "Options", None) if isinstance(part, type) else getattr(part, "options", None)


def read_options(part: Any, values: Mapping[str, Any], where: str) -> Any:
    """Return a part's options, an instance of its dataclass ``Options``; None where it declares none.

    Raises
    ------
    ConfigError
        If an option is unknown (the nearest is named), or a value is missing, of another type or refused.
    """
    declared = options_class(part)
    if declared is None:
        if values:
            raise ConfigError(f"{where}: takes no options, got {', '.join(values)}; leave them out")
        return None
    try:
        return from_dict(declared, dict(values), where=where)
    except ConfigError as error:
        text = str(error)
        raise ConfigError(text if text.startswith(where) else f"{where}: {text}") from error
    except TypeError as error:  # an option without default is missing
        raise ConfigError(f"{where}: {' '.join(str(error).split())}; give it as an option") from error


def _imported(name: str, where: str) -> Any:
    """Import ``package.module:Name``; modules of the working directory are found too."""
    place, _, attribute = name.partition(":")
    here = str(Path.cwd())
    if not {"", here} & set(sys.path):
        sys.path.append(here)  # for good: what it imports later, and its workers, look there too
    try:
        module = importlib.import_module(place)
    except Exception as error:  # whatever its code raises
        missing = isinstance(error, ModuleNotFoundError) and f"{place}.".startswith(f"{error.name}.")
        reason = f"there is no module {error.name}" if missing else _said(error)  # type: ignore[attr-defined]
        raise ConfigError(
            f"{where}: cannot be imported: {reason}; install it, or run in the folder that holds it"
        ) from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        near = difflib.get_close_matches(attribute, [n for n in vars(module) if n[0] != "_"], n=1)
        hint = f"did you mean '{near[0]}'?" if near else "write its name as it is defined there"
        raise ConfigError(f"{where}: {place} has no {attribute}; {hint}") from None


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _kind(value: Any) -> str:
    return f"the class {value.__name__}" if isinstance(value, type) else f"of type {type(value).__name__}"
