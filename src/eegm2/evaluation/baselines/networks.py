"""braindecode's networks, trained from random weights by the loop that trains ours.

Lengths that their authors give in seconds, or in samples at their own sampling rate, are kept in seconds.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from eegm2.config import option, to_dict
from eegm2.errors import DataError
from eegm2.evaluation.baselines.declaration import Baseline
from eegm2.evaluation.baselines.library import braindecode_models
from eegm2.evaluation.baselines.options import BaselineScaling, Threshold
from eegm2.evaluation.baselines.windows import BaselineRunner, chunks, refuse_not_finite, rescaled
from eegm2.evaluation.config import FitConfig
from eegm2.evaluation.protocols.fitting import Task, fit
from eegm2.evaluation.protocols.frozen import predictions
from eegm2.evaluation.scores.outcome import Outcome
from eegm2.evaluation.windows.labelled import LabelledWindows, Split

CLASSES = {
    "eegnet": "EEGNet",
    "shallow_fbcsp": "ShallowFBCSPNet",
    "eegconformer": "EEGConformer",
    "biot": "BIOT",
}
EEGNET_POOLING = 32


@dataclass(frozen=True)
class NetworkOptions:
    """A network trained from random weights; each baseline has its own learning rate and scaling."""

    scaling: BaselineScaling = option(
        "none",
        "Scaling of the windows; train: mean and standard deviation of each channel over the training "
        "windows; the others act on each window alone.",
    )
    lr: float = option(1e-3, "Learning rate of AdamW.")
    weight_decay: float = option(0.0, "Weight decay of AdamW.")
    batch_size: int = option(64, "Windows per step.")
    max_epochs: int = option(100, "Most passes over the training windows.")
    patience: int = option(10, "Epochs without a better validation loss before stopping.")
    clip: float = option(1.0, "Largest gradient norm; 0 leaves gradients alone.")
    class_weights: Literal["balanced", "none"] = option(
        "balanced", "Weigh classes by their inverse frequency, or equally."
    )
    threshold: Threshold = option(
        "validation", "Two classes: threshold by balanced accuracy on validation data, or half."
    )
    device: str = option("cpu", "cpu, cuda or mps.")

    def __post_init__(self) -> None:
        self.fit()

    def fit(self) -> FitConfig:
        """Return the settings of the training loop, which checks them."""
        return FitConfig(
            lr=self.lr,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            max_epochs=self.max_epochs,
            patience=self.patience,
            clip=self.clip,
            class_weights=self.class_weights,
            threshold=self.threshold,
            device=self.device,
        )


def network_runner(name: str, sfreq_hz: float, options: NetworkOptions) -> BaselineRunner:
    """Return the runner; see `eegm2.evaluation.baselines.baseline_runner`."""
    models = braindecode_models()

    def prepare(data: LabelledWindows) -> LabelledWindows:
        scaling = "none" if options.scaling == "train" else options.scaling
        windows = rescaled(data, scaling).in_memory()
        if isinstance(windows.x, np.ndarray):
            refuse_not_finite(windows.x, data, 0, name)
        return windows

    def learn(windows: LabelledWindows, data: LabelledWindows, split: Split, seed: int) -> Outcome:
        _, n_chans, n_times = windows.batch(split.train[:1]).shape
        offset, gain = _standardisation(windows, split, options, name)
        task = Task(
            lambda i: (windows.batch(i) - offset) / gain, data.y, split.train, split.val, len(data.classes)
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = build_network(models, name, n_chans, n_times, task.n_outputs, sfreq_hz)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="A window was not provided")  # BIOT's spectra are so
            history = fit(network, task, options.fit(), seed)
            facts: dict[str, Any] = {
                "epochs": len(history.val_loss),
                "best_epoch": history.best_epoch,
                "train_loss": history.train_loss,
                "val_loss": history.val_loss,
                "n_parameters": sum(p.numel() for p in network.parameters()),
                "options": to_dict(options),
            }
            return predictions(name, seed, network, task, data, split, options.fit(), facts)

    return BaselineRunner(prepare, learn)


def build_network(
    models: Any, name: str, n_chans: int, n_times: int, n_outputs: int, sfreq_hz: float
) -> nn.Module:
    """Return a network with fresh weights, its kernels as long in seconds as its authors have them.

    Parameters
    ----------
    models : module
        ``braindecode.models``.
    name : str
        A key of `CLASSES`.
    n_chans, n_times, n_outputs : int
        Shape of the windows and number of outputs.
    sfreq_hz : float
        Sampling rate in Hz.

    Raises
    ------
    DataError
        If the windows are too short; the message has the shortest length.
    """
    shortest = shortest_window(name, sfreq_hz)
    if n_times < shortest:
        raise DataError(
            f"baseline {name}: got windows of {n_times} samples, needs at least {shortest} "
            f"({shortest / sfreq_hz:.3g} s at {sfreq_hz:g} Hz); use longer windows or leave it out"
        )
    shape: dict[str, Any] = {
        "n_chans": n_chans,
        "n_times": n_times,
        "n_outputs": n_outputs,
        "sfreq": sfreq_hz,
    }
    if name == "biot":
        # a second of spectrum (the window where it is shorter), half overlapping; the rate must be whole
        rate = round(sfreq_hz)
        shape |= {"sfreq": rate, "hop_length": rate // 2}
    doubled = name == "shallow_fbcsp" and n_chans == 1  # its spatial layer in braindecode fails at one
    shape["n_chans"] = 2 if doubled else n_chans
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = getattr(models, CLASSES[name])(**shape, **_lengths(name, sfreq_hz))
    return nn.Sequential(_Twice(), network) if doubled else network


class _Twice(nn.Module):
    """A single channel given twice: a spatial filter of both is one weight on it."""

    def forward(self, x: Tensor) -> Tensor:
        """Return (batch, 2, n_times) of (batch, 1, n_times)."""
        return x.expand(-1, 2, -1)


def shortest_window(name: str, sfreq_hz: float) -> int:
    """Return the fewest samples a window may have."""
    lengths = _lengths(name, sfreq_hz)
    if name in ("shallow_fbcsp", "eegconformer"):
        return lengths["filter_time_length"] + lengths["pool_time_length"] - 1
    return EEGNET_POOLING if name == "eegnet" else max(2, round(sfreq_hz) // 2)


def _lengths(name: str, sfreq_hz: float) -> dict[str, int]:
    """Return kernel lengths in samples: half a second for EEGNet; 25, 75 and 15 samples at 250 Hz."""
    if name == "eegnet":
        return {"kernel_length": max(2, round(sfreq_hz / 2))}
    if name in ("shallow_fbcsp", "eegconformer"):
        times = {"filter_time_length": 0.1, "pool_time_length": 0.3, "pool_time_stride": 0.06}
        return {key: max(1, round(seconds * sfreq_hz)) for key, seconds in times.items()}
    return {}


def _standardisation(
    windows: LabelledWindows, split: Split, options: NetworkOptions, name: str
) -> tuple[Tensor | float, Tensor | float]:
    """Return mean and standard deviation of each channel over the training windows, or 0 and 1."""
    if options.scaling != "train":
        return 0.0, 1.0
    total: NDArray[np.float64] | float = 0.0
    squares: NDArray[np.float64] | float = 0.0
    count = 0
    for x in chunks(windows.take(split.train), name):
        total = total + x.sum((0, 2))
        squares = squares + (x**2).sum((0, 2))
        count += x.shape[0] * x.shape[2]
    mean = np.asarray(total) / count
    spread = np.sqrt(np.maximum(np.asarray(squares) / count - mean**2, 0))
    spread[spread == 0] = 1.0  # a constant channel stays zero
    offset, gain = (torch.tensor(v, dtype=torch.float32)[None, :, None] for v in (mean, spread))
    return offset, gain


BASELINES = (
    Baseline(
        "eegnet",
        "EEGNet, a compact depthwise and separable convolutional network; windows in microvolts",
        network_runner,
        NetworkOptions,
        {"scaling": "none", "lr": 1e-3},
        requires=("braindecode",),
        reference="Lawhern et al. (2018), J. Neural Eng. 15:056013",
    ),
    Baseline(
        "shallow_fbcsp",
        "ShallowFBCSPNet, a shallow convolutional network that computes log band power; windows z-scored "
        "(for the authors' running standardisation)",
        network_runner,
        NetworkOptions,
        {"scaling": "zscore", "lr": 6.25e-4},
        requires=("braindecode",),
        reference="Schirrmeister et al. (2017), Hum. Brain Mapp. 38:5391-5420",
    ),
    Baseline(
        "eegconformer",
        "EEGConformer, convolutions and a transformer; standardised by the training windows",
        network_runner,
        NetworkOptions,
        {"scaling": "train", "lr": 2e-4},
        requires=("braindecode",),
        reference="Song et al. (2023), IEEE Trans. Neural Syst. Rehabil. Eng. 31:710-719",
    ),
    Baseline(
        "biot",
        "BIOT, a transformer over spectra of each channel, from random weights; windows by their 0.95 "
        "quantile",
        network_runner,
        NetworkOptions,
        {"scaling": "quantile95", "lr": 1e-3, "weight_decay": 1e-5},
        requires=("braindecode",),
        reference="Yang, Westover & Sun (2023), NeurIPS",
    ),
)
