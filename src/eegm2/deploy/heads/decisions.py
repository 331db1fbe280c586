"""What a head sees of a stream (features of a sliding window of the representation), and how it decides."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from eegm2.deploy.config import ENTER, LEAVE, ExportConfig, StreamConfig
from eegm2.deploy.device.decisions import SlidingWindows
from eegm2.errors import ConfigError
from eegm2.model.config import EEGM2Config
from eegm2.model.features import refuse_kind, window_features


class SlidingFeatures:
    """Features of the last `window_steps` steps of a representation, every `hop_steps` steps.

    Parameters
    ----------
    window_steps, hop_steps : int
        Steps of the representation, ``config.step_samples`` samples each.
    features : str
        See :func:`eegm2.model.features.window_features`.
    config : EEGM2Config, optional
        Of the network; needed for features that only the covariance embedding has.
    """

    def __init__(
        self,
        window_steps: int,
        hop_steps: int,
        features: str = "statistics",
        config: EEGM2Config | None = None,
    ) -> None:
        self.kind, self.config = features, config or EEGM2Config()
        refuse_kind(self.kind, self.config)
        self.windows = SlidingWindows(window_steps, hop_steps)

    def reset(self) -> None:
        """Forget the past."""
        self.windows.reset()

    def push(self, representation: Tensor) -> list[tuple[int, Tensor]]:
        """Take (batch, channels, steps); return (end step, features) of the windows now complete.

        Windows end at step window_steps, window_steps + hop_steps, …; features are (batch, n_features).
        """
        complete = self.windows.push(representation.detach().cpu().numpy())
        return [
            (
                start + window.shape[2],
                window_features(
                    torch.from_numpy(np.ascontiguousarray(window)), self.kind, self.config, start
                ),
            )
            for start, window in complete
        ]


def steps_of(name: str, seconds: float, sfreq_hz: float, step: int) -> int:
    """Return a duration in representation steps of `step` samples, refusing parts of steps."""
    samples = seconds * sfreq_hz
    if not samples >= step or abs(samples / step - round(samples / step)) > 1e-6:
        raise ConfigError(
            f"{name}: got {seconds} s ({samples:g} samples at {sfreq_hz:g} Hz), "
            f"expected a positive multiple of {step / sfreq_hz:g} s"
        )
    return round(samples / step)


def rule_of(facts: dict[str, Any], config: StreamConfig | ExportConfig) -> dict[str, float | None]:
    """Return the numbers of a head's :class:`DecisionRule`: the options where given, else the head's own."""
    own = {name: facts[name] for name in ("enter", "leave") if name in facts}
    asked = config.enter is not None or config.leave is not None
    enter = float(own.get("enter", ENTER)) if config.enter is None else config.enter
    leave = config.leave
    if leave is None:
        leave = float(own.get("leave", LEAVE))
        leave = min(leave, enter) if own else leave
    threshold = facts.get("threshold")
    return {
        "smooth": config.smooth,
        "enter": enter,
        "leave": leave,
        "threshold": None if threshold is None or asked or own else float(threshold),
    }
