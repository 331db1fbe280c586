"""The weights that models start from: pretrained for every split, a finished run's, or random."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from eegm2.config import from_dict, to_dict
from eegm2.data.config import WindowConfig, sha256_json
from eegm2.data.electrodes import on_montage, read_positions
from eegm2.data.store.recording_store import RecordingStore
from eegm2.data.windows.pool import StorePool
from eegm2.errors import CheckpointError, ConfigError, DataError
from eegm2.evaluation.experiment.config import RANDOM, ModelPlan, Plan, PretrainPlan
from eegm2.evaluation.experiment.pretrained import Wanted, run_folder
from eegm2.evaluation.experiment.splits import NamedSplit
from eegm2.evaluation.features.transfer import adapt_channels
from eegm2.evaluation.windows.from_store import preprocessing_differences, pretraining_saw, read_run_split
from eegm2.model.config import EEGM2Config
from eegm2.model.network import EEGM2, build_model
from eegm2.model.unet import UNet
from eegm2.plugins import named_plugins
from eegm2.records import RUN, parse_json, read_record
from eegm2.training.checkpoint import INPUT, checkpoint_path, load_checkpoint, model_config, read_header
from eegm2.training.config import PretrainConfig
from eegm2.training.run_record import refuse_electrodes
from eegm2.training.runfolder import remove_stale_lock

ACCELERATORS = {"cpu": "cpu", "cuda": "gpu", "mps": "mps"}


class WeightSource:
    """Pretrains where needed, and hands out networks.

    Parameters
    ----------
    plan : Plan
        The experiment.
    store : RecordingStore
        Its data.
    out : Path
        Its folder; runs are kept below ``pretrained/``.
    device : str
        Where to pretrain.
    """

    def __init__(self, plan: Plan, store: RecordingStore, out: Path, device: str) -> None:
        self.plan, self.store, self.out, self.device = plan, store, out, device
        self._hashes: dict[Path, str] = {}
        self._pools: dict[tuple[str, ...], StorePool] = {}
        self._places: dict[tuple[str, str], Path] = {}

    def check(self, model: ModelPlan) -> None:
        """Refuse a pretraining whose data differ from the experiment's, with the differences.

        Raises
        ------
        ConfigError
            Naming every difference and the key that permits it.
        """
        if model.fresh:
            self.fresh_config(model)
            return
        source = self.plan.pretrain[model.pretrained]
        where = f"{self.plan.path}: pretrain.{source.name}"
        header = self._header(source)
        if self.fresh_config(model).any_electrodes:
            header = {**header, "ch_names": list(self.store.ch_names)}
        differences = preprocessing_differences(header, self.store)
        other = [text for text in differences if text.startswith("channels:")]
        if other and source.channels != "adapt":
            remedy = "prepare the recordings alike, or set channels = 'adapt'"
            raise ConfigError(f"{where}: {'; '.join(differences)}; {remedy}")
        differences = [text for text in differences if text not in other]
        scaling = model.scaling or self.plan.data.scaling
        trained = from_dict(WindowConfig, header.get("windows", {}), where=f"{where}: windows")
        here = self.plan.data.windows(scaling)
        for name in ("scaling", "dataset", "dataset_options"):
            before, now = getattr(trained, name), getattr(here, name)
            if before != now:
                differences.append(f"{name}: {before or 'none'} in pretraining, {now or 'none'} here")
        if differences and not source.allow_mismatch:
            remedy = "prepare the recordings alike, or set allow_mismatch = true"
            raise ConfigError(f"{where}: {'; '.join(differences)}; {remedy}")

    def fresh_config(self, model: ModelPlan) -> EEGM2Config:
        """Return the shape of a network without its weights."""
        n_chans = len(self.store.ch_names)
        if model.pretrained in ("", RANDOM):
            sizes = {"n_chans": n_chans, "width": model.width or 64, **model.changes(model.network)}
            return EEGM2Config.preset(model.preset or "eegm2", **sizes).at_rate(self.store.sfreq_hz)
        source = self.plan.pretrain[model.pretrained]
        if source.run:
            header = read_header(self.plan.model(source.run), source.which)
            return model_config(self.plan.model(source.run), header).replace(n_chans=n_chans)
        return source.options.network_config(n_chans, self.store.sfreq_hz)

    def fingerprint(self, model: ModelPlan, split: NamedSplit, seed: int) -> str | None:
        """Return what tells a network's first weights from any other; None before they are pretrained."""
        if model.fresh:
            what = {"random": self.fresh_config(model).to_dict(), "seed": seed}
            return sha256_json({**what, **self._places_given()})
        source = self.plan.pretrain[model.pretrained]
        try:
            path = checkpoint_path(self.place(source, split), source.which)
        except CheckpointError:  # not pretrained yet
            return None
        if not source.run and not _finished(self.place(source, split)):
            return None
        if path not in self._hashes:
            self._hashes[path] = weights_sha256(path)
        about: list[Any] = [self._hashes[path], list(self.store.ch_names)]
        return sha256_json([*about, *self._places_given().values()])

    def place(self, source: PretrainPlan, split: NamedSplit) -> Path:
        """Return the run folder (or file) of a pretraining for a split."""
        if source.run:
            return Path(self.plan.model(source.run))
        pool = self._pool(source)
        stem = "all" if source.stores else split.name.partition("/")[0]
        if (source.name, stem) not in self._places:
            manifest = None if source.stores else split.manifest
            about = (source.options, len(pool.montages[0]), pool.manifest_sha256, manifest)
            found = run_folder(self.out / "pretrained" / source.name, Wanted(stem, *about))
            self._places[source.name, stem] = found
        return self._places[source.name, stem]

    def pretrain(self, source: PretrainPlan, split: NamedSplit, say: Callable[[str], None] = print) -> None:
        """Pretrain for a split, or go on with it, and say how it goes; nothing where it has finished."""
        from eegm2.training.pretrain import pretrain

        run = self.place(source, split)
        if source.run:
            return
        if _finished(run):
            remove_stale_lock(run)
            return
        name = run.relative_to(self.out)
        say(
            f"{name}: pretraining begins"
            if not (run / "run.json").exists()
            else f"{name}: pretraining goes on"
        )
        kind, _, number = self.device.partition(":")
        options: dict[str, Any] = {"accelerator": ACCELERATORS.get(kind, "auto")}
        if kind != "cpu":
            options["devices"] = f"{number}," if number else "1"
        pool = self._pool(source)
        if not source.stores:
            manifest = self.out / "splits" / f"{run.name}.json"
            split.manifest.to_json(manifest)
            options["splits"] = str(manifest)
        config: PretrainConfig = dataclasses.replace(source.options, **options)
        done = pretrain(pool.stores, run, config, say=lambda line: say(f"{name}: {line}"))
        losses = (
            f"{key} {done.metrics[key]:.5g}" for key in ("train_loss", "val_loss") if done.metrics.get(key)
        )
        say(f"{name}: pretrained, {done.epoch} epochs, {done.step} steps, {', '.join(losses)}")

    def network(self, model: ModelPlan, split: NamedSplit, seed: int) -> EEGM2 | UNet:
        """Return a model's network in evaluation mode; other channels get new layers, seeded."""
        if model.fresh:
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                return self._on_montage(build_model(self.fresh_config(model)).eval(), [])
        source = self.plan.pretrain[model.pretrained]
        trust = named_plugins(source.options)
        checkpoint = load_checkpoint(self.place(source, split), source.which, needs=INPUT, trust=trust)
        trained_on, here = list(checkpoint.header["ch_names"]), list(self.store.ch_names)
        if checkpoint.config.any_electrodes:
            return self._on_montage(checkpoint.model, trained_on)
        if trained_on == here or source.channels != "adapt":
            return checkpoint.model
        names = {"trained_on": trained_on, "ch_names": here}
        return adapt_channels(checkpoint.model, len(here), seed=seed, **names)

    def _on_montage(self, model: EEGM2 | UNet, trained_on: list[str]) -> EEGM2 | UNet:
        """Return a network for the electrodes of the experiment's store, if it takes any."""
        if not model.config.any_electrodes:
            return model
        return on_montage(model, trained_on, self.store.ch_names, self._positions)

    @property
    def _positions(self) -> str:
        """The file of electrode positions, or nothing."""
        return self.plan.data.positions and str(self.plan.place(self.plan.data.positions))

    def _places_given(self) -> dict[str, str]:
        """Return the hash of the electrodes' positions, where a file has them."""
        return {"positions": sha256_json(read_positions(self._positions))} if self._positions else {}

    def statement(self, model: ModelPlan, split: NamedSplit) -> str:
        """Say what pretraining saw of a split's test part."""
        if model.fresh or model.baseline:
            return "no pretraining"
        source = self.plan.pretrain[model.pretrained]
        seen = read_run_split(self.place(source, split), self.store)
        same = seen is not None and seen.manifest_sha256 == self.store.manifest_sha256
        return pretraining_saw(split.manifest, seen, same)

    def _pool(self, source: PretrainPlan) -> StorePool:
        """Return the stores of a pretraining; they are opened once."""
        if source.stores not in self._pools:
            opened = [RecordingStore(self.plan.place(store)) for store in source.stores] or [self.store]
            self._pools[source.stores] = StorePool(opened)
        return self._pools[source.stores]

    def _header(self, source: PretrainPlan) -> dict[str, Any]:
        """Return what a checkpoint's header says of its data, of one still to be trained too."""
        if source.run:
            return read_header(self.plan.model(source.run), source.which, needs=INPUT)
        pool = self._pool(source)
        refuse_electrodes(pool, source.options)
        windows = to_dict(source.options.window_config())
        return {
            "ch_names": list(pool.montages[0]),
            "preprocessing": to_dict(pool.preprocessing),
            "windows": windows,
        }


def weights_sha256(path: Path) -> str:
    """Return the hash of a checkpoint's tensors and network, whatever else its header tells."""
    size = int.from_bytes((data := path.read_bytes())[:8], "little")
    header = read_header(path)  # refuses what is none
    tensors = parse_json(data[8 : 8 + size])
    tensors.pop("__metadata__", None)
    digest = hashlib.sha256(sha256_json([tensors, header["model"]]).encode())
    digest.update(memoryview(data)[8 + size :])
    return digest.hexdigest()


def _finished(run: Path) -> bool:
    """Return whether a run folder says that it has finished."""
    try:
        return bool(read_record(run / "run.json", RUN).get("finished"))
    except DataError:
        return False
