"""Maps of the head, drawn by MNE from values of named channels."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure, SubFigure

from eegm2.report.figures.style import clean_text, figure_style, new_figure, require
from eegm2.report.positions import head_positions

FEWEST = 4
"""Channels with known positions below which a map would be mostly guessed."""


@figure_style()
def topographic_maps(
    ch_names: Sequence[str],
    maps: Mapping[str, np.ndarray],
    *,
    value_name: str,
    rows: Sequence[str] = (),
    signed: bool = False,
) -> Figure:
    """Draw one map of the head per entry, seen from above, nose up.

    Parameters
    ----------
    ch_names : sequence of str
        Channels of unknown position are left out.
    maps : mapping of str to array, shape (n_chans,) or (n_rows, n_chans)
        By title of the column.
    value_name : str
        What is drawn, with its unit.
    rows : sequence of str
        Titles of the rows.
    signed : bool
        Colours about zero, one scale for all maps; otherwise a scale for each column.

    Raises
    ------
    ValueError
        If fewer than four channels have a known position.

    References
    ----------
    Gramfort et al. (2013), MEG and EEG data analysis with MNE-Python, Front. Neurosci. 7:267.
    """
    places, at = _placed(ch_names)
    tables = {title: np.atleast_2d(np.asarray(values, float))[:, places] for title, values in maps.items()}
    n_rows = len(next(iter(tables.values())))
    figure = new_figure(0.35 + 1.62 * n_rows, min(7.2, 1.0 + 1.55 * len(tables)))
    _draw(figure, at, tables, value_name, rows, signed)
    return figure


@figure_style()
def band_power_maps(
    ch_names: Sequence[str], power_db: np.ndarray, bands: Sequence[str], classes: Sequence[str]
) -> Figure:
    """Draw the power of every rhythm over the head, a row per class; of two classes also the difference.

    Parameters
    ----------
    ch_names : sequence of str
    power_db : array, shape (n_classes, n_bands, n_chans)
        In dB, as `eegm2.evaluation.baselines.class_power.band_power_by_class` returns it; a class that is NaN
        is left out.
    bands, classes : sequence of str

    Raises
    ------
    ValueError
        If fewer than four channels have a known position, or no class has values.
    """
    there = [i for i, power in enumerate(power_db) if np.isfinite(power).all()]
    require(bool(there), "no class has windows")
    power, names = np.asarray(power_db)[there], [classes[i] for i in there]
    places, at = _placed(ch_names)
    tables = {band: power[:, b][:, places] for b, band in enumerate(bands)}
    n_rows = len(there)
    size = (0.35 + 1.62 * (n_rows + (n_rows == 2)), min(7.2, 1.0 + 1.55 * len(bands)))
    figure = new_figure(*size)
    if n_rows != 2:
        _draw(figure, at, tables, "dB re 1 µV²", names, False)
        return figure
    parts: Any = figure.subfigures(2, 1, height_ratios=[2.2, 1])
    above, below = parts
    _draw(above, at, tables, "dB re 1 µV²", names, False)
    less = {band: table[1:] - table[:1] for band, table in tables.items()}
    _draw(below, at, less, "dB", [f"{clean_text(names[1], 12)} less {clean_text(names[0], 12)}"], True)
    return figure


def _placed(ch_names: Sequence[str]) -> tuple[list[int], np.ndarray]:
    """Return which channels have a known position, and where they lie, (n, 2)."""
    known = head_positions(ch_names)
    places = [i for i, name in enumerate(ch_names) if name in known]
    require(len(places) >= FEWEST, f"{len(places)} channels have a known position, a map needs {FEWEST}")
    return places, np.array([known[ch_names[i]] for i in places])


def _draw(
    figure: Figure | SubFigure,
    at: np.ndarray,
    tables: Mapping[str, np.ndarray],
    value_name: str,
    rows: Sequence[str],
    signed: bool,
) -> None:
    """Draw maps into a figure or a part of one: a table (n_rows, n_chans) of channels that lie `at`."""
    from mne.viz import plot_topomap

    limit = max((float(np.nanmax(np.abs(table))) for table in tables.values()), default=0.0) or 1.0
    n_rows = len(next(iter(tables.values())))
    grid = figure.subplots(n_rows, len(tables), squeeze=False)
    for column, (title, table) in enumerate(tables.items()):
        low, high = (-limit, limit) if signed else (float(np.nanmin(table)), float(np.nanmax(table)))
        for row, values in enumerate(table):
            axes = grid[row, column]
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image, _ = plot_topomap(
                    values,
                    at,
                    axes=axes,
                    show=False,
                    sphere=(0.0, 0.0, 0.0, 1.0),
                    vlim=(low, high if high > low else low + 1e-9),
                    cmap="RdBu_r" if signed else "viridis",
                    contours=4,
                    sensors="k.",
                    extrapolate="head",
                )
            image.set_rasterized(True)
            if row == 0:
                axes.set_title(clean_text(title), loc="center")
            if column == 0 and rows:
                axes.set_ylabel(textwrap.fill(clean_text(rows[row], 30), 15))
        if not signed:
            bar = figure.colorbar(image, ax=grid[:, column].tolist(), shrink=0.7, location="bottom", pad=0.02)
            bar.ax.tick_params(labelsize=6.5)
            bar.ax.locator_params(nbins=3)
            bar.set_label(value_name if column == 0 else "", fontsize=7)
    if signed:
        figure.colorbar(image, ax=grid.ravel().tolist(), shrink=0.7, label=value_name, pad=0.02)
