"""Heads that go along with a shared model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from eegm2.atomic import write_atomic
from eegm2.errors import CheckpointError
from eegm2.zoo.shipped import DOWNSTREAM_KEY, HEAD_KEY


def copy_without_people(path: Path, out: Path) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Copy a head, or a fine-tuned network, with the number of people in the place of their names.

    Returns
    -------
    classes : tuple of str
    facts : dict
        As they are in the copy.

    Raises
    ------
    CheckpointError
        If it is damaged or something else.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save

    try:
        with safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        key = HEAD_KEY if HEAD_KEY in metadata else DOWNSTREAM_KEY
        header = json.loads(metadata[key])
        classes, facts = tuple(map(str, header["classes"])), dict(header["facts"])
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path}: is not a head that eegm2 wrote ({error}); delete it") from error
    people = facts.pop("people", {})
    if isinstance(people, dict) and people.get("train"):
        facts["n_subjects"] = len(people["train"])
    judged = facts.get("validation")
    if isinstance(judged, dict):  # of eegm2 head
        facts["validation"] = {k: v for k, v in judged.items() if k not in ("fitted_on", "left_out")}
    metadata[key] = json.dumps({**header, "facts": facts}, ensure_ascii=False)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(out, [save(arrays, metadata=metadata)])
    return classes, facts
