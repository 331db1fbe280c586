"""The beginning of a run: a new folder, or the one to go on with, and nothing else."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eegm2.config import from_dict, to_dict
from eegm2.data.windows.pool import StorePool
from eegm2.data.windows.pooled import PoolWindows, pool_windows
from eegm2.data.windows.splits import SplitManifest
from eegm2.errors import ConfigError, DataError
from eegm2.model.config import EEGM2Config
from eegm2.plugins import named_plugins
from eegm2.records import DATA, RUN, Record, read_record
from eegm2.training.checkpoint import provenance, write_json
from eegm2.training.config import FREE_ON_RESUME, PretrainConfig
from eegm2.training.continued import Beginning, of_shape, refuse_other_data
from eegm2.training.runfolder import disk_errors

#: To be raised when run.json changes, or when the same options train other weights than before.
RUN_FORMAT = 1
_BEGUN = Record(
    {**RUN.fields, "data": Record(DATA.fields, ("manifest_sha256",))},
    ("pretrain", "data", "model", "windows"),
)
"""What is needed to go on with a run."""


def begin(folder: Path, pool: StorePool, config: PretrainConfig) -> tuple[PretrainConfig, Beginning | None]:
    """Return a run's options with the shape of the model it begins with, and that model where it is needed.

    A run that goes on has its weights in its state, and its shape in its record.
    """
    if not config.init:
        return config, None
    if begun(folder):
        with contextlib.suppress(ConfigError):  # told by open_run
            shape = EEGM2Config.from_dict(read_record(folder / "run.json", _BEGUN, ConfigError)["model"])
            return of_shape(config, shape, config.init), None
        return config, None
    beginning = Beginning.read(config.init, trust=named_plugins(config))
    config = of_shape(config, beginning.network.config, config.init)
    refuse_other_data(beginning, config.init, pool, config)
    return config, beginning


def open_run(
    folder: Path,
    pool: StorePool,
    config: PretrainConfig,
    beginning: Beginning | None = None,
    *,
    write: bool,
) -> dict[str, Any]:
    """Return the facts of the run in `folder`; a new one is begun, another one refused."""
    path = folder / "run.json"
    if begun(folder):
        facts = read_record(path, _BEGUN, ConfigError, "choose another --out")
        before = from_dict(PretrainConfig, facts["pretrain"], where=f"{path}: pretrain")
        sha256 = facts["data"]["manifest_sha256"]
        _refuse_other_options(folder, before, config)
        if sha256 != pool.manifest_sha256:
            what = "the store is not the one" if len(pool) == 1 else "the stores or their order are not those"
            raise DataError(
                f"{pool.url}: {what} the run in {folder} began with (manifest {pool.manifest_sha256[:12]}…, "
                f"then {sha256[:12]}…); give {'that one' if len(pool) == 1 else 'those'}, "
                "or choose another --out"
            )
        return facts
    strangers = (
        sorted(p.name for p in folder.iterdir() if not p.name.startswith(".")) if folder.exists() else []
    )
    if write and strangers and not path.exists():
        raise ConfigError(f"{folder}: holds {strangers[0]} and no run; choose an empty folder for --out")
    refuse_electrodes(pool, config)
    facts = {
        "run_format": RUN_FORMAT,
        "model": config.network_config(len(pool.montages[0]), pool.sfreq_hz).to_dict(),
        "preprocessing": to_dict(pool.preprocessing),
        "windows": to_dict(config.window_config()),
        "ch_names": list(pool.montages[0]),
        "sfreq_hz": pool.sfreq_hz,
        "data": {
            "store": ", ".join(pool.names),
            "manifest_sha256": pool.manifest_sha256,
            "n_recordings": sum(map(len, pool.stores)),
            "n_subjects": len(pool.people()),
            **({"stores": _stores(pool)} if len(pool) > 1 else {}),
        },
        "pretrain": to_dict(config),
        **({} if beginning is None else {"init": beginning.facts(config.init)}),
        **provenance(),
        "finished": False,
    }
    if write:
        with disk_errors(folder, "nothing was begun"):
            write_json(path, facts)
    return facts


def begun(folder: Path) -> bool:
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


def refuse_electrodes(pool: StorePool, config: PretrainConfig) -> None:
    """Raise a ConfigError if a network of fixed electrodes is to train on stores of several sets of them."""
    first = pool.montages[0]
    if config.network_config(len(first), pool.sfreq_hz).any_electrodes:
        return
    for name, montage in zip(pool.names, pool.montages):
        if montage != first:
            raise ConfigError(
                f"preset: {config.preset} has fixed electrodes, but the stores differ: {pool.names[0]} has "
                f"{' '.join(first)}; {name} has {' '.join(montage)}; prepare both with the same --channels, "
                "or take --preset covariance, which is for any electrodes"
            )


def _stores(pool: StorePool) -> list[dict[str, Any]]:
    """Return what is known of each of several stores."""
    return [
        {
            "store": name,
            "manifest_sha256": store.manifest_sha256,
            "n_recordings": len(store.recordings),
            "n_subjects": len(store.subjects),
            "ch_names": list(store.ch_names),
            "licence": store.licence,
        }
        for name, store in zip(pool.names, pool.stores)
    ]


def run_splits(
    folder: Path,
    pool: StorePool,
    config: PretrainConfig,
    beginning: Beginning | None = None,
    *,
    write: bool,
) -> SplitManifest:
    """Return the run's split: the one it began with, the user's own, or a new one."""
    path = folder / "splits.json"
    if begun(folder) or config.splits:
        path = path if begun(folder) else Path(config.splits)
        manifest = SplitManifest.from_json(path)
        pool.refuse_unknown(manifest, str(path))
        manifest = dataclasses.replace(manifest, stores=pool.hashes())
    else:
        manifest = pool.split(config.split_config(), () if beginning is None else beginning.splits)
    for name in pool.names if len(pool) > 1 else ():
        if not manifest.part_of(name).train:
            raise DataError(f"{name}: the split leaves nobody of this store to train on; leave the store out")
    if not manifest.train:
        raise DataError(
            f"{config.splits or pool.url}: the split leaves nobody to train on; lower val and test"
        )
    if write and not begun(folder):
        with disk_errors(folder, "nothing was begun"):
            manifest.to_json(folder / "splits.json")
            if beginning is not None:
                beginning.keep_splits(folder)
    return manifest


def run_windows(
    pool: StorePool, manifest: SplitManifest, config: PretrainConfig
) -> tuple[PoolWindows, PoolWindows | None]:
    """Return the windows of a run to train on, and those to validate (None: nobody is held out)."""
    windows = config.window_config()
    train = pool_windows(pool, windows, manifest, "train")
    assert train is not None
    return train, pool_windows(pool, windows, manifest, "val")


def with_windows(
    data: dict[str, Any], train: PoolWindows, val: PoolWindows | None, portions: Sequence[float]
) -> dict[str, Any]:
    """Return the facts of a run's data with the numbers of windows, and of people of each store."""
    found = {**data, "n_train_windows": len(train), "n_val_windows": len(val) if val is not None else 0}
    if len(train.pool) == 1:
        return found
    each = []
    for number, facts in enumerate(data["stores"]):
        counts: dict[str, Any] = {"share": portions[number]}
        for part, windows in (("train", train), ("val", val)):
            of_store = windows.of_store(number) if windows is not None else None
            counts[f"n_{part}_windows"] = len(of_store) if of_store is not None else 0
            people = {info.subject for info in of_store.recordings} if of_store is not None else ()
            counts[f"n_{part}_subjects"] = len(people)
        each.append({**facts, **counts})
    return {**found, "stores": each}


def environment_rank() -> int:
    """Return this process's rank before any trainer exists; launchers tell it by environment variables."""
    for name in ("RANK", "SLURM_PROCID", "LOCAL_RANK"):
        if os.environ.get(name, "").isdigit():
            return int(os.environ[name])
    return 0
