"""One matrix from a file's channels to the wanted ones: picking, differences, reference, interpolation."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from eegm2.data.channels import Montage, canonical
from eegm2.errors import ConfigError, DataError


def mixing_matrix(
    ch_names: Sequence[str],
    montage: Montage,
    *,
    where: str,
    interpolate: bool = False,
    unusable: Iterable[str] = (),
    average_reference: bool = False,
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
        Fill missing and unusable electrodes by spherical splines from all others with known positions.
    unusable : iterable of str
        Names in the file to be treated as missing.
    average_reference : bool
        Subtract the mean of the wanted channels (only for a montage without differences).

    Returns
    -------
    matrix : ndarray, shape (n_wanted, n_in_file)
    interpolated : tuple of str

    Raises
    ------
    DataError
        If channels are missing (all are listed), or one that is wanted is there more than once.
    """
    bad = set(unusable)
    rows: dict[str, list[int]] = {}
    for column, name in enumerate(ch_names):
        ours = canonical(_without_running_number(name, ch_names), montage.aliases)
        if name not in bad:
            rows.setdefault(ours, []).append(column)
    electrodes = _electrodes(montage.channels, rows)
    _refuse_duplicates([name for name in electrodes if len(rows.get(name, ())) > 1], rows, ch_names, where)
    missing = [name for name in electrodes if name not in rows]
    if missing and not interpolate:
        have = " ".join(canonical(name, montage.aliases) for name in ch_names)
        raise DataError(
            f"{where}: missing {len(missing)} of {len(electrodes)} channels: {' '.join(missing)} "
            f"(the file has {have}); choose another montage, or --missing interpolate"
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


def _electrodes(channels: Sequence[str], rows: Mapping[str, list[int]]) -> list[str]:
    """Return what a montage needs of a file: its channels, or their electrodes where not there as such."""
    needed: dict[str, None] = {}
    for name in channels:
        parts = name.split("-")
        whole = name in rows or len(parts) != 2 or not all(parts)
        needed.update(dict.fromkeys([name] if whole else parts))
    return list(needed)


def _without_running_number(name: str, ch_names: Sequence[str]) -> str:
    """Undo the running number that MNE gives to equal names (``Fz-0``, ``Fz-1``)."""
    base, dash, number = name.rpartition("-")
    if (
        dash
        and number.isdecimal()
        and sum(re.fullmatch(re.escape(base) + r"-\d+", n) is not None for n in ch_names) > 1
    ):
        return base
    return name


def _refuse_duplicates(
    twice: Sequence[str], rows: Mapping[str, list[int]], ch_names: Sequence[str], where: str
) -> None:
    if twice:
        found = "; ".join(f"{name} as {', '.join(repr(ch_names[i]) for i in rows[name])}" for name in twice)
        raise DataError(
            f"{where}: duplicate channels: {found}; remove or rename one in the file, or choose channels"
        )
