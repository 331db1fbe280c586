"""Models that are chosen: each split takes the candidate of the best score on its validation part."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from eegm2.data.config import sha256_json
from eegm2.errors import DataError
from eegm2.evaluation.experiment.cells import Cell, StoredCell

#: Of these less is better.
ERRORS = ("loss", "mae")


def fingerprint(candidates: Sequence[StoredCell]) -> str:
    """Return the hash of what is chosen among: the candidates' keys, validation metrics and predictions."""
    parts = [[c.facts["key"], c.validation.get("metrics"), c.facts["predictions_sha256"]] for c in candidates]
    return sha256_json(parts)


def best(scores: Mapping[str, float | None], by: str) -> str:
    """Return the name of the best score, the first named of equals; None is worse than any."""

    def value(name: str) -> float:
        score = scores[name]
        if score is None:
            return -math.inf
        return -score if by in ERRORS else score

    return max(scores, key=value)  # the first of equals, in the order given


def choose(cell: Cell, candidates: Mapping[str, StoredCell]) -> tuple[StoredCell, dict[str, Any]]:
    """Return the candidate that a cell takes, and the facts of that cell; the test part plays no role.

    Parameters
    ----------
    cell : Cell
        Of a model with ``choose``.
    candidates : mapping of str to StoredCell
        Finished cells of the same split, by the models' names in the order of the plan.

    Raises
    ------
    DataError
        If a candidate has no validation metrics (its files are named), or the metric is known of none.
    """
    by = cell.model.by
    old = [c.path.name for c in candidates.values() if by not in c.validation.get("metrics", {})]
    if old:
        raise DataError(
            f"cells/{', '.join(old)}: kept by an older eegm2, without scores of the validation part; delete "
            f"{'it' if len(old) == 1 else 'them'} and run the same command again"
        )
    scores = {name: c.validation["metrics"][by] for name, c in candidates.items()}
    if all(score is None for score in scores.values()):
        reasons = [c.validation["reasons"].get(by) for c in candidates.values()]
        raise DataError(
            f"by: {by} cannot be computed on the validation part of {cell.split.name} ({reasons[0]}); choose "
            "by loss, or use more validation subjects"
        )
    name = best(scores, by)
    taken = candidates[name]
    deterministic = all(c.deterministic for c in candidates.values())
    about: dict[str, Any] = {"model": cell.model.name, "split": cell.split.name, "seed": cell.seed}
    kept = ("train_subjects", "pretraining_saw", "device")
    about |= {key: taken.facts[key] for key in kept if key in taken.facts}
    result = {**taken.facts["result"], "seed": cell.seed, "deterministic": deterministic}
    choice = {"chosen": name, "by": by, "validation_scores": scores}
    return taken, {**about, **choice, "seconds": 0.0, "result": result}


def choices(cells: Sequence[StoredCell]) -> list[dict[str, Any]]:
    """Return what was chosen in every split, for details.json."""
    keys = ("model", "split", "seed", "by", "chosen", "validation_scores")
    return [{key: cell.facts[key] for key in keys} for cell in cells if "chosen" in cell.facts]
