"""One look for every figure: colours, type, axes; and text from files made safe to draw."""

from __future__ import annotations

import contextlib
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

# Okabe and Ito's palette without its yellow (too pale on white); legible on dark pages as well.
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d46", "#7a7fbf")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "h")
INK = "#1d2733"  # text and axes; becomes the page's text colour in the report
MUTED = "#5c6773"  # secondary text
GRID = "#dfe3e8"  # grid lines and panel edges
FIRST, SECOND = PALETTE[0], PALETTE[1]  # original and training; reconstruction and validation
PAGE_WIDTH_IN = 7.2  # a column of 700 px

_RC: Any = {
    "font.family": "sans-serif",
    "font.size": 8.5,
    "text.color": INK,
    "text.parse_math": False,  # names from files are text, whatever dollars they contain
    "axes.formatter.use_mathtext": False,
    "axes.titlesize": 9.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 6.0,
    "axes.labelsize": 8.5,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "xtick.major.size": 3.0,
    "ytick.major.size": 3.0,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.minor.size": 0.0,
    "ytick.minor.size": 0.0,
    "lines.linewidth": 1.4,
    "lines.solid_capstyle": "round",
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "legend.handlelength": 1.6,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
    "figure.dpi": 170.0,
}


@contextlib.contextmanager
def figure_style() -> Iterator[None]:
    """Apply the house style in a ``with`` block or decorated function, and leave matplotlib be."""
    with mpl.rc_context(_RC):
        yield


def new_figure(height_in: float, width_in: float = PAGE_WIDTH_IN) -> Figure:
    """Return an empty figure that lays itself out (call within `figure_style`)."""
    return Figure(figsize=(width_in, height_in), layout="constrained")


def clean_text(text: object, limit: int = 28) -> str:
    """Return a name from a file as one short printable line.

    Parameters
    ----------
    text : object
        Any name: of a channel, subject, recording, class or file.
    limit : int
        Longest length in characters; the middle of a longer name becomes ``…``.
    """
    line = "".join(" " if unicodedata.category(char).startswith("C") else char for char in str(text)).strip()
    if len(line) <= limit:
        return line
    head = (limit - 1) // 2
    return f"{line[:head]}…{line[len(line) - (limit - 1 - head) :]}"


def class_colours(n: int) -> list[str]:
    """Return `n` colours, repeating after eight."""
    return [PALETTE[i % len(PALETTE)] for i in range(n)]


def number(value: float) -> str:
    """Return a number with three significant digits and no exponent where that reads well."""
    if not np.isfinite(value):
        return "–"
    if value != 0 and (abs(value) < 1e-3 or abs(value) >= 1e5):
        return f"{value:.2e}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


def mean_and_spread(values: np.ndarray) -> str:
    """Return "0.750 ± 0.050", and the value alone where there is only one."""
    return f"{values.mean():.3f} ± {values.std():.3f}" if len(values) > 1 else f"{values.mean():.3f}"


def log_ticks(axis: Any) -> None:
    """Label a logarithmic axis with plain numbers."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))


def note(axes: Axes, text: str, at: tuple[float, float], offset: tuple[float, float], **style: Any) -> None:
    """Write a small text beside a place, `offset` points from it."""
    style = {"ha": "center", "fontsize": 7.5, **style}
    axes.annotate(text, at, xytext=offset, textcoords="offset points", **style)


def direct_legend(axes: Axes, **where: Any) -> None:
    """Draw the legend where there is something to name."""
    if axes.get_legend_handles_labels()[0]:
        axes.legend(**where)


def spread_pick(n: int, limit: int) -> np.ndarray:
    """Return at most `limit` of `n` indices, spread evenly, first and last included."""
    if n <= limit:
        return np.arange(n)
    return np.unique(np.linspace(0, n - 1, limit).round().astype(int))


def require(condition: bool, message: str) -> None:
    """Raise a ValueError with `message` unless `condition` holds."""
    if not condition:
        raise ValueError(message)


def same_length(**arrays: Sequence[Any] | np.ndarray) -> None:
    """Refuse arrays whose first dimensions differ, naming each."""
    lengths = {name: len(values) for name, values in arrays.items()}
    require(len(set(lengths.values())) == 1, f"arrays differ in length: {lengths}")
