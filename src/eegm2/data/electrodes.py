"""Where the electrodes of a montage lie, from their names or a file, and networks for any of them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from eegm2.data.channels import canonical
from eegm2.data.positions import template_directions
from eegm2.errors import ConfigError
from eegm2.model.config import EEGM2Config
from eegm2.model.covariance.electrodes import MIN_ELECTRODES, refuse_electrodes, spread

if TYPE_CHECKING:
    import torch


class Network(Protocol):
    """A network of the family."""

    config: EEGM2Config


AnyNetwork = TypeVar("AnyNetwork", bound=Network)
Positions = Mapping[str, Sequence[float]]

#: Largest difference of an electrode's distance from the head's centre, in shares of the median one.
_ROUGHLY_ROUND = 0.2
#: Electrodes from which the centre of the head is found rather than taken to be the origin.
_ENOUGH_FOR_A_SPHERE = 8


def electrode_spread(
    ch_names: Sequence[str], positions: Positions | None = None, *, order: int = 4
) -> NDArray[np.float64]:
    """Return the map from named channels to coefficients of harmonics, (n_harmonics, n_chans).

    Parameters
    ----------
    ch_names : sequence of str
        Electrodes, or bipolar pairs such as ``Fp1-F7``, in any usual spelling.
    positions : mapping of str to (x, y, z), optional
        The user's own places, asked first; see :func:`read_positions`.
    order : int
        Highest degree of the harmonics.

    Raises
    ------
    ConfigError
        If there are fewer than four channels, a name is twice, electrodes have no position or coincide; each
        is listed, with what to do.
    """
    places, channels = montage(ch_names, positions)
    return spread(places, order, channels)


def montage(
    ch_names: Sequence[str], positions: Positions | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the electrodes' directions, (n_electrodes, 3), and channels as sums of electrodes.

    Parameters and errors as for :func:`electrode_spread`; the sums are (n_chans, n_electrodes).
    """
    names = [canonical(name) for name in ch_names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ConfigError(f"electrodes: more than once: {', '.join(twice)}; name each channel once")
    if len(names) < MIN_ELECTRODES:
        raise ConfigError(
            f"electrodes: got {len(names)} ({', '.join(names) or 'none'}), expected at least "
            f"{MIN_ELECTRODES} channels; add electrodes"
        )
    own = _directions(positions or {})
    table = {**template_directions(), **own}
    parts = [[name] if name in table else name.split("-") for name in names]
    unknown = [name for name, of in zip(names, parts) if len(of) > 2 or any(part not in table for part in of)]
    if unknown:
        raise ConfigError(
            f"electrodes: no position is known for {', '.join(unknown)}; give them with --positions FILE "
            "(a CSV table: name,x,y,z), or use names of the 10-20 system"
        )
    electrodes = list(dict.fromkeys(part for of in parts for part in of))
    places = np.stack([table[name] for name in electrodes])
    refuse_electrodes(places, electrodes, len(names))
    channels = np.zeros((len(names), len(electrodes)))
    for row, of in enumerate(parts):
        for part, sign in zip(of, (1.0, -1.0)):
            channels[row, electrodes.index(part)] += sign
    return places, channels


def for_electrodes(
    model: AnyNetwork, ch_names: Sequence[str] | None = None, positions: Positions | None = None
) -> AnyNetwork:
    """Return a network with virtual channels (preset covariance) for another montage, sharing its weights.

    The order of the channels does not matter, and what is common to all electrodes has no influence. Costs
    are those of a network that was made for the montage.

    Parameters
    ----------
    model : EEGM2
        Left as it is.
    ch_names : sequence of str
        Channels of the data, in any usual spelling; ``Fp1-F7`` is a bipolar pair. By default those of
        `positions`.
    positions : mapping of str to (x, y, z), optional
        Places of electrodes that no table knows, right, front and up of the head's centre, in any unit; see
        :func:`read_positions`.

    Raises
    ------
    ConfigError
        If there are fewer than four channels, names without a position, or two electrodes at one place, all
        of which are listed; or if the network takes a fixed set of electrodes.

    Examples
    --------
    >>> from eegm2 import EEGM2, EEGM2Config, for_electrodes
    >>> model = EEGM2(EEGM2Config.preset("covariance", n_chans=14, width=8))
    >>> for_electrodes(model, ["Fz", "Cz", "Pz", "Oz", "T3", "T4"]).config.n_chans
    6
    """
    names = list(positions or {}) if ch_names is None else list(ch_names)
    if not model.config.any_electrodes:
        raise ConfigError(
            f"electrodes: this network ({model.config.preset_name}) takes the electrodes it was trained on; "
            "the preset covariance with n_virtual above 0 takes any"
        )
    made: AnyNetwork = model.with_spread(  # type: ignore[attr-defined]
        spread_tensor(names, positions, order=model.config.harmonics_order)
    )
    return made


def on_montage(
    model: AnyNetwork, trained_on: Sequence[str], ch_names: Sequence[str], positions: str | Path = ""
) -> AnyNetwork:
    """Return a network for the channels of some data: itself, unless it takes any electrodes.

    Parameters
    ----------
    model : EEGM2 or UNet
    trained_on, ch_names : sequence of str
        Channels that the network is loaded for, and those of the data; the same ones change nothing.
    positions : path, optional
        File of electrode positions, see :func:`read_positions`.

    Raises
    ------
    ConfigError
        As :func:`for_electrodes`; also if positions are given to a network of a fixed set of electrodes.
    """
    if not model.config.any_electrodes:
        if positions:
            raise ConfigError(
                f"positions: this network ({model.config.preset_name}) takes the electrodes it was trained "
                "on and needs none; the preset covariance takes any electrodes"
            )
        return model
    own = read_positions(positions) if positions else None
    if own is None and [canonical(name) for name in ch_names] == [canonical(name) for name in trained_on]:
        return model
    return for_electrodes(model, ch_names, own)


def spread_tensor(
    ch_names: Sequence[str], positions: Positions | None = None, *, order: int = 4
) -> torch.Tensor:
    """Return :func:`electrode_spread` as a float32 tensor."""
    import torch

    return torch.tensor(electrode_spread(ch_names, positions, order=order), dtype=torch.float32)


def read_positions(path: str | Path) -> dict[str, tuple[float, float, float]]:
    """Read a table of electrode positions: CSV with the columns name, x, y, z (or a tab-separated table).

    x points to the right ear, y to the nose, z up, in any unit, from the centre of the head; positions about
    another origin (between the ears, say) are moved onto a sphere where there are enough of them.

    Raises
    ------
    ConfigError
        If the file cannot be read, lacks a column, or a value is no number; the line is named.
    """
    path, found = Path(path), {}
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"--positions {path}: cannot be read ({error}); give a CSV table") from error
    first = text.partition("\n")[0]
    reader = csv.DictReader(text.splitlines(), delimiter="\t" if "\t" in first else ",")
    columns = {name.strip().lower(): name for name in reader.fieldnames or []}
    missing = [name for name in ("name", "x", "y", "z") if name not in columns]
    if missing:
        raise ConfigError(f"--positions {path}: no column {', '.join(missing)}; expected name,x,y,z")
    for line, row in enumerate(reader, 2):
        try:
            x, y, z = (float(row[columns[axis]]) for axis in "xyz")
        except (TypeError, ValueError) as error:
            raise ConfigError(
                f"--positions {path}: line {line}: {error}; expected numbers in x, y, z"
            ) from error
        if not np.isfinite([x, y, z]).all():
            raise ConfigError(f"--positions {path}: line {line}: got {x}, {y}, {z}; expected finite numbers")
        name = canonical(str(row[columns["name"]] or ""))
        if name in found:
            raise ConfigError(f"--positions {path}: line {line}: {name} for the second time; name each once")
        found[name] = (x, y, z)
    if not found:
        raise ConfigError(f"--positions {path}: has no row; expected name,x,y,z and a line per electrode")
    return found


def _directions(positions: Positions) -> dict[str, NDArray[np.float64]]:
    """Return the user's positions as unit vectors from the head's centre.

    Raises
    ------
    ConfigError
        If they lie on no sphere about the origin, and too few are there to find another centre.
    """
    if not positions:
        return {}
    names = [canonical(name) for name in positions]
    places = np.array([tuple(place) for place in positions.values()], float).reshape(len(names), 3)
    places = places - _head_centre(places)
    lengths = np.linalg.norm(places, axis=1)
    middle = float(np.median(lengths))
    if not (middle > 0 and (np.abs(lengths - middle) <= _ROUGHLY_ROUND * middle).all()):
        raise ConfigError(
            f"positions: the {len(places)} electrodes lie on no sphere about the origin "
            "(x right, y front, z up); give them from the centre of the head"
        )
    return dict(zip(names, places / lengths[:, None]))


def _head_centre(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the centre of the sphere through the electrodes; the origin for too few, or a ring."""
    thickness = np.linalg.svd(places - places.mean(0), compute_uv=False)
    if len(places) < _ENOUGH_FOR_A_SPHERE or thickness[-1] < 0.1 * thickness[0]:
        return np.zeros(3)
    system = np.c_[2 * places, np.ones(len(places))]
    centre: NDArray[np.float64] = np.linalg.lstsq(system, (places**2).sum(1), rcond=None)[0][:3]
    return centre
