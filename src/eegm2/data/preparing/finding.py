"""What a source holds: its recordings by a recipe, and everything else that looks like EEG, with a reason."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from eegm2.data.config import PrepareConfig
from eegm2.data.files.tree import LeftOut, Tree, walk
from eegm2.data.names import composed, shown
from eegm2.data.preparing.people import doubts
from eegm2.data.preparing.worker import Job, RecordingOutcome
from eegm2.data.recipes.base import Recipe, SourceRecording, detect_recipe, get_recipe
from eegm2.errors import ConfigError, DataError
from eegm2.words import count

if TYPE_CHECKING:
    from eegm2.data.store.recording_store import RecordingStore


@dataclass(frozen=True)
class Findings:
    """What was found in a source.

    Attributes
    ----------
    recipe : Recipe
    sources : list of SourceRecording
        Recordings, those with a problem too.
    messages : tuple of str
        What concerns more than one recording.
    left_out : tuple of LeftOut
        Files and folders that look like EEG and belong to none of the recordings.
    """

    recipe: Recipe
    sources: list[SourceRecording]
    messages: tuple[str, ...]
    left_out: tuple[LeftOut, ...]


def find_recordings(root: Path, config: PrepareConfig) -> Findings:
    """Take a census of a source and find its recordings by the recipe that fits it.

    Raises
    ------
    ConfigError, DataError
        If the recipe does not exist or fit, the table cannot be used, or there is no recording; what was
        left out is named.
    """
    tree = walk(root)
    recipe, sources, messages = _by_recipe(tree, config)
    left_out = tree.unclaimed(
        _claimed(sources), f"outside the layout of recipe '{recipe.name}' (--recipe folder takes all)"
    )
    if recipe.outside is not None and root.is_dir():
        left_out = [_with_own_reason(left, recipe) for left in left_out]
    sources = sorted(sources, key=lambda source: (source.recording_id, str(source.path)))
    folder, named = root if root.is_dir() else root.parent, set[str]()
    if config.table:
        from eegm2.data.preparing.tables import apply_table

        sources, said, named = apply_table(sources, config.table, folder)
        messages += said
    messages += doubts(sources, folder, certain=named, declared=recipe.declared)
    return Findings(recipe, _with_own_identities(sources), tuple(messages), tuple(left_out))


def _by_recipe(tree: Tree, config: PrepareConfig) -> tuple[Recipe, list[SourceRecording], list[str]]:
    """Return the recipe, what it finds, and why it is not another one."""
    root = tree.root
    if config.recipe != "auto":
        recipe = get_recipe(config.recipe)
        return recipe, _discover(recipe, tree, config), []
    recipe = detect_recipe(root, by_table=not config.table) if root.is_dir() else get_recipe("folder")
    if recipe.name == "folder":
        own = root / "labels.csv"
        unused = own.is_file() and not config.table
        return (
            recipe,
            _discover(recipe, tree, config),
            [f"{own}: not used; give it with --table"] if unused else [],
        )
    sources = _discover(recipe, tree, config)
    claimed = _claimed(sources)
    outside = [path for path in tree.recordings() if path not in claimed]
    if recipe.declared or len(outside) < len({source.path for source in sources}):
        return recipe, sources, []
    message = (
        f"{root}: {count(len(sources), 'recording')} named as in {recipe.name}, but "
        f"{count(len(outside), 'other')} beside ({shown(outside[0].name)} …); read as a plain folder, "
        f"--recipe {recipe.name} takes the first alone"
    )
    recipe = get_recipe("folder")
    return recipe, _discover(recipe, tree, config), [message]


def _discover(recipe: Recipe, tree: Tree, config: PrepareConfig) -> list[SourceRecording]:
    """Return what a recipe finds; where that is nothing, name what is there instead."""
    options = {name: getattr(config, name) for name in recipe.options}
    if config.label_column and "label_column" not in options:
        raise ConfigError(
            f"label_column: recipe '{recipe.name}' reads no table of events; leave it out, or use --table"
        )
    try:
        return recipe.discover(tree.root, **options)
    except DataError as error:
        left = tree.unclaimed((), "a recording outside this layout; --recipe folder takes it")
        if not left or (recipe.name == "folder" and tree.recordings()):
            raise
        lines = sorted(summary(left), key=lambda line: "--recipe folder takes it" not in line)[:6]
        raise DataError(f"{error} (there is {'; '.join(lines)})") from error


def _claimed(sources: Iterable[SourceRecording]) -> set[Path]:
    return {path for source in sources for path in (source.path, *source.files, *source.claims)}


def _with_own_reason(left: LeftOut, recipe: Recipe) -> LeftOut:
    """Return what was left out with the recipe's reason where it has one."""
    assert recipe.outside is not None
    reason = recipe.outside(Path(left.path)) if left.reason.startswith("outside the layout") else ""
    return LeftOut(left.path, reason) if reason else left


def _with_own_identities(sources: Sequence[SourceRecording]) -> list[SourceRecording]:
    """Return the recordings with every identity once; later claims of one get a problem."""
    first: dict[str, SourceRecording] = {}
    unique = []
    for source in sources:
        other = first.setdefault(composed(source.recording_id).casefold(), source)
        if other is not source:
            reason = f"{source.path}: claims the identity '{source.recording_id}' of {other.path}; rename one"
            source = dataclasses.replace(source, recording_id=f"{source.recording_id} (2)", problem=reason)
        unique.append(source)
    return unique


def summary(left_out: Iterable[LeftOut], names: int = 3) -> list[str]:
    """Return one line per reason: how many files, why, and the first of them."""
    groups: dict[str, list[str]] = {}
    for left in left_out:
        groups.setdefault(left.reason, []).append(left.path)
    lines = []
    for reason, paths in groups.items():
        more = f" and {len(paths) - names} more" if len(paths) > names else ""
        lines.append(f"{len(paths)}: {', '.join(paths[:names])}{more}: {reason}")
    return lines


def settle_gone(
    found: Findings, job: Job, existing: RecordingStore | None, remove: bool
) -> tuple[list[RecordingOutcome], list[str]]:
    """Return what became of stored recordings that the source has no more, and a message about them.

    A recording whose file is there but was not taken this time, such as one that is not fetched, is not gone.

    Parameters
    ----------
    found : Findings
    job : Job
    existing : RecordingStore or None
        As it was before this run.
    remove : bool
        Whether to take them out of the store.
    """
    if existing is None:
        return [], []
    ids = {source.recording_id for source in found.sources}
    left = {left.path for left in found.left_out}
    gone = [info for info in existing.recordings if info.id not in ids and not _below_any(info.source, left)]
    if not gone:
        return [], []
    if remove:
        from eegm2.data.store.recording_store import StoreWriter

        writer = StoreWriter(job.out, job.preprocessing, job.preprocessing.channels, dtype=job.dtype)
        for info in gone:
            writer.remove(info.id)
        reason = f"{job.root}: has it no more"
        return [
            RecordingOutcome(info.id, info.subject, info.session, info.source, "removed", reason)
            for info in gone
        ], []
    names = ", ".join(shown(info.id) for info in gone[:5]) + (
        f" and {len(gone) - 5} more" if len(gone) > 5 else ""
    )
    return [], [
        f"the store keeps {count(len(gone), 'recording')} that the source does not have: {names}; deleted or "
        "renamed there, or prepared from another source. --remove-gone takes them out of the store"
    ]


def _below_any(path: str, left: set[str]) -> bool:
    """Return whether a file, or a folder above it, is among what was left out."""
    return any(part in left for part in (path, *map(str, Path(path).parents)))
