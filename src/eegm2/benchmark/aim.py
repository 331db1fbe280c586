"""One aim of the benchmark and whether it is met."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Aim:
    """One aim.

    Attributes
    ----------
    text : str
        What is asked.
    value : float or None
        What was measured, None if something it needs is missing.
    target : str
        As text, with its direction.
    met : bool or None
        None where it cannot be said.
    note : str
        What the value is made of, or what is missing.
    """

    text: str
    value: float | None
    target: str
    met: bool | None
    note: str = ""

    @property
    def verdict(self) -> str:
        """Met, not met or not measured."""
        return "not measured" if self.met is None else "met" if self.met else "not met"
