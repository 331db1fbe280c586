"""Electrode positions: for plots, and to interpolate missing channels."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from eegm2.data.channels import ALIASES, canonical
from eegm2.errors import DataError

#: Centre of the sphere through the 10-20 electrodes of the template, in metres.
_TEMPLATE_CENTRE_M = np.array([0.0009, -0.0156, 0.0049])


def positions(ch_names: Iterable[str]) -> np.ndarray:
    """Return 3-D positions in metres, (n_chans, 3), for plots; differences lie midway, others are NaN."""
    table = _template_positions()

    def one(name: str) -> np.ndarray:
        if name in table:
            return table[name]
        parts = [table.get(part) for part in name.split("-")]
        known = [part for part in parts if part is not None]
        return np.mean(known, axis=0) if len(known) == len(parts) else np.full(3, np.nan)

    return np.array([one(canonical(name)) for name in ch_names]).reshape(-1, 3)


def interpolation_weights(
    missing: Sequence[str], rows: Mapping[str, list[int]], n_columns: int, where: str
) -> dict[str, np.ndarray]:
    """Return the weights that interpolate `missing` electrodes (MNE's spherical splines)."""
    import mne

    table = _template_positions()
    sources = [name for name in rows if name in table and len(rows[name]) == 1]
    unknown = [name for name in missing if name not in table]
    if unknown or len(sources) < 4:
        why = (
            f"no known position for {' '.join(unknown)}"
            if unknown
            else f"only {len(sources)} channels to start from"
        )
        raise DataError(f"{where}: cannot interpolate {' '.join(missing)}: {why}; use --missing refuse")
    names = [*sources, *missing]
    info = mne.create_info(names, 100.0, "eeg", verbose="error")
    info.set_montage(mne.channels.make_dig_montage({name: table[name] for name in names}), verbose="error")
    unit = np.vstack([np.eye(len(sources)), np.zeros((len(missing), len(sources)))])
    raw = mne.io.RawArray(unit, info, verbose="error")
    raw.info["bads"] = list(missing)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        raw.interpolate_bads(verbose="error")
    found = raw.get_data()
    weights = {}
    for place, name in enumerate(missing):
        weights[name] = np.zeros(n_columns)
        weights[name][[rows[source][0] for source in sources]] = found[len(sources) + place]
    return weights


def electrode_positions() -> dict[str, np.ndarray]:
    """Return MNE's template of 10-05 electrodes, name → place in metres; MNE 1.13 calls it another name."""
    import mne

    name = "colin27_1005" if "colin27_1005" in mne.channels.get_builtin_montages() else "standard_1005"
    return dict(mne.channels.make_standard_montage(name).get_positions()["ch_pos"])


@functools.cache
def _template_positions() -> dict[str, np.ndarray]:
    found = {canonical(name): place for name, place in electrode_positions().items() if name not in ALIASES}
    return {name: np.asarray(place, dtype=float) for name, place in found.items()}


@functools.cache
def template_directions() -> dict[str, np.ndarray]:
    """Return every known electrode as a unit vector (right, front, up) from the head's centre."""
    moved = {name: place - _TEMPLATE_CENTRE_M for name, place in _template_positions().items()}
    return {name: place / np.linalg.norm(place) for name, place in moved.items()}
