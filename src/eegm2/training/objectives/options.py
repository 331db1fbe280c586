"""The tasks of pretraining by name, and their options; no heavy import here."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eegm2.config import option
from eegm2.plugins import Registry, declared

Loss = Literal["l1+spectral", "l1", "mse+spectral"]
Spectrum = Literal["complex", "amplitude"]
Norm = Literal["backward", "ortho", "forward"]

#: Every task: what the modules beside this one have in ``OBJECTIVES``.
OBJECTIVES = Registry(
    "objective",
    "eegm2.training.objectives.base:Objective",
    functools.cache(lambda: declared("eegm2.training.objectives", Path(__file__).parent, "OBJECTIVES")),
    methods=("forward",),
)
#: Windows of a recording in a batch, where the task compares them and nothing else is said.
TOGETHER = 8


@dataclass(frozen=True)
class ObjectiveOptions:
    """What is minimised."""

    objective: str = option(
        "reconstruction",
        "Task: reconstruct (the paper's), reconstruct what was hidden (masked), or what was covered by noise "
        "(denoising); or predict the oscillations of what was hidden (oscillatory).",
        parts=OBJECTIVES,
    )
    objective_options: dict[str, Any] = option(
        {}, "An option of an objective of one's own, name=value; repeat for more.", later=True
    )
    loss: Loss = option(
        "l1+spectral", "Eq. 1 of the paper; l1 alone (S2); squares in place of absolute values."
    )
    spectrum: Spectrum = option(
        "complex", "Spectral term: complex spectra (the paper's formula) or amplitudes (its text)."
    )
    norm: Norm = option(
        "backward", "Transform's normalisation: none (the paper's), ortho (1/√n_times), forward (1/n_times)."
    )
    alpha: float = option(1.0, "Weight of the time term.")
    beta: float = option(1.0, "Weight of the spectral term.")
    mask_patch_s: float = option(0.25, "Masked: length of a hidden stretch of time in seconds.")
    mask_time: float = option(0.5, "Masked: share of the time hidden in all channels.")
    mask_channels: float = option(0.0, "Masked: share of the channels hidden throughout.")
    mask_loss: Literal["hidden", "all"] = option("hidden", "Masked: where the loss is taken.")
    noise: float = option(0.5, "Denoising: white noise, in standard deviations of each channel.")
    pops: float = option(0.1, "Denoising: probability of an electrode pop per channel and window.")


@dataclass(frozen=True)
class OscillatoryOptions:
    """Oscillatory: what is hidden, and what is predicted of it; a weight of 0 leaves a target out."""

    patch_s: float = option(0.5, "Oscillatory: length of the patches that are predicted, in seconds.")
    hide_time: float = option(0.5, "Oscillatory: share of the patches hidden, in chunks.")
    hide_chunks: int = option(2, "Oscillatory: chunks in which time is hidden.")
    hide_radius: float = option(
        0.5, "Oscillatory: electrodes nearer than this to a random one are hidden, in radii of the head."
    )
    band_power: float = option(
        1.0, "Oscillatory: weight of log band power less its 1/f line, of every patch."
    )
    tangent: float = option(
        1.0, "Oscillatory: weight of the tangent vector of the covariances, of every patch."
    )
    latent: float = option(1.0, "Oscillatory: weight of the states of a teacher that averages the network.")
    neighbours: float = option(
        0.0,
        "Oscillatory: weight of the tangent vectors of the windows around, less their recording's mean, "
        "predicted from the pooled state.",
    )
    neighbours_s: float = option(
        12.0, "Oscillatory: how far around a window its neighbours may start, in seconds."
    )
    pooled: float = option(
        1.0, "Oscillatory: weight of a second head that predicts the same from the pooled state alone."
    )
    centre_targets: Literal["recording", "window", "none"] = option(
        "recording", "Oscillatory: mean that tangent vectors are less of."
    )
    variance: float = option(1.0, "Oscillatory: weight of VICReg's variance term on the pooled state.")
    covariance: float = option(0.04, "Oscillatory: weight of VICReg's covariance term on it.")
    contrast: float = option(
        0.0, "Oscillatory: weight of telling a window from others of its recording by the pooled state."
    )
    contrast_temperature: float = option(0.1, "Oscillatory: temperature of the contrast.")
    teacher_decay: float = option(0.99, "Oscillatory: decay of the teacher's average at the beginning.")
    teacher_decay_end: float = option(0.9995, "Oscillatory: decay of the teacher's average at the end.")
    windows_per_recording: int = option(
        0,
        "Windows of one recording that a batch takes together; 0: as many as the objective needs "
        "(oscillatory: 8, others: 1).",
    )


@dataclass(frozen=True)
class AugmentOptions:
    """How windows are changed before the network sees them; targets are of the window as it is."""

    channel_subsets: float = option(
        0.0, "Share of the windows seen through a random subset of four to all channels."
    )
    channel_dropout: float = option(0.0, "Probability that a channel is left out; four at least stay.")
    gain_db: float = option(0.0, "Standard deviation of a random gain of each channel, in dB.")
    sign: float = option(0.0, "Share of the windows turned upside down.")
    rereference: float = option(0.0, "Share of the windows referenced to a random channel or to the average.")
    aperiodic_noise: float = option(
        0.0, "Highest amount of added 1/f noise, in standard deviations of each channel."
    )
