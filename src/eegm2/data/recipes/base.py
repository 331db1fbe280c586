"""What a recipe is: the declaration of one data set's layout, and the registry of all of them.

A recipe finds recordings; it neither filters nor resamples nor writes. Every module of this package that
defines ``RECIPES`` (a tuple of `Recipe`) takes part; heavy libraries are imported inside functions only.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eegm2.data.labels import LabelSpan
from eegm2.data.names import writable
from eegm2.errors import ConfigError, DataError

if TYPE_CHECKING:
    import mne


@dataclass(frozen=True)
class SourceRecording:
    """One recording as found in a data set, not yet read.

    Must survive pickling between our own processes: `reader` is a function of a module, or a
    `functools.partial` of one.

    Parameters
    ----------
    recording_id : str
        Unique within the data set and stable between runs, e.g. ``sub-01_ses-1_task-rest``.
    subject : str
        Who was recorded; splits never divide a subject.
    path : Path
        The main file (or the folder of the data set where recordings have no file of their own).
    session : str
        Session of the subject, or empty.
    labels : tuple of LabelSpan, or None
        Labelled spans; None means that the annotations inside the file are the labels.
    attributes : dict
        Facts of the recording or its subject, e.g. ``{"age": "31", "group": "control"}``; text only.
    split : str or None
        ``train``, ``val`` or ``test`` where the data set prescribes a split.
    files : tuple of Path
        Further files the content depends on (events, ratings, ``.fdt``); part of the source hash.
    reader : callable or None
        Returns the recording as an `mne.io.BaseRaw` in volts; None means
        `eegm2.data.files.readers.read_raw(path)`.
    claims : tuple of Path
        Files that are accounted for by this recording without being part of it (an export in a second form).
    notes : tuple of str
        What the user should know of it, found while looking around.
    problem : str or None
        Why this recording cannot be used (found while looking around); it is reported and skipped.
    """

    recording_id: str
    subject: str
    path: Path
    session: str = ""
    labels: tuple[LabelSpan, ...] | None = None
    attributes: dict[str, str] = field(default_factory=dict)
    split: str | None = None
    files: tuple[Path, ...] = ()
    claims: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    reader: Callable[[], Any] | None = None
    problem: str | None = None

    def __post_init__(self) -> None:
        for name in ("recording_id", "subject", "session"):
            object.__setattr__(self, name, writable(getattr(self, name)))
        object.__setattr__(
            self, "attributes", {writable(key): writable(text) for key, text in self.attributes.items()}
        )

    def load(self) -> mne.io.BaseRaw:
        """Read the recording, in volts as MNE holds it.

        Raises
        ------
        DataError
            If the file cannot be read; the message names it, what was found and the remedy.
        """
        if self.problem is not None:
            raise DataError(self.problem)
        if self.reader is not None:
            return self.reader()
        from eegm2.data.files.readers import read_raw

        return read_raw(self.path)


@functools.lru_cache(maxsize=64)
def file_digest(path: Path, size: int, mtime_ns: int) -> bytes:
    """Return the SHA-256 of a file; remembered, as one file may hold many recordings (DREAMER: 828)."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def never(root: Path) -> bool:
    """Return False: the recipe is used only when asked for by name."""
    return False


@dataclass(frozen=True)
class Recipe:
    """A data set's declaration.

    Parameters
    ----------
    name : str
        What ``eegm2 prepare --recipe`` calls it.
    description : str
        One sentence.
    tree : str
        The expected files, as a small drawing.
    licence, url : str
        Under which terms it is published, and its download page.
    discover : callable
        ``discover(root) -> list[SourceRecording]``; raises DataError if the folder does not fit the layout.
        A single unusable recording is returned with its `problem`, so that the rest goes on.
    matches : callable
        ``matches(root) -> bool``: cheap, whether ``--recipe auto`` may choose this recipe for a folder.
    preprocessing : dict
        Values of `eegm2.data.config.PreprocessingConfig` that suit the set; the user's own options win.
    preprocessing_of : callable or None
        ``preprocessing_of(root) -> dict``: further such values that depend on what is in the folder.
    options : tuple of str
        Fields of `eegm2.data.config.PrepareConfig` that `discover` takes by name.
    declared : bool
        Whether a file of the folder says which layout it is (dataset_description.json); names of files alone
        decide only where they are those of most recordings.
    outside : callable or None
        ``outside(relative path) -> str``: why the recipe does not take a file that could be read; empty for
        the usual reason.
    licence_of : callable or None
        ``licence_of(root) -> str``: the terms that the folder itself states, "" if it states none.
    subjects, labels, citation, notes : str
        How many people, what the label spans and attributes are, what to cite, and what was assumed about
        the layout or must be known before use. Shown by ``eegm2 datasets NAME``.
    """

    name: str
    description: str
    tree: str
    licence: str
    url: str
    discover: Callable[..., list[SourceRecording]]
    matches: Callable[[Path], bool] = never
    preprocessing: dict[str, Any] = field(default_factory=dict)
    preprocessing_of: Callable[[Path], dict[str, Any]] | None = None
    options: tuple[str, ...] = ()
    declared: bool = False
    outside: Callable[[Path], str] | None = None
    licence_of: Callable[[Path], str] | None = None
    subjects: str = ""
    labels: str = ""
    citation: str = ""
    notes: str = ""


@functools.cache
def all_recipes() -> dict[str, Recipe]:
    """Return every recipe of this package by name, sorted."""
    import eegm2.data.recipes as package

    found: dict[str, Recipe] = {}
    for module in sorted(info.name for info in pkgutil.iter_modules(package.__path__)):
        recipes: Sequence[Recipe] = getattr(
            importlib.import_module(f"{package.__name__}.{module}"), "RECIPES", ()
        )
        for recipe in recipes:
            if recipe.name in found:
                raise ConfigError(f"recipe '{recipe.name}' is defined twice (again in {module}.py)")
            found[recipe.name] = recipe
    return dict(sorted(found.items()))


def get_recipe(name: str) -> Recipe:
    """Return the recipe called `name`.

    Raises
    ------
    ConfigError
        If there is none; the message lists those there are.
    """
    recipes = all_recipes()
    if name not in recipes:
        raise ConfigError(f"recipe: got '{name}', expected auto or one of {', '.join(recipes)}")
    return recipes[name]


def detect_recipe(root: Path, *, by_table: bool = True) -> Recipe:
    """Return the recipe whose `matches` accepts `root`; ``folder`` (any nested EEG files) where none does.

    A recipe that a file of the folder declares goes before those that names of files suggest.

    Parameters
    ----------
    root : Path
        A folder.
    by_table : bool
        Whether a labels.csv in it may decide; not where the user gives a table.

    Raises
    ------
    ConfigError
        If several data sets' recipes accept it.
    """
    fits = [recipe for recipe in all_recipes().values() if recipe.matches(root)]
    fits = [recipe for recipe in fits if by_table or recipe.name != "folder_csv"]
    fits = [recipe for recipe in fits if recipe.declared] or fits
    if len(fits) > 1:
        names = ", ".join(recipe.name for recipe in fits)
        raise ConfigError(f"{root}: fits several recipes ({names}); choose one with --recipe")
    return fits[0] if fits else get_recipe("folder")
