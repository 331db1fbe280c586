"""Pretraining killed at random moments, and what two finished runs may not differ in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tests.training.kill_harness import campaign, run_whole, warm_up
from tests.training.stores import tiny_store

OPTIONS = {
    "preset": "s5",
    "objective": "masked",
    "width": 4,
    "window_s": 0.5,
    "epochs": 5,
    "batch_size": 4,
    "checkpoint_every_steps": 3,
    "log_every_steps": 2,
    "accumulate": 2,
    "seed": 3,
    "accelerator": "cpu",
}
PLACES = {
    "writing a checkpoint": r"recorder\.py.* in save$",
    "writing the log": r"in (_log_step|_log_epoch|truncate)$",
    "validating": r"loop\.py.* in validate$",
    "training": r"loop\.py.* in train_epoch$",
    "setting up": r"pretrain\.py.* in _fit$",
    "finishing": r"in write_json$",
}


OSCILLATORY = {
    **OPTIONS,
    "preset": "covariance",
    "objective": "oscillatory",
    "network": ("n_virtual=4",),
    "window_s": 1.0,
    "windows_per_recording": 2,
    "contrast": 0.5,
    "channel_subsets": 0.5,
    "share": ("second=0.4",),
}


def oscillatory_command(first: str, second: str, run: str) -> None:
    """Pretrain on two stores of other electrodes, with a teacher."""
    from eegm2.training.config import PretrainConfig
    from eegm2.training.pretrain import pretrain

    pretrain([first, second], run, PretrainConfig(**OSCILLATORY))


def oscillatory_kills(folder: Path, *, kills: int, seed: int) -> dict[str, Any]:
    """As `pretrain_kills`, with `oscillatory_command`."""
    stores = [str(folder / name) for name in ("first", "second")]
    tiny_store(Path(stores[0]), channels=("Fp1", "Fp2", "C3", "C4", "O1"))
    tiny_store(Path(stores[1]), seed=1, channels=("TP9", "AF7", "AF8", "TP10"))
    run_whole(warm_up)
    return campaign(
        oscillatory_command,
        lambda name: (*stores, str(folder / name)),
        lambda name: differences(folder / "whole", folder / name),
        kills=kills,
        seed=seed,
        places=PLACES,
    )


def pretrain_command(store: str, run: str) -> None:
    """Pretrain as the command line does."""
    from eegm2.training.config import PretrainConfig
    from eegm2.training.pretrain import pretrain

    pretrain(store, run, PretrainConfig(**OPTIONS))


def pretrain_kills(folder: Path, *, kills: int, seed: int) -> dict[str, Any]:
    """Kill runs until `kills` hit; every run must end as the undisturbed one did."""
    tiny_store(folder / "store")
    run_whole(warm_up)
    return campaign(
        pretrain_command,
        lambda name: (str(folder / "store"), str(folder / name)),
        lambda name: differences(folder / "whole", folder / name),
        kills=kills,
        seed=seed,
        places=PLACES,
    )


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
