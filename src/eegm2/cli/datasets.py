"""``eegm2 datasets``: which data sets and layouts ``eegm2 prepare`` knows."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from eegm2.data.recipes.base import Recipe

WIDTH = 110


def datasets(
    name: Annotated[str | None, typer.Argument(help="Show this data set's layout, terms and labels.")] = None,
) -> None:
    """List the data sets whose layout is known, or show one of them."""
    from eegm2.data.recipes.base import all_recipes, get_recipe

    if name is None:
        typer.echo(table(list(all_recipes().values())))
        typer.echo(
            "\neegm2 datasets NAME shows the expected files, the download page, the labels and what to cite."
        )
    else:
        typer.echo(sheet(get_recipe(name)))


def table(recipes: list[Recipe]) -> str:
    """Return the recipes as a table of name, description, subjects and licence."""
    rows = [("name", "what it is", "subjects", "licence")]
    rows += [(recipe.name, recipe.description, recipe.subjects or "-", recipe.licence) for recipe in recipes]
    widths = [max(len(row[0]) for row in rows), 50, 19, 0]
    widths[3] = WIDTH - sum(widths[:3]) - 6
    lines: list[str] = []
    for row in rows:
        cells = [textwrap.wrap(cell, width) or [""] for cell, width in zip(row, widths)]
        for index in range(max(len(cell) for cell in cells)):
            parts = [
                (cell[index] if index < len(cell) else "").ljust(width) for cell, width in zip(cells, widths)
            ]
            lines.append("  ".join(parts).rstrip())
    return "\n".join(lines)


def sheet(recipe: Recipe) -> str:
    """Return everything known about one recipe."""
    preset = " ".join(f"{key}={value}" for key, value in sorted(recipe.preprocessing.items()))
    facts = (
        ("subjects", recipe.subjects),
        ("labels", recipe.labels),
        ("licence", recipe.licence),
        ("download", recipe.url),
        ("cite", recipe.citation),
        ("presets", preset),
        ("notes", recipe.notes),
        ("prepare", f"eegm2 prepare FOLDER --recipe {recipe.name} --out STORE"),
    )
    lines = [
        f"{recipe.name}: {recipe.description}",
        "",
        "expected files below FOLDER:",
        textwrap.indent(recipe.tree, "  "),
        "",
    ]
    for title, text in facts:
        if text:
            lines += textwrap.wrap(
                text, WIDTH, initial_indent=f"{title:<10}", subsequent_indent=" " * 10, break_long_words=False
            )
    return "\n".join(lines)
