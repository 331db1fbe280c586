"""A matplotlib figure as a small piece of inline SVG that follows the page's colours."""

from __future__ import annotations

import io
import logging
import re
import warnings

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from eegm2.report.figures.style import GRID, INK, MUTED

_PX_PER_IN = 700 / 7.2
_PAGE_COLOURS = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)"}
_NUMBER = re.compile(r"-?\d+\.\d{3,}")


def inline_svg(figure: Figure, key: str) -> str:
    """Return a figure as an ``<svg>`` element for direct use in HTML.

    Text stays text (selectable, in the page's font); what a figure marks as rasterised becomes a PNG inside
    the element. Ink, muted and grid colours become CSS variables of the page.

    Parameters
    ----------
    figure : Figure
    key : str
        Unique within the page: keeps the ids of two figures apart.

    Returns
    -------
    str
        No prologue, metadata, script or outside reference.
    """
    buffer = io.StringIO()
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": key}), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
            FigureCanvasSVG(figure).print_svg(buffer)
    finally:
        logger.setLevel(level)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[\w.]+"', "<g", text)
    text = re.sub(r' (d|transform|x|y|style|points)="[^"]*"', _shorten, text)
    width_px = figure.get_figwidth() * _PX_PER_IN
    head, body = text.split(">", 1)
    box = re.search(r'viewBox="[^"]+"', head)
    assert box is not None, "matplotlib always writes a viewBox"
    xmlns = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    style = f'style="width:{width_px:.0f}px;min-width:{0.72 * width_px:.0f}px"'
    return f'<svg {xmlns} {box.group()} {style} aria-hidden="true">{body.strip()}'


def _shorten(match: re.Match[str]) -> str:
    """Round an attribute's numbers to a hundredth of a point and name the page's colours."""
    if "scale" in match.group() or "matrix" in match.group():
        return match.group()
    text = _NUMBER.sub(lambda found: f"{float(found.group()):.2f}".rstrip("0").rstrip("."), match.group())
    if match.group(1) == "style":
        for colour, variable in _PAGE_COLOURS.items():
            text = text.replace(colour, variable)
    return re.sub(r"\s*\n\s*", " ", text)
