"""Pretraining that begins with a model's weights: which, what they saw, and what of them fits."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from eegm2.config import to_dict
from eegm2.data.config import signal_differences
from eegm2.data.windows.pool import StorePool
from eegm2.data.windows.splits import EARLIER, SplitManifest, splits_of
from eegm2.errors import ConfigError
from eegm2.model.config import COVARIANCE_OPTIONS, TRAINED, EEGM2Config
from eegm2.model.network import EEGM2
from eegm2.model.unet import UNet
from eegm2.training.checkpoint import load_checkpoint
from eegm2.training.config import PretrainConfig

#: Buffers that belong to a montage, not to what was learnt.
OF_THE_MONTAGE = ("trunk.electrodes.spread",)
#: Sizes that `PretrainConfig.network` can name.
SIZES = (
    *("d_state", "d_conv", "expand", "headdim", "ngroups", "n_heads", "dropout"),
    *(name for name in COVARIANCE_OPTIONS if name != "sfreq_hz"),
)


@dataclasses.dataclass(frozen=True)
class Beginning:
    """A model to go on from.

    Attributes
    ----------
    network : EEGM2 or UNet
    splits : tuple of SplitManifest
        Whom it and its own beginnings were trained on, as far as files say.
    """

    network: EEGM2 | UNet
    splits: tuple[SplitManifest, ...]

    @classmethod
    def read(cls, name: str, trust: Sequence[str] = ()) -> Beginning:
        """Read a run, a folder, a file or a model of the hub; `trust` as in :func:`eegm2.trusting`.

        Raises
        ------
        CheckpointError
            If there is no such model, or it is damaged.
        """
        network = load_checkpoint(name, trust=trust).model
        return cls(network, tuple(SplitManifest.from_json(path) for path in splits_of(Path(name))))

    def facts(self, name: str) -> dict[str, Any]:
        """Return what a run records of its beginning; no place on this machine."""
        digest = hashlib.sha256()
        for key, tensor in sorted(self.network.state_dict().items()):
            digest.update(key.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        header = self.network.header
        known = ("ch_names", "data", "epoch", "step", "commit", "init")
        return {
            "model": Path(name).name,
            "weights_sha256": digest.hexdigest(),
            **{key: header[key] for key in known if key in header},
        }

    def keep_splits(self, run: Path) -> None:
        """Write the splits beside the run's own, so that what was seen stays known."""
        for path, manifest in zip(EARLIER, self.splits):
            manifest.to_json(run / path)


def refuse_other_data(beginning: Beginning, name: str, pool: StorePool, config: PretrainConfig) -> None:
    """Raise a ConfigError if a model cannot go on with a run's stores; the differences are named."""
    network, header = beginning.network, beginning.network.header
    found = []
    if header.get("sfreq_hz", pool.sfreq_hz) != pool.sfreq_hz:
        found.append(f"sfreq_hz is {header['sfreq_hz']:g} and {pool.sfreq_hz:g}")
    elif "preprocessing" in header:
        now = to_dict(pool.preprocessing)
        found += [f"{key} is {a} and {b}" for key, a, b in signal_differences(header["preprocessing"], now)]
    if found:
        raise ConfigError(
            f"init: {name} was trained on recordings prepared otherwise than {pool.url}: {'; '.join(found)}; "
            "prepare them alike"
        )
    names, here = header.get("ch_names"), pool.montages[0]
    fixed = not (isinstance(network, EEGM2) and network.config.any_electrodes)
    if fixed and (network.config.n_chans != len(here) or (names and tuple(names) != here)):
        there = " ".join(names) if names else f"{network.config.n_chans} channels"
        raise ConfigError(
            f"init: {name} has fixed electrodes: {there}; {pool.names[0]} has {' '.join(here)}; prepare the "
            "recordings with its --channels in its order, or begin with a model for any electrodes"
        )
    wanted = config.network_config(len(here), pool.sfreq_hz)
    if wanted.decoder and not network.config.decoder:
        raise ConfigError(
            f"init: {name} has no decoder, which objective {config.objective} needs; give another --objective"
        )


def of_shape(config: PretrainConfig, shape: EEGM2Config, name: str) -> PretrainConfig:
    """Return a run's options with preset, width and sizes of the model that it begins with.

    Raises
    ------
    ConfigError
        If others were asked for, or no options give such a network.
    """
    usual = PretrainConfig()
    same = {key: getattr(shape, key) for key in ("n_chans", "width", "sfreq_hz")}
    sizes = {key: getattr(shape, key) for key in SIZES}
    mixing = {"mixer": shape.mixer, "mixer_options": shape.mixer_options}
    own: dict[str, Any] = {"mixer": "", "mixer_options": {}}
    preset = _preset_of(shape, {**same, **sizes})
    if preset is None:  # a preset with another mixer
        preset, own = _preset_of(shape, {**same, **sizes, **mixing}), mixing
    if preset is None:
        raise ConfigError(f"init: {name} is a network that no preset and sizes give; begin with another one")
    plain = EEGM2Config.preset(preset, **same)
    changed = [f"{key}={value}" for key, value in sizes.items() if getattr(plain, key) != value]
    found: dict[str, Any] = {"preset": preset, "width": shape.width, "network": tuple(changed), **own}
    alone = ("d_state", "expand", "headdim")
    has = {**found, **mixing, **{key: sizes[key] for key in alone}}
    for key, value in has.items():
        asked = getattr(config, key)
        if asked != getattr(usual, key) and asked != value:
            flag = key.removesuffix("s") if key == "mixer_options" else key
            raise ConfigError(
                f"{key}: got {asked!r} with --init {name}, which has {value!r}; "
                f"leave --{flag.replace('_', '-')} out"
            )
    found |= dict.fromkeys(alone, 0)  # said by `network`
    return dataclasses.replace(config, **found)


def _preset_of(shape: EEGM2Config, sizes: dict[str, Any]) -> str | None:
    """Return the preset that gives a network with these sizes, with or without its decoder."""
    for preset in TRAINED.names:
        whole = EEGM2Config.preset(preset, **sizes)
        if shape in (whole, whole.replace(decoder=False)):
            return preset
    return None


@torch.no_grad()
def take_weights(network: EEGM2 | UNet, beginning: Beginning, name: str) -> None:
    """Copy a model's weights into a run's network; its decoder may be left over, nothing may be missing."""
    given = {k: v for k, v in beginning.network.state_dict().items() if k not in OF_THE_MONTAGE}
    wanted = {k: v for k, v in network.state_dict().items() if k not in OF_THE_MONTAGE}
    missing = sorted(k for k in wanted if k not in given or given[k].shape != wanted[k].shape)
    if missing:
        raise ConfigError(f"init: {name} does not fit: {missing[0]} is missing or of another shape")
    for key, value in wanted.items():
        value.copy_(given[key])
