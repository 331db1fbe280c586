"""The exact state of a run: written whole, read without unpickling objects, random generators included."""

from __future__ import annotations

import io
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eegm2.atomic import write_atomic
from eegm2.errors import CheckpointError

FORMAT = 1


class Interrupted(Exception):
    """A signal ended the run; `signum` says which."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"interrupted by {signal.Signals(signum).name}")
        self.signum = signum


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write a state, whole or not at all."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    write_atomic(path, [buffer.getbuffer()])


def read_state(path: Path) -> dict[str, Any]:
    """Return the state a run goes on from, read with ``weights_only``.

    Raises
    ------
    CheckpointError
        If it is damaged or was written by a newer eegm2.
    """
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        number = int(state["eegm2"]["format"])
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    except Exception as error:  # torch raises many kinds for a damaged archive
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: damaged ({reason}); take another copy of it, or start again with a new --out"
        ) from error
    if number > FORMAT:
        raise CheckpointError(f"{path}: format {number}, this eegm2 reads up to {FORMAT}; upgrade eegm2")
    return state


def random_state() -> dict[str, Any]:
    """Return the global random states of Python, NumPy and torch as plain values and tensors."""
    version, words, gauss = random.getstate()
    legacy: Any = np.random.get_state(legacy=True)  # noqa: NPY002 (NumPy's global state)
    _, keys, position, has_gauss, cached = legacy
    state: dict[str, Any] = {
        "python": [version, list(words), gauss],
        "numpy": [torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_random_state(state: dict[str, Any]) -> None:
    """Set what :func:`random_state` returned."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def peak_memory_mb() -> float:
    """Return the highest memory so far in MB: of the GPU where one is used, else of this process."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        return torch.cuda.max_memory_allocated() / 2**20
    try:
        import resource
        import sys
    except ImportError:  # Windows
        import psutil

        return float(psutil.Process().memory_info().peak_wset) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
