"""One matrix from a file's channels to the wanted ones: picking, differences, reference, interpolation."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from eegm2.data.channels import Montage, canonical
from eegm2.errors import ConfigError, DataError

PREPARE_ADVICE = "choose another montage, or --missing interpolate"


def mixing_matrix(
    ch_names: Sequence[str],
    montage: Montage,
    *,
    where: str,
    interpolate: bool = False,
    unusable: Iterable[str] = (),
    without_range: Iterable[str] = (),
    repeated: Collection[str] = (),
    average_reference: bool = False,
    advice: str = PREPARE_ADVICE,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the matrix from a file's channels to the wanted ones, and the interpolated electrodes.

    Parameters
    ----------
    ch_names : sequence of str
        Channels of the file, as they are called there.
    montage : Montage
        What is wanted.
    where : str
        The file, for messages.
    interpolate : bool
        Fill missing electrodes by spherical splines from all others with known positions.
    unusable : iterable of str
        Names in the file that are filled so in any case.
    without_range : iterable of str
        Names in the file whose numbers mean nothing, as their header gives no range: they count as missing.
    repeated : collection of str
        Names that the file has more than once, and that its reader has numbered (``Fz-0``, ``Fz-1``).
    average_reference : bool
        Subtract the mean of the wanted channels (only for a montage without differences).
    advice : str
        What a user can do about missing channels.

    Returns
    -------
    matrix : ndarray, shape (n_wanted, n_in_file)
    interpolated : tuple of str

    Raises
    ------
    DataError
        If channels are missing (all are listed), or one that is wanted is there more than once.
    """
    filled, empty = set(unusable), set(without_range)
    every = _columns(ch_names, montage, repeated)
    electrodes = _electrodes(montage.channels, every)
    _refuse_duplicates([name for name in electrodes if len(every.get(name, ())) > 1], every, ch_names, where)
    rows = {
        name: good
        for name, columns in every.items()
        if (good := [column for column in columns if ch_names[column] not in filled | empty])
    }
    missing = [name for name in electrodes if name not in rows]
    lost = [name for name in missing if name in every and ch_names[every[name][0]] in filled]
    if len(missing) > len(lost) and not interpolate:
        _refuse_missing(
            [name for name in missing if name not in lost],
            electrodes,
            every,
            ch_names,
            montage,
            where,
            advice,
        )
    unit = np.eye(len(ch_names))
    weights = {name: unit[rows[name][0]] for name in electrodes if name in rows}
    if missing:
        from eegm2.data.positions import interpolation_weights

        weights |= interpolation_weights(missing, rows, len(ch_names), where)
    matrix = np.zeros((len(montage.channels), len(ch_names)))
    for row, name in enumerate(montage.channels):
        parts = [name] if name in weights else name.split("-")
        matrix[row] = weights[parts[0]] - (weights[parts[1]] if len(parts) == 2 else 0.0)
    if average_reference:
        differences = [name for name in montage.channels if "-" in name]
        if differences:
            raise ConfigError(
                f"reference: average does not fit differences such as {differences[0]}; use keep"
            )
        matrix -= matrix.mean(0)
    return matrix, tuple(missing)


def _columns(ch_names: Sequence[str], montage: Montage, repeated: Collection[str]) -> dict[str, list[int]]:
    """Return every name that a file's channels answer to, and which of them do.

    The user's own alias goes before the channel's name, and that before the name without the number that a
    reader gave it. Where several channels would answer, one that bears a wanted name letter by letter is
    meant if the others are wanted by their own names too.
    """
    names = [name.strip() for name in ch_names]
    wanted = set(montage.channels)
    by_alias: dict[str, list[int]] = {}
    by_name: dict[str, list[int]] = {}
    by_base: dict[str, list[int]] = {}
    for column, name in enumerate(names):
        if name in montage.aliases:
            by_alias.setdefault(montage.aliases[name], []).append(column)
            continue
        by_name.setdefault(canonical(name), []).append(column)
        base, dash, number = name.rpartition("-")
        if dash and number.isdecimal() and base in repeated:
            by_base.setdefault(canonical(base), []).append(column)
    for ours, columns in list(by_name.items()):
        own = {names[column] for column in columns}
        if len(own) == len(columns) > 1 and own <= wanted:
            for column in columns:
                by_name[names[column]] = [column]
            if ours not in own:
                del by_name[ours]
    return by_base | by_name | by_alias


def _refuse_missing(
    missing: Sequence[str],
    electrodes: Sequence[str],
    every: Mapping[str, list[int]],
    ch_names: Sequence[str],
    montage: Montage,
    where: str,
    advice: str,
) -> None:
    there = [ch_names[every[name][0]] for name in missing if name in every]
    if there:
        raise DataError(
            f"{where}: channels without a range (digital or physical minimum and maximum are equal): "
            f"{' '.join(there)}; {advice}"
        )
    have = " ".join(canonical(name, montage.aliases) for name in ch_names)
    raise DataError(
        f"{where}: missing {len(missing)} of {len(electrodes)} channels: {' '.join(missing)} "
        f"(the file has {have}); {advice}"
    )


def _electrodes(channels: Sequence[str], rows: Mapping[str, list[int]]) -> list[str]:
    """Return what a montage needs of a file: its channels, or their electrodes where not there as such."""
    needed: dict[str, None] = {}
    for name in channels:
        parts = name.split("-")
        whole = name in rows or len(parts) != 2 or not all(parts)
        needed.update(dict.fromkeys([name] if whole else parts))
    return list(needed)


def _refuse_duplicates(
    twice: Sequence[str], rows: Mapping[str, list[int]], ch_names: Sequence[str], where: str
) -> None:
    if twice:
        found = "; ".join(f"{name} as {', '.join(repr(ch_names[i]) for i in rows[name])}" for name in twice)
        raise DataError(
            f"{where}: duplicate channels: {found}; "
            f"say which is meant: --aliases '{ch_names[rows[twice[0]][0]]}={twice[0]}', or choose channels"
        )
