"""Fine-tuned networks as files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from eegm2.atomic import write_atomic
from eegm2.errors import CheckpointError, EEGM2Error
from eegm2.evaluation.protocols.kept import DOWNSTREAM_KEY
from eegm2.model.config import EEGM2Config
from eegm2.model.heads import Downstream
from eegm2.model.network import build_model


def write_downstream(path: Path, network: Downstream, classes: Sequence[str], facts: dict[str, Any]) -> None:
    """Write a fine-tuned network with its head, whole or not at all."""
    state = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    header = {"format": 1, "classes": list(classes), "head": network.head_name, "facts": facts}
    write_atomic(path, [save(state, metadata={DOWNSTREAM_KEY: json.dumps(header, ensure_ascii=False)})])


def read_downstream(path: Path, config: EEGM2Config) -> tuple[Downstream, tuple[str, ...], dict[str, Any]]:
    """Read a file of :func:`write_downstream`: the network in evaluation mode, its classes and facts.

    Raises
    ------
    CheckpointError
        If it is missing, damaged, something else, or of a network of another shape.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[DOWNSTREAM_KEY])
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        facts = dict(header["facts"])
        n_outputs, n_times = max(len(header["classes"]), 1), int(facts["n_times"])
        network = Downstream(build_model(config), n_outputs, n_times, header["head"])
        network.load_state_dict(state)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: cannot be read as a fine-tuned network ({error})") from error
    except (KeyError, ValueError, TypeError, RuntimeError, EEGM2Error) as error:
        reason = " ".join(str(error).split())[:160]
        raise CheckpointError(
            f"{path}: is not a fine-tuned network that eegm2 wrote for this model ({reason})"
        ) from error
    return network.eval(), tuple(header["classes"]), facts
