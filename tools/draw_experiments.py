"""Draw the figures of ``docs/evidence.md`` from the results under ``experiments``.

Usage: python tools/draw_experiments.py [--out docs/results]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from eegm2.benchmark.render import svg_file
from eegm2.report.figures import evaluation_scores, learning_curves

ROOT = Path(__file__).parents[1]
FIGURES: dict[str, Callable[[list[dict[str, Any]], str], Figure]] = {
    "eyes": evaluation_scores,
    "objectives": evaluation_scores,
    "labels": learning_curves,
    "representation": learning_curves,
}
METRIC = "auroc"


def main() -> None:
    """Write one SVG per experiment and print its path."""
    plain = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=plain)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results", help="folder of the figures")
    out = parser.parse_args().out
    for name, draw in FIGURES.items():
        rows = json.loads((ROOT / "experiments" / name / "results.json").read_text())
        path = out / f"experiment-{name}.svg"
        path.write_bytes(svg_file(draw(rows, METRIC)))
        print(path)


if __name__ == "__main__":
    main()
