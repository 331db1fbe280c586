"""Maps of the head, drawn by MNE from values of named channels."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from eegm2.report.figures.style import clean_text, figure_style, new_figure, require

FEWEST = 4
"""Channels with known positions below which a map would be mostly guessed."""


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
    from mne.viz import plot_topomap

    from eegm2.report.positions import head_positions

    known = head_positions(ch_names)
    places = [i for i, name in enumerate(ch_names) if name in known]
    require(len(places) >= FEWEST, f"{len(places)} channels have a known position, a map needs {FEWEST}")
    at = np.array([known[ch_names[i]] for i in places])
    tables = {title: np.atleast_2d(np.asarray(values, float))[:, places] for title, values in maps.items()}
    n_rows = len(next(iter(tables.values())))
    limit = max((float(np.nanmax(np.abs(table))) for table in tables.values()), default=0.0) or 1.0
    with figure_style():
        figure = new_figure(0.35 + 1.62 * n_rows, min(7.2, 1.0 + 1.55 * len(tables)))
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
                    axes.set_ylabel(clean_text(rows[row], 22))
            if not signed:
                bar = figure.colorbar(
                    image, ax=grid[:, column].tolist(), shrink=0.7, location="bottom", pad=0.02
                )
                bar.ax.tick_params(labelsize=6.5)
                bar.ax.locator_params(nbins=3)
                bar.set_label(value_name if column == 0 else "", fontsize=7)
        if signed:
            figure.colorbar(image, ax=grid.ravel().tolist(), shrink=0.7, label=value_name, pad=0.02)
        return figure
