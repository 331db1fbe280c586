"""Networks of braindecode at the shape that is measured, and what each of them made us change."""

from __future__ import annotations

import warnings
from typing import Any

from torch import nn

from eegm2.errors import ConfigError
from eegm2.evaluation.baselines.library import braindecode_models

SFREQ_HZ = 128.0
#: Sixteen electrodes of the 10-20 system, for the models that look positions up.
ELECTRODES = [
    *("Fp1", "Fp2", "F7", "F3", "F4", "F8", "T7", "C3"),
    *("C4", "T8", "P7", "P3", "P4", "P8", "O1", "O2"),
]
#: Samples per patch, where an input must be whole patches.
PATCH = {"CBraMod": 200, "LUNA": 40, "Labram": 200}
#: Shortest input.
SHORTEST = {"EEGPT": 64, "EEGConformer": 99}


class NotInstalled(Exception):
    """braindecode cannot be imported; the message says why."""


def load_braindecode() -> Any:
    """Import ``braindecode.models``.

    Raises
    ------
    NotInstalled
        If braindecode or what it needs is missing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return braindecode_models()
    except ConfigError as error:
        raise NotInstalled(str(error)) from error


def accepted_length(name: str, n_times: int) -> int:
    """Return the nearest length, not below `n_times`, that a peer accepts."""
    patch = PATCH.get(name, 1)
    return max(-(-n_times // patch) * patch, SHORTEST.get(name, 1))


def build_peer(name: str, n_chans: int, n_times: int) -> tuple[nn.Module, int, list[str]]:
    """Build a peer with two classes for (batch, n_chans, n_times) at 128 Hz.

    Returns
    -------
    network : Module
        In evaluation mode; maps (batch, n_chans, accepted n_times) to (batch, 2).
    n_times : int
        The length that it takes.
    changes : list of str
        What differs from the shape asked for.

    Raises
    ------
    NotInstalled
        If braindecode cannot be imported.
    ValueError and others
        What the peer raises where it refuses the shape.
    """
    models = load_braindecode()
    changes = []
    length = accepted_length(name, n_times)
    if length != n_times:
        changes.append(f"input of {length} samples: it takes {_rule(name)}")
    arguments: dict[str, Any] = {"n_outputs": 2, "n_times": length, "sfreq": SFREQ_HZ}
    if name in ("EEGPT", "LUNA"):
        arguments["chs_info"] = _positions(n_chans)
    else:
        arguments["n_chans"] = n_chans
    if name in PATCH:
        changes.append(f"patches of {PATCH[name]} samples kept, here at 128 Hz")
    elif name == "BIOT":
        changes.append("128 Hz; trained at 200 Hz")
    network = getattr(models, name)(**arguments).eval()
    if name == "Labram":
        network = WithNames(network, ELECTRODES[:n_chans])
        changes.append("channel names given with each call")
    return network, length, changes


def _rule(name: str) -> str:
    return f"whole patches of {PATCH[name]}" if name in PATCH else f"at least {SHORTEST[name]}"


def _positions(n_chans: int) -> list[dict[str, Any]]:
    """Return electrodes as MNE describes them: for the models that embed positions."""
    import numpy as np

    from eegm2.data.positions import electrode_positions

    if n_chans > len(ELECTRODES):
        raise ValueError(f"positions are known for {len(ELECTRODES)} electrodes, got n_chans={n_chans}")
    known = electrode_positions()
    names = ELECTRODES[:n_chans]
    return [{"ch_name": n, "kind": "eeg", "loc": np.r_[known[n], np.zeros(9)]} for n in names]


class WithNames(nn.Module):
    """A network whose forward wants the channel names."""

    def __init__(self, network: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.network = network
        self.names = names

    def forward(self, x: Any) -> Any:
        """Map (batch, n_chans, n_times) with the names."""
        return self.network(x, ch_names=self.names)
