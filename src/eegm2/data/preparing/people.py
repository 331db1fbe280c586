"""Who the recordings of a source are from, where their names leave it in doubt: nobody else would ask."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

from eegm2.data.names import composed, shown
from eegm2.data.recipes.base import SourceRecording
from eegm2.words import count

_REMEDY = "if they are several people's, say whose with --table (a CSV with columns recording and subject)"


def doubts(
    sources: Sequence[SourceRecording],
    root: Path,
    *,
    certain: Collection[str] = (),
    declared: bool = False,
) -> list[str]:
    """Return a message for every way in which one person may have been taken for two, or several for one.

    Parameters
    ----------
    sources : sequence of SourceRecording
        As they will be prepared.
    root : Path
        The folder that they were found in.
    certain : collection of str
        Ids of the recordings whose subject the user has named.
    declared : bool
        Whether the data set says itself how its names are to be read.
    """
    told = _alike(sources)
    of: dict[str, list[SourceRecording]] = defaultdict(list)
    for source in sources:
        if source.recording_id not in certain:
            of[source.subject].append(source)
    if declared or not of:
        return told
    several = _cut_short(of, root)
    if not several and not certain:
        several = _all_of_one(of, root) if len(of) == 1 else _folders(of, root)
    return told + several


def _alike(sources: Sequence[SourceRecording]) -> list[str]:
    """Subjects that differ in case or spaces only: splits take them for two people."""
    people: dict[str, set[str]] = defaultdict(set)
    for source in sources:
        people["".join(composed(source.subject).casefold().split())].add(source.subject)
    alike = [" and ".join(sorted(names)) for _, names in sorted(people.items()) if len(names) > 1]
    if not alike:
        return []
    return [
        f"subjects that differ in case or spaces only: {', '.join(alike)}; "
        "if they are one person, name them alike"
    ]


def _all_of_one(of: dict[str, list[SourceRecording]], root: Path) -> list[str]:
    """Files that are all taken for one person's."""
    ((subject, theirs),) = of.items()
    files = sorted({shown(_below(source, root)) for source in theirs})
    if len(files) < 2:
        return []
    return [
        f"all {count(len(theirs), 'recording')} count as those of one person, '{shown(subject)}' "
        f"({_some(files)}); {_REMEDY}"
    ]


def _cut_short(of: dict[str, list[SourceRecording]], root: Path) -> list[str]:
    """Names that go on after a hyphen, which ends a label: ``sub-sub-01`` and ``sub-control-01``."""
    lines = []
    for subject, theirs in sorted(of.items()):
        whole = {
            found[0]
            for source in theirs
            for found in re.finditer(rf"(?<![^_/]){re.escape(subject)}(-[^-_/.]+)+", _below(source, root))
        }
        if len(whole) > 1:
            lines.append(
                f"{count(len(theirs), 'recording')} count as those of one person, '{shown(subject)}', though "
                f"their names go on after it ({_some([shown(name) for name in sorted(whole)])}), and a label "
                f"has no hyphens; {_REMEDY}"
            )
    return lines


def _folders(of: dict[str, list[SourceRecording]], root: Path) -> list[str]:
    """Folders that were taken for people and may be groups: what is in one is named as in no other."""
    inside = {subject: [_below(source, root).split("/", 1) for source in of[subject]] for subject in of}
    if any(len(path) < 2 or composed(path[0]) != who for who, paths in inside.items() for path in paths):
        return []
    names = {subject: {path[1].casefold() for path in paths} for subject, paths in inside.items()}
    several = {subject: found for subject, found in names.items() if len(found) > 2}
    own = all(
        subject.casefold() not in name
        and not any(name in others for other, others in names.items() if other != subject)
        for subject, found in several.items()
        for name in found
    )
    if not several or not own:
        return []
    subject, found = max(several.items(), key=lambda item: (len(item[1]), item[0]))
    return [
        f"{count(len(of), 'folder')} count as {len(of)} people, though their files have no names in common: "
        f"'{shown(subject)}' has {_some(sorted(shown(name) for name in found))}; {_REMEDY}"
    ]


def _below(source: SourceRecording, root: Path) -> str:
    """Return a recording's path below the folder, with ``/``."""
    path = source.path
    return (path.relative_to(root) if path.is_relative_to(root) else Path(path.name)).as_posix()


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
