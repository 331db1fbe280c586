"""A trained model and what its input must look like, from a run, a checkpoint or the authors' file."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from eegm2.data.channels import canonical
from eegm2.data.config import PreprocessingConfig, Scaling, WindowConfig
from eegm2.data.electrodes import on_montage
from eegm2.errors import ConfigError
from eegm2.model.config import EEGM2Config
from eegm2.training.checkpoint import INPUT, load_checkpoint, weights_sha256

SCALINGS = {
    "quantile95": "each channel divided by the 0.95 quantile of its absolute values (+ 1e-8)",
    "robust": "each channel minus its median, divided by its interquartile range / 1.349",
    "zscore": "each channel minus its mean, divided by its standard deviation",
    "recording": "all channels divided by one number, the median of their robust standard deviations",
    "none": "microvolts, not scaled",
}


@dataclass(frozen=True)
class TrainedModel:
    """A model in evaluation mode and the facts about its input.

    Attributes
    ----------
    model : nn.Module
    ch_names : tuple of str
        In order; ``ch0``, ``ch1`` … where the file does not tell.
    sfreq_hz : float
    scaling : str
        Name of the scaling of training windows, see ``SCALINGS``.
    window_s : float
        Length of the training windows.
    preprocessing : PreprocessingConfig
    source : str
        File name.
    sha256 : str
        Of the file.
    weights_sha256 : str
        Of the weights as they were loaded, in whatever file; heads keep it.
    """

    model: nn.Module
    ch_names: tuple[str, ...]
    sfreq_hz: float
    scaling: Scaling
    window_s: float
    preprocessing: PreprocessingConfig
    source: str
    sha256: str
    weights_sha256: str = ""

    @property
    def config(self) -> EEGM2Config:
        """Shape of the network."""
        config = self.model.config
        assert isinstance(config, EEGM2Config)
        return config

    def on_montage(self, ch_names: Sequence[str] = (), positions: str = "") -> TrainedModel:
        """Return the model for other channels; itself where none are named.

        Raises
        ------
        ConfigError
            If the network takes the electrodes it was trained on only, or a channel has no known position.
        """
        names = tuple(canonical(name) for name in ch_names) or self.ch_names
        if names != self.ch_names and not self.config.any_electrodes:
            raise ConfigError(
                f"channels: this network ({self.config.preset_name}) takes {' '.join(self.ch_names)}; only "
                "the preset covariance takes any electrodes"
            )
        model = on_montage(self.model, self.ch_names, names, positions)  # type: ignore[type-var]
        return replace(self, model=model, ch_names=names)

    def facts(self) -> dict[str, Any]:
        """Return what belongs into an exported file, as plain values."""
        from eegm2.config import to_dict

        return {
            "preset": self.config.preset_name,
            "n_chans": self.config.n_chans,
            "width": self.config.width,
            "representation_channels": self.config.representation_channels,
            "step_samples": self.config.step_samples,
            "ch_names": list(self.ch_names),
            "sfreq_hz": self.sfreq_hz,
            "scaling": self.scaling,
            "units": SCALINGS.get(self.scaling, self.scaling),
            "window_s": self.window_s,
            "preprocessing": to_dict(self.preprocessing),
            "source": self.source,
            "source_sha256": self.sha256,
            "weights_sha256": self.weights_sha256,
        }


def load_trained(path: str | Path, which: str = "best") -> TrainedModel:
    """Load a model by any of its names, see :func:`eegm2.zoo.find_weights`.

    Raises
    ------
    CheckpointError
        If the file is missing, damaged or of another kind.
    """
    checkpoint = load_checkpoint(path, which, needs=INPUT)  # type: ignore[arg-type]
    header = checkpoint.header
    windows: WindowConfig = checkpoint.plain_windows("a stream")
    with checkpoint.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return TrainedModel(
        checkpoint.model,
        tuple(header["ch_names"]),
        float(header["sfreq_hz"]),
        windows.scaling,
        windows.window_s,
        checkpoint.preprocessing,
        checkpoint.path.name,
        digest,
        weights_sha256(checkpoint.model),
    )
