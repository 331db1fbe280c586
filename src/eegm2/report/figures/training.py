"""Loss curves and the learning rate over a pretraining run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from eegm2.report.figures.style import (
    FIRST,
    PALETTE,
    SECOND,
    direct_legend,
    figure_style,
    log_ticks,
    new_figure,
    number,
    require,
)

_PANELS = (
    ("Total loss", "train_loss", "val_loss", "loss"),
    ("Temporal part (mean absolute error)", "train_l1", "val_l1", "mean |x − x̂|"),
    ("Spectral part", "train_spectral", "val_spectral", "mean |X − X̂|²"),
)


@figure_style()
def loss_curves(epoch: np.ndarray, curves: Mapping[str, np.ndarray]) -> Figure:
    """Draw training and validation loss, their parts and the learning rate against epochs.

    Parameters
    ----------
    epoch : ndarray, shape (n_epochs,)
        Training passes, counted from 1.
    curves : mapping of str to ndarray, shape (n_epochs,)
        Any of train_loss, val_loss, train_l1, val_l1, train_spectral, val_spectral and lr, other terms as
        train_TERM and val_TERM, and val_loss/STORE of each store; NaN where not logged. Panels without a
        finite value are left out.

    Raises
    ------
    ValueError
        If no known curve holds a finite value; the message names the curves received.

    References
    ----------
    Eq. 1 of the EEGM2 paper (temporal and spectral parts), §4 (OneCycle learning rate).
    """
    known = {name: np.asarray(values, dtype=float) for name, values in curves.items()}
    known = {name: values for name, values in known.items() if np.isfinite(values).any()}
    panels = [panel for panel in (*_PANELS, *_other_terms(known)) if panel[1] in known or panel[2] in known]
    stores = {name.partition("/")[2]: values for name, values in known.items() if "/" in name}
    n_panels = len(panels) + bool(stores) + ("lr" in known)
    require(n_panels > 0, f"no loss curve holds a finite value (received: {', '.join(curves) or 'none'})")
    x = np.asarray(epoch, dtype=float)
    n_rows = (n_panels + 1) // 2
    figure = new_figure(0.5 + 2.1 * n_rows)
    grid = figure.subplots(n_rows, 2 if n_panels > 1 else 1, squeeze=False, sharex=True).ravel()
    for axes, (title, train, val, unit) in zip(grid, panels):
        _loss_panel(axes, x, known.get(train), known.get(val), title, unit)
    direct_legend(grid[0], loc="best")
    if stores:
        _stores_panel(grid[len(panels)], x, stores)
    if "lr" in known:
        _rate_panel(grid[n_panels - 1], x, known["lr"])
    for axes in grid[n_panels:]:
        axes.remove()
    for axes in grid[max(0, n_panels - 2) : n_panels]:
        axes.set_xlabel("epoch (training passes)")
        axes.tick_params(labelbottom=True)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    return figure


def _other_terms(known: Mapping[str, np.ndarray]) -> list[tuple[str, str, str, str]]:
    """Return a panel for every term that is not of Eq. 1."""
    usual = {name for panel in _PANELS for name in panel[1:3]}
    terms = dict.fromkeys(
        name.partition("_")[2]
        for name in known
        if name.startswith(("train_", "val_")) and name not in usual and "/" not in name
    )
    return [
        (term.replace("_", " ").capitalize(), f"train_{term}", f"val_{term}", "error or term")
        for term in terms
    ]


def _stores_panel(axes: Axes, x: np.ndarray, stores: Mapping[str, np.ndarray]) -> None:
    for place, (name, values) in enumerate(stores.items()):
        seen = np.isfinite(values)
        marker = "o" if len(x) <= 40 else ""
        colour = PALETTE[place % len(PALETTE)]
        axes.plot(x[seen], values[seen], "--", color=colour, marker=marker, markersize=3, label=name)
    axes.set_ylabel("loss")
    axes.set_title("Validation loss of each store")
    direct_legend(axes, loc="best")


def _loss_panel(
    axes: Axes, x: np.ndarray, train: np.ndarray | None, val: np.ndarray | None, title: str, unit: str
) -> None:
    marker = "o" if len(x) <= 40 else ""
    finite = np.concatenate([c[np.isfinite(c)] for c in (train, val) if c is not None])
    for values, colour, style, label in ((train, FIRST, "-", "training"), (val, SECOND, "--", "validation")):
        if values is not None:
            seen = np.isfinite(values)
            axes.plot(x[seen], values[seen], style, color=colour, marker=marker, markersize=3, label=label)
    if val is not None and title.startswith("Total"):
        best = int(np.nanargmin(val))
        label = f"lowest: {number(val[best])}, epoch {x[best]:.0f}"
        axes.plot(x[best], val[best], "o", color=SECOND, markersize=7, markerfacecolor="none", label=label)
    if (finite > 0).all() and finite.max() > 3 * finite.min():
        axes.set_yscale("log")
        log_ticks(axes.yaxis)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=7))
        axes.set_ylabel(f"{unit} (log scale)")
    else:
        axes.set_ylabel(unit)
    axes.set_title(title)


def _rate_panel(axes: Axes, x: np.ndarray, rate: np.ndarray) -> None:
    seen = np.isfinite(rate)
    axes.plot(x[seen], rate[seen] * 1e4, color=PALETTE[2], marker="o" if len(x) <= 40 else "", markersize=3)
    axes.set_ylim(bottom=0)
    axes.set_ylabel("learning rate (× 10⁻⁴)")
    axes.set_title("Learning rate")
