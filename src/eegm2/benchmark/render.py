"""Write the page and the figures of a file of results beside it."""

from __future__ import annotations

import io
import itertools
from pathlib import Path
from typing import TYPE_CHECKING

from eegm2.atomic import write_atomic
from eegm2.benchmark.run import read_results
from eegm2.benchmark.tables import markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def render(path: Path) -> list[Path]:
    """Write ``NAME.md`` and ``NAME-{forward,train}[-16].svg`` (of batch 1 and 16) beside ``NAME.json``.

    Parameters
    ----------
    path : Path
        A file that ``eegm2 benchmark --out`` wrote.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    ConfigError
        If `path` is not such a file.
    """
    from eegm2.benchmark.plots import by_length

    document = read_results(path)
    written = []
    for work, batch in itertools.product(("forward", "train"), (1, 16)):
        figure = by_length(document, work, batch)
        if figure is not None:
            written.append(path.with_name(f"{path.stem}-{work}{'' if batch == 1 else f'-{batch}'}.svg"))
            write_atomic(written[-1], [svg_file(figure)])
    page = path.with_suffix(".md")
    text = markdown(document, [figure.name for figure in written])
    write_atomic(page, [text.encode()])
    return [page, *written]


def svg_file(figure: Figure) -> bytes:
    """Return a figure as an SVG on white, the same bytes for the same figure."""
    import matplotlib as mpl

    buffer = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "eegm2", "svg.fonttype": "path"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None}, facecolor="white")
    return buffer.getvalue()
