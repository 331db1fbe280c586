"""One self-contained HTML file from a run: no network, no script, every name escaped."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from eegm2.errors import ConfigError

if TYPE_CHECKING:
    from eegm2.report.contents import ReportData
    from eegm2.report.document import Section


def render_report(data: ReportData, *, projection: Literal["pca", "tsne"] = "pca") -> str:
    """Return the report as HTML.

    Parameters
    ----------
    data : ReportData
        What is missing in it is said in the page.
    projection : "pca" or "tsne"
        Map of the representation.

    Returns
    -------
    str
        A whole HTML document; its content policy forbids every request.
    """
    from eegm2.report import sections

    parts = [
        sections.summary(data),
        sections.data_section(data),
        sections.quality_section(data),
        sections.power_section(data),
        sections.training_section(data),
        sections.weights_section(data),
        sections.reconstruction_section(data),
        sections.spectra_section(data),
        sections.representation_section(data, projection),
        sections.downstream_section(data),
        sections.confusion_section(data),
        sections.evaluation_section(data),
        sections.provenance_section(data),
    ]
    return render_page(data.run, [part for part in parts if part is not None], data.created)


def render_page(title: str, sections: Sequence[Section], created: str) -> str:
    """Return sections as one HTML document; see :func:`render_report`."""
    from jinja2 import Environment, PackageLoader

    environment = Environment(
        loader=PackageLoader("eegm2.report", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    template = environment.get_template("template.html.j2")
    return template.render(title=title, sections=sections, created=created)


def write_report(
    run: str | Path,
    out: str | Path,
    store: str | Path | Sequence[str | Path] | None = None,
    *,
    probes: Sequence[str | Path] = (),
    evaluations: Sequence[str | Path] = (),
    projection: Literal["pca", "tsne"] = "pca",
    command: str = "",
) -> Path:
    """Write the report of a run.

    Parameters
    ----------
    run : path
        A RUN folder; parts that are missing in it are said in the report.
    out : path
        The HTML file; replaced only once the new one is whole.
    store : path or URL, or a sequence of them, optional
        The recording stores; by default those the run names.
    probes : sequence of paths
        PROBE folders besides those that RUN/probes.json lists.
    evaluations : sequence of paths
        sections.json files of ``eegm2 evaluate``, or their folders.
    projection : "pca" or "tsne"
    command : str
        Recorded in the report.

    Returns
    -------
    Path
        The file written.

    Raises
    ------
    ConfigError
        If `run` is no folder, or `out` cannot be written; the message names it.
    """
    from eegm2.report.gather import gather

    data = gather(run, store, probes=probes, evaluations=evaluations, command=command)
    return write_page(Path(out), render_report(data, projection=projection))


def write_page(path: Path, text: str) -> Path:
    """Write the page so that the file is either the old one or the whole new one.

    Raises
    ------
    ConfigError
        If it cannot be written; the message names it and why.
    """
    from eegm2.atomic import write_atomic

    try:
        write_atomic(path, [text.encode("utf-8", errors="replace")])
    except OSError as error:
        raise ConfigError(
            f"{path}: cannot write the report there ({error.strerror}); choose another --out"
        ) from error
    return path
