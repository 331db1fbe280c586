"""``eegm2 models``: the models that ship with the package."""

from __future__ import annotations

import json
import textwrap
from typing import Annotated, Any

import typer

WIDTH = 110


def models(
    name: Annotated[str | None, typer.Argument(help="Show this model's card.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")] = False,
) -> None:
    """List the models that ship with eegm2, usable by name wherever a RUN is asked for."""
    from eegm2.zoo.facts import shipped_facts
    from eegm2.zoo.find import find_weights

    if name is not None and not as_json:
        card = find_weights(name).with_name("README.md")
        typer.echo(card.read_text(encoding="utf-8") if card.is_file() else f"{name}: has no card")
        return
    facts = [entry for entry in shipped_facts() if name in (None, entry["name"])]
    if as_json:
        typer.echo(json.dumps(facts, indent=2, ensure_ascii=False))
        return
    for entry in facts:
        typer.echo(sheet(entry))
    typer.echo("eegm2 models NAME shows a card; every command that takes a RUN takes such a name.")


def sheet(entry: dict[str, Any]) -> str:
    """Return what is known of one model, a line per fact."""
    lines = [f"{entry['name']}: {entry['description']}"]
    for title in ("size", "electrodes", "rate", "trained on", "results", "licence"):
        text = str(entry.get(title) or "unknown")
        lines += textwrap.wrap(
            text, WIDTH, initial_indent=f"  {title:<12}", subsequent_indent=" " * 14, break_long_words=False
        )
    return "\n".join(lines) + "\n"
