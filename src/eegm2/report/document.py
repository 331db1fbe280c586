"""The blocks a report page is made of; the template draws each kind and escapes every text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup
from matplotlib.figure import Figure

from eegm2.report.svg import inline_svg


@dataclass(frozen=True)
class Block:
    """One piece of a section.

    Attributes
    ----------
    kind : str
        "text", "note" (something missing or a caveat), "facts", "table", "figure", "code" or "tiles".
    """

    kind: str
    text: str = ""
    title: str = ""
    rows: tuple[tuple[str, ...], ...] = ()
    head: tuple[str, ...] = ()
    numeric: tuple[bool, ...] = ()
    folded: bool = False
    svg: Markup = field(default_factory=Markup)


@dataclass
class Section:
    """A titled part of the page with an anchor.

    Attributes
    ----------
    id, title : str
    look : str
        One sentence on what to look at, as a whole sentence.
    then : str
        One sentence on what to do next.
    """

    id: str
    title: str
    look: str
    then: str
    blocks: list[Block] = field(default_factory=list)

    def text(self, text: str) -> None:
        """Add a paragraph."""
        self.blocks.append(Block("text", text=text))

    def note(self, text: str) -> None:
        """Add a caveat, or say that something is missing."""
        self.blocks.append(Block("note", text=text))

    def heading(self, text: str) -> None:
        """Add a heading below the section's own."""
        self.blocks.append(Block("heading", text=text))

    def facts(self, rows: Sequence[tuple[str, object]]) -> None:
        """Add names and values; empty values are left out."""
        kept = tuple((name, str(value)) for name, value in rows if value not in (None, ""))
        if kept:
            self.blocks.append(Block("facts", rows=kept))

    def tiles(self, rows: Sequence[tuple[str, str]]) -> None:
        """Add large numbers with their names."""
        if rows:
            self.blocks.append(Block("tiles", rows=tuple(rows)))

    def table(
        self, head: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "", folded: bool = False
    ) -> None:
        """Add a table; columns whose every cell reads as a number are set to the right."""
        text = tuple(tuple("" if cell is None else str(cell) for cell in row) for row in rows)
        numeric = tuple(
            bool(text) and all(_reads_as_number(row[i]) for row in text) for i in range(len(head))
        )
        self.blocks.append(
            Block("table", title=title, head=tuple(head), rows=text, numeric=numeric, folded=folded)
        )

    def code(self, title: str, text: str) -> None:
        """Add text of fixed width, folded."""
        self.blocks.append(Block("code", title=title, text=text, folded=True))

    def figure(self, draw: Callable[[], Figure], *, caption: str, alt: str) -> None:
        """Draw a figure, or say why it could not be drawn (bad values are no reason to lose the report)."""
        number = sum(block.kind == "figure" for block in self.blocks) + 1
        try:
            svg = inline_svg(draw(), f"{self.id}-{number}")
        except (ValueError, ArithmeticError, IndexError, KeyError) as error:
            self.note(f"Figure left out ({alt}): {error}.")
            return
        self.blocks.append(Block("figure", text=caption, title=alt, svg=Markup(svg)))


def _reads_as_number(cell: str) -> bool:
    if len(cell) > 1 and cell.startswith("0") and cell.isdigit():
        return False  # an identifier such as 007
    bare = (
        cell.replace(",", "")
        .replace(" to ", " ")
        .replace("±", " ")
        .replace("−", "-")
        .replace("–", " ")
        .replace("%", " ")
    )
    try:
        [float(part) for part in bare.split()]
    except ValueError:
        return False
    return True
