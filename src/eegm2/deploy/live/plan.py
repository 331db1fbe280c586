"""What a person is asked to do and when, in seconds of recorded signal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One stretch of a session.

    Attributes
    ----------
    begin_s, length_s : float
        Since the session began.
    label : str
        What to do.
    kept : bool
        Whether it becomes a label of the recording.
    """

    begin_s: float
    length_s: float
    label: str
    kept: bool = True

    @property
    def end_s(self) -> float:
        """When it is over."""
        return self.begin_s + self.length_s


def rounds_of(
    cues: Sequence[tuple[str, float]],
    rounds: int,
    pause_s: float,
    *,
    baseline_s: float = 0.0,
    there_and_back: bool = False,
) -> list[Step]:
    """Return the steps of a session: a baseline, then every cue of every round after a pause.

    Parameters
    ----------
    cues : sequence of (str, float)
        Label and seconds.
    rounds : int
    pause_s : float
        Before each cue.
    baseline_s : float
        Signal before the first pause, which gets no label.
    there_and_back : bool
        Go backwards through the cues in every second round, so that what drifts evenly over the session
        favours none of them.
    """
    steps = [Step(0.0, baseline_s, "baseline", kept=False)] if baseline_s else []
    at = baseline_s
    for number in range(rounds):
        for label, length_s in reversed(cues) if there_and_back and number % 2 else cues:
            steps.append(Step(at + pause_s, length_s, label))
            at = steps[-1].end_s
    return steps
