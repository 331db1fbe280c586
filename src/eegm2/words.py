"""Numbers with their nouns."""

from __future__ import annotations


def count(n: int, noun: str) -> str:
    """Return "1 subject", "68 subjects"."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")
