"""The beginning of a run: a new folder, or the one to go on with, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from eegm2.config import from_dict, to_dict
from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.splits import SplitManifest, split_subjects
from eegm2.errors import ConfigError, DataError
from eegm2.model.config import EEGM2Config
from eegm2.training.checkpoint import provenance, write_json
from eegm2.training.config import FREE_ON_RESUME, PretrainConfig
from eegm2.training.runfolder import disk_errors

#: To be raised when run.json changes, or when the same options train other weights than before.
RUN_FORMAT = 1


def open_run(folder: Path, store: RecordingStore, config: PretrainConfig, *, write: bool) -> dict[str, Any]:
    """Return the facts of the run in `folder`; a new one is begun, another one refused."""
    path = folder / "run.json"
    if _begun(folder):
        try:
            facts: dict[str, Any] = json.loads(path.read_bytes())
            before = from_dict(PretrainConfig, facts["pretrain"], where=f"{path}: pretrain")
            sha256 = facts["data"]["manifest_sha256"]
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise ConfigError(f"{path}: not the record of a run ({error}); choose another --out") from error
        _refuse_other_options(folder, before, config)
        if sha256 != store.manifest_sha256:
            raise DataError(
                f"{store.url}: the store is not the one the run in {folder} began with (manifest "
                f"{store.manifest_sha256[:12]}…, then {sha256[:12]}…); give that one, or choose another --out"
            )
        return facts
    strangers = (
        sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) if folder.exists() else []
    )
    if write and strangers and not path.exists():
        raise ConfigError(f"{folder}: holds {strangers[0]} and no run; choose an empty folder for --out")
    facts = {
        "run_format": RUN_FORMAT,
        "model": EEGM2Config.preset(config.preset, n_chans=len(store.ch_names), width=config.width).to_dict(),
        "preprocessing": to_dict(store.preprocessing),
        "windows": to_dict(config.window_config()),
        "ch_names": list(store.ch_names),
        "sfreq_hz": store.sfreq_hz,
        "data": {
            "store": Path(store.url).name,
            "manifest_sha256": store.manifest_sha256,
            "n_recordings": len(store.recordings),
            "n_subjects": len(store.subjects),
        },
        "pretrain": to_dict(config),
        **provenance(),
        "finished": False,
    }
    if write:
        with disk_errors(folder, "nothing was begun"):
            write_json(path, facts)
    return facts


def _begun(folder: Path) -> bool:
    """Return whether the run got as far as a checkpoint; before, another may take its place."""
    return (folder / "checkpoints" / "last.ckpt").exists()


def _refuse_other_options(folder: Path, before: PretrainConfig, now: PretrainConfig) -> None:
    """Raise a ConfigError that names every option in which a run to go on with differs."""
    differing = [
        field.name
        for field in dataclasses.fields(now)
        if field.name not in FREE_ON_RESUME and getattr(before, field.name) != getattr(now, field.name)
    ]
    if not differing:
        return
    each = "; ".join(
        f"{name} is {getattr(before, name)!r} there, got {getattr(now, name)!r}" for name in differing
    )
    remedy = "give the same options to go on with it, or choose another --out"
    if "epochs" in differing:
        remedy = f"the learning-rate cycle is laid out over all epochs, so it cannot be lengthened; {remedy}"
    raise ConfigError(f"{folder}: holds a run with other options: {each}; {remedy}")


def run_splits(folder: Path, store: RecordingStore, config: PretrainConfig, *, write: bool) -> SplitManifest:
    """Return the run's split: the one it began with, the user's own, or a new one."""
    path = folder / "splits.json"
    if _begun(folder):
        return SplitManifest.from_json(path, store)
    if config.splits:
        manifest = SplitManifest.from_json(config.splits, store)
    else:
        manifest = split_subjects(store, config.split_config())
    if not manifest.train:
        raise DataError(
            f"{config.splits or store.url}: the split leaves nobody to train on; lower val and test"
        )
    if write:
        with disk_errors(folder, "nothing was begun"):
            manifest.to_json(path)
    return manifest


def environment_rank() -> int:
    """Return this process's rank before any trainer exists; launchers tell it by environment variables."""
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 0
