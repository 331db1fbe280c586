"""Kill a command at random moments until it gets through, and compare what it leaves with an undisturbed run.

``python -m tests.training.kill_harness --kills 50`` does so for pretraining; other commands use `run_killed`
with a function of their own. Processes come from a fork server that has imported the libraries once.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import torch

PRELOAD = [
    "lightning.pytorch.loggers",
    "tensorboard",
    "eegm2.training.trainer",
    "eegm2.training.pretrain",
    "eegm2.training.progress",
    "eegm2.evaluation.experiment.run",
    "eegm2.evaluation.baselines.band_power",
]
WAIT_S = 900.0  # a busy machine is slow; tests have limits of their own


@dataclass(frozen=True)
class Killed:
    """How often a command was killed, and how often it was started until it got through."""

    kills: int
    starts: int


def run_whole(command: Callable[..., None], *arguments: Any, context: Any = None) -> float:
    """Run a command undisturbed in a process of its own; return its seconds."""
    process = (context or _context()).Process(target=_quietly, args=(command, *arguments))
    began = time.monotonic()
    process.start()
    process.join(WAIT_S)
    assert process.exitcode == 0, f"{command.__name__} left with {process.exitcode}"
    return time.monotonic() - began


def run_killed(
    command: Callable[..., None],
    *arguments: Any,
    kills: int,
    longest_s: float,
    seed: int,
    context: Any = None,
) -> Killed:
    """Start a command, SIGKILL it after a random time, and so on; then let it get through.

    Parameters
    ----------
    command : callable
        A module-level function; killed and called again it must go on.
    kills : int
        How many kills must hit the running command; when it gets through before, `kills` is what hit.
    longest_s : float
        Upper end of the random times.
    seed : int
        Seed of the times.
    context : optional
        From `multiprocessing.get_context`; by default a fork server that has imported the training.
    """
    rng = random.Random(seed)
    hit = 0
    for _ in range(kills):
        process = (context or _context()).Process(target=_quietly, args=(command, *arguments))
        process.start()
        process.join(rng.uniform(0.0, longest_s))
        if process.exitcode is None:
            os.kill(process.pid or 0, signal.SIGKILL)
            process.join(WAIT_S)
        if process.exitcode == -signal.SIGKILL:
            hit += 1
        else:
            assert process.exitcode == 0, f"{command.__name__} left with {process.exitcode} after {hit} kills"
            return Killed(hit, hit + 1)
    run_whole(command, *arguments, context=context)
    return Killed(hit, hit + 1)


@functools.cache
def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        sys.path
    )  # else the server cannot import what it should preload
    forkserver.ensure_running()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before
    return context


def _quietly(command: Callable[..., None], *arguments: Any) -> None:
    torch.set_num_threads(1)
    with Path(os.devnull).open("w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    command(*arguments)


def warm_up() -> None:
    """Do nothing, once the fork server has imported everything: times measured later are the work's."""


def pretrain_command(store: str, run: str, options: dict[str, Any]) -> None:
    """Pretrain as the command line does."""
    from eegm2.training.config import PretrainConfig
    from eegm2.training.pretrain import pretrain

    pretrain(store, run, PretrainConfig(**options))


def differences(a: Path, b: Path) -> list[str]:
    """Return in what two finished runs differ, bit for bit; timings (performance.csv, tensorboard) aside."""
    files = ["run.json", "splits.json", "logs/metrics.csv", "logs/steps.csv"]
    files += [f"checkpoints/{which}.{kind}" for which in ("best", "last") for kind in ("safetensors", "json")]
    found = [name for name in files if (a / name).read_bytes() != (b / name).read_bytes()]
    states = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True) for run in (a, b)]
    found += [f"last.ckpt: {place}" for place in _tree_differences(*states)]
    hidden = [path.name for run in (a, b) for path in run.rglob(".*")]
    return found + [f"left behind: {name}" for name in hidden]


def _tree_differences(a: Any, b: Any, place: str = "") -> list[str]:
    if type(a) is not type(b):
        return [place]
    if isinstance(a, torch.Tensor):
        return [] if a.dtype == b.dtype and torch.equal(a, b) else [place]
    if isinstance(a, dict):
        if a.keys() != b.keys():
            return [place]
        return [d for key in a for d in _tree_differences(a[key], b[key], f"{place}/{key}")]
    if isinstance(a, Sequence) and not isinstance(a, str):
        if len(a) != len(b):
            return [place]
        return [d for i, (x, y) in enumerate(zip(a, b)) for d in _tree_differences(x, y, f"{place}/{i}")]
    return [] if a == b else [place]


def main() -> None:
    """Kill pretraining many times; the last line is JSON."""
    from tests.training.stores import tiny_store

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        result = campaign(Path(name), tiny_store, kills=arguments.kills, seed=arguments.seed)
    print(json.dumps(result))


def campaign(folder: Path, make_store: Callable[[Path], Any], *, kills: int, seed: int) -> dict[str, Any]:
    """Kill runs until `kills` hit; every run must end as the undisturbed one did."""
    make_store(folder / "store")
    options = {
        **{"preset": "s5", "objective": "masked", "width": 4, "window_s": 0.5, "epochs": 3, "batch_size": 4},
        **{
            "checkpoint_every_steps": 3,
            "log_every_steps": 2,
            "accumulate": 2,
            "seed": 3,
            "accelerator": "cpu",
        },
    }
    whole = folder / "whole"
    run_whole(warm_up)
    seconds = run_whole(pretrain_command, str(folder / "store"), str(whole), options)
    hits = runs = 0
    differing: list[str] = []
    while hits < kills:
        run = folder / f"killed{runs}"
        done = run_killed(
            pretrain_command,
            *(str(folder / "store"), str(run), options),
            kills=min(5, kills - hits),
            longest_s=seconds,
            seed=seed * 1000 + runs,
        )
        hits, runs = hits + done.kills, runs + 1
        differing += [f"{run.name}: {what}" for what in differences(whole, run)]
    return {"command": "pretrain", "kills": hits, "runs": runs, "differences": differing}


if __name__ == "__main__":
    main()
