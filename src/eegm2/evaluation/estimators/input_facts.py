"""What a model knows of its input, and MNE Epochs brought into that form."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eegm2.data.channels import canonical
from eegm2.errors import ConfigError

_RATE_TOLERANCE = 1e-3


class PreprocessingWarning(UserWarning):
    """Epochs that may have been filtered otherwise than what a network was trained on."""


@dataclass(frozen=True)
class InputFacts:
    """Channels, rate and preparation of what a model was trained on, as far as they are known.

    Attributes
    ----------
    ch_names : tuple of str
        In order; empty if unknown.
    sfreq_hz : float
        0 if unknown.
    band_hz : tuple of float
        Edges of the pass band; 0 for one that was left out or is not known.
    scaling : str
        Of windows; empty if unknown.
    whose : str
        Who knows, for messages.
    """

    ch_names: tuple[str, ...] = ()
    sfreq_hz: float = 0.0
    band_hz: tuple[float, float] = (0.0, 0.0)
    scaling: str = ""
    whose: str = ""

    @classmethod
    def of_header(cls, header: Mapping[str, Any], whose: str = "the checkpoint") -> InputFacts:
        """Return what a checkpoint's header says; nothing of fresh weights."""
        prepared, windows = header.get("preprocessing") or {}, header.get("windows") or {}
        return cls(
            tuple(map(str, header.get("ch_names") or ())),
            float(header.get("sfreq_hz") or 0.0),
            (float(prepared.get("l_freq_hz") or 0.0), float(prepared.get("h_freq_hz") or 0.0)),
            str(windows.get("scaling") or ""),
            whose,
        )

    def refuse_scaling(self, scaling: str) -> None:
        """Refuse another scaling than that of training; arrays scaled by recording come scaled, with none."""
        if self.scaling == "recording" and scaling == "none":
            return
        if self.scaling and self.scaling != scaling:
            raise ConfigError(
                f"scaling: got '{scaling}', {self.whose} was trained with '{self.scaling}'; give that"
            )

    def refuse_rate(self, sfreq_hz: float) -> None:
        """Refuse another sampling rate."""
        if self.sfreq_hz and abs(sfreq_hz - self.sfreq_hz) > _RATE_TOLERANCE:
            raise ConfigError(
                f"X: sampled at {sfreq_hz:g} Hz, {self.whose} has {self.sfreq_hz:g} Hz; "
                f"resample, e.g. epochs.resample({self.sfreq_hz:g})"
            )

    def order(self, ch_names: Sequence[str]) -> list[int] | None:
        """Return where the model's channels stand among others; None where nothing is known of either.

        Raises
        ------
        ConfigError
            If they are not the same channels; both lists are shown.
        """
        if not self.ch_names or not ch_names:
            return None
        here, wanted = [canonical(name) for name in ch_names], [canonical(name) for name in self.ch_names]
        if sorted(here) != sorted(wanted) or len(set(here)) != len(here):
            if list(ch_names) == list(self.ch_names):
                return None
            raise ConfigError(
                f"X: has channels {' '.join(ch_names)}, {self.whose} has {' '.join(self.ch_names)}; "
                "pick these (epochs.pick), rename them, or use eegm2.adapt_channels for others"
            )
        return [here.index(name) for name in wanted]

    def warn_of_filters(self, info: Any) -> None:
        """Warn where Epochs hold frequencies that were filtered out in training."""
        low, high = self.band_hz
        found_low, found_high = float(info["highpass"] or 0.0), float(info["lowpass"] or np.inf)
        edge = min(found_high, self.sfreq_hz / 2)
        if (low and found_low < 0.5 * low) or (high and edge > 1.25 * high):
            warnings.warn(
                f"Epochs are said to hold {found_low:g} to {edge:g} Hz, {self.whose} was trained on "
                f"{low:g} to {high:g} Hz; filter them alike, e.g. raw.filter({low:g}, {high:g})",
                PreprocessingWarning,
                stacklevel=5,
            )


def is_epochs(X: Any) -> bool:
    """Return whether something is MNE Epochs, or a list of them as cross-validation cuts it."""
    if isinstance(X, list | tuple):
        return bool(X) and all(is_epochs(part) for part in X)
    return hasattr(X, "get_data") and hasattr(X, "info")


def epochs_to_array(X: Any, facts: InputFacts) -> tuple[NDArray[np.floating], InputFacts]:
    """Return the EEG of Epochs in microvolts with its channels in the model's order, and what they are.

    Parameters
    ----------
    X : mne.BaseEpochs, or list of them
    facts : InputFacts
        What is known of the model's input.

    Returns
    -------
    x_uv : ndarray, shape (n, n_chans, n_times)
    facts : InputFacts
        Of these Epochs, channels in the order of `x_uv`.

    Raises
    ------
    ConfigError
        If channels or rate are others than the model's, or where it knows none, than the first Epochs'.
    """
    if isinstance(X, list | tuple):
        x_uv, found = epochs_to_array(X[0], facts)
        known = replace(
            facts,
            ch_names=facts.ch_names or found.ch_names,
            sfreq_hz=facts.sfreq_hz or found.sfreq_hz,
            whose=facts.whose if facts.sfreq_hz else "the first of the Epochs",
        )
        return np.concatenate([x_uv, *(epochs_to_array(part, known)[0] for part in X[1:])]), found
    types = X.get_channel_types()
    names = tuple(name for name, kind in zip(X.ch_names, types) if kind == "eeg")
    rate_hz = float(X.info["sfreq"])
    facts.refuse_rate(rate_hz)
    order = facts.order(names)
    x_uv = X.get_data(picks=list(names), copy=False) * 1e6
    if order is not None:
        x_uv, names = x_uv[:, order], tuple(names[i] for i in order)
    facts.warn_of_filters(X.info)
    bads = [name for name in X.info["bads"] if name in names]
    if bads:
        warnings.warn(
            f"Epochs have channels marked as bad: {' '.join(bads)}; they are used (epochs.interpolate_bads)",
            PreprocessingWarning,
            stacklevel=4,
        )
    return x_uv, InputFacts(names, rate_hz, whose="the training Epochs")
