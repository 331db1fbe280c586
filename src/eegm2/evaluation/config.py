"""Declared choices of probes and protocols (no heavy import here)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from eegm2.config import ABOVE_0, AT_LEAST_1, BELOW_1, SECONDS, expect, option
from eegm2.data.config import POSITIONS_HELP, Scaling
from eegm2.errors import ConfigError
from eegm2.plugins import Registry, lazily
from eegm2.records import Kind

Centre = Literal["none", "recording", "running"]
CENTRE_HELP = (
    "recording: take each recording's mean off its features; no labels needed, but the recording's windows "
    "beforehand, and classes that alternate within recordings; running: the mean up to each window, as a "
    "stream has it, known after 15 windows."
)
Features = Literal[
    "statistics",
    "covariance",
    "tangent",
    "log_variance",
    "state",
    "tangent_state",
    "tangent_spread",
    "tangent_spread_state",
]
FEATURES_HELP = (
    "statistics: the paper's nine time statistics; covariance: the logarithm of the covariance between the "
    "representation's channels; preset covariance also has tangent (mean tangent vector), log_variance (its "
    "diagonal), state (mean output of the trunk), and side by side tangent_state, tangent_spread (with its "
    "standard deviation over time) and tangent_spread_state."
)
AUTO_HELP = "auto: tangent_state for preset covariance, statistics for others; "
C_HELP = (
    "linear: inverse strength of the L2 penalty; or people: chosen by leaving people out in turn among those "
    "who train and validate, as is how far each kind of feature is trusted; or validation: chosen on "
    "validation people alone"
)
BEGIN_HELP = (
    "Head statistics of preset covariance: begin with random weights, or with the linear probe of the frozen "
    "features (c = people), which stays where training does not lower the validation loss."
)
PROTOCOLS = ("linear", "light", "fine", "scratch")
BASELINE_REGISTRY = Registry(
    "baseline",
    "eegm2.evaluation.baselines.declaration:Baseline",
    lazily("eegm2.evaluation.baselines.registry:BASELINES"),
    instances=True,
)
#: Metrics of classes and of values; of all but ``mae`` more is better.
CLASSIFICATION = ("accuracy", "balanced_accuracy", "auroc", "auprc", "weighted_f1", "kappa")
REGRESSION = ("r2", "mae", "pearson_r")


def refuse_centred(centre: Centre, head: str) -> None:
    """Raise a ConfigError where a head has no features of a window from which a mean could be taken."""
    if centre != "none" and head == "flatten":
        raise ConfigError(
            f"centre: got '{centre}' with head 'flatten', which reads a reconstruction sample by sample and "
            "has no features to centre; use head 'statistics' or 'attention'"
        )


def check_c(c: float | str) -> None:
    """Refuse an inverse penalty that is neither above 0 nor a word of :data:`C_HELP`."""
    if c not in ("validation", "people") and (isinstance(c, str) or not c > 0):
        raise ConfigError(f"c: got {c!r}, expected above 0, 'people' or 'validation'")


@dataclass(frozen=True)
class ProbeConfig:
    """How a pretrained run is probed."""

    protocols: tuple[str, ...] = option(
        ("linear", "light"), "Protocols: linear, light (frozen encoder), fine, scratch."
    )
    seeds: int = option(3, "Seeds per protocol: 0, 1, …; a protocol without chance in it runs once.")
    target: str = option("", "annotations, or a participant attribute such as group; empty: as pretrained.")
    regression: bool = option(False, "Take the target as a number (e.g. --target age) instead of classes.")
    unit: str = option("", "--regression: unit of the target, said with what is predicted.", later=True)
    classes: tuple[str, ...] = option(
        (), "Labels to keep, in this order, e.g. eyes_open,eyes_closed; none: all found."
    )
    window_s: float | None = option(None, "Window length in seconds; none given: as pretrained.")
    stride_s: float | None = option(None, "Step between windows in seconds; none given: the window's length.")
    label_rule: Literal["whole", "majority", "centre"] = option(
        "whole",
        "whole: one label covers the window; majority: more than half; centre: one window per labelled span.",
    )
    exclude_s: tuple[str, ...] = option(
        (),
        "Stretches of every recording to leave out, start:stop in seconds, e.g. 170:195; none "
        "given: as pretrained.",
    )
    reject_uv: float = option(
        0.0, "Leave out windows in which a sample exceeds this many microvolts either way; 0 keeps all."
    )
    by: Literal["subject", "recording"] = option(
        "subject",
        "What is never divided between splits; recording is for data of one person and is stated "
        "in the results.",
    )
    split_seed: int = option(0, "Seed of the split, where the run's own split does not apply.")
    val: float = option(0.15, "Share of subjects for validation, where the run's own split does not apply.")
    test: float = option(0.15, "Share of subjects for the test, where the run's own split does not apply.")
    threshold: Literal["validation", "half"] = option(
        "validation",
        "Two classes: decision threshold by balanced accuracy on validation data, or half (the "
        "larger score).",
    )
    features: Literal["auto", Features] = option("auto", "linear, light: " + AUTO_HELP + FEATURES_HELP)
    c: str = option(
        "",
        C_HELP + "; none given: 1 for statistics, people for all other features.",
    )
    centre: Centre = option("none", "linear, light: " + CENTRE_HELP)
    scaling: Scaling | None = option(None, "Scaling of the windows; none given: as pretrained.")
    positions: str = option("", POSITIONS_HELP)
    which: Literal["best", "last"] = option("best", "Checkpoint of the run.")
    allow_mismatch: bool = option(
        False, "Go on although the store's preprocessing differs from the checkpoint's."
    )
    batch_size: int = option(64, "Windows per forward pass while features are extracted.")
    device: str = option("cpu", "cpu, cuda or mps.")

    def __post_init__(self) -> None:
        unknown = [name for name in self.protocols if name not in PROTOCOLS]
        if unknown or not self.protocols:
            raise ConfigError(
                f"protocols: got {', '.join(unknown) or 'none'}, expected some of {', '.join(PROTOCOLS)}"
            )
        self.penalty()
        whole = [name for name in self.protocols if name in ("fine", "scratch")]
        if self.centre != "none" and whole:
            raise ConfigError(
                f"centre: got '{self.centre}' with protocol {whole[0]}, which a probe gives the paper's "
                "head, and that has no features to centre; use eegm2 finetune --centre"
            )
        expect(self, AT_LEAST_1, "seeds", "batch_size")
        if len(self.classes) == 1:
            raise ConfigError(
                f"classes: got only {self.classes[0]}; a probe needs at least two, e.g. --classes a,b"
            )

    def penalty(self) -> float | str:
        """Return C of the linear protocol, or how it is chosen.

        Raises
        ------
        ConfigError
            If it is neither a number above 0 nor such a word.
        """
        if not self.c:
            return 1.0 if self.features in ("auto", "statistics") else "people"
        try:
            c: float | str = float(self.c)
        except ValueError:
            c = self.c
        check_c(c)
        return c

    def light(self) -> FitConfig:
        """Return how the Light perceptron is fitted (the paper gives its layers and AdamW only)."""
        return FitConfig(lr=1e-3, max_epochs=100, patience=10, threshold=self.threshold, device=self.device)

    def fine(self) -> FitConfig:
        """Return how whole networks are fitted: the paper's values."""
        return FitConfig(threshold=self.threshold, device=self.device)


@dataclass(frozen=True)
class FitConfig:
    """How a network (a Light perceptron, or a whole EEGM2) learns a downstream task."""

    lr: float = option(1e-4, "Learning rate of AdamW.")
    weight_decay: float = option(1e-2, "Weight decay of AdamW; A_log, D and dt_bias take none.")
    decayed: Literal["all", "matrices"] = option(
        "matrices", "What it acts on: all other weights, or matrices alone (not norms and biases)."
    )
    batch_size: int = option(64, "Windows per step.")
    max_epochs: int = option(30, "Most passes over the training windows.")
    patience: int = option(5, "Epochs without a better validation loss before stopping.")
    clip: float = option(1.0, "Largest gradient norm; 0 leaves gradients alone.")
    class_weights: Literal["balanced", "none"] = option(
        "balanced", "Weigh classes by their inverse frequency, or equally."
    )
    head: Literal["flatten", "statistics", "attention"] = option(
        "flatten", "flatten: the paper's Fine head, tied to one length; the others take any."
    )
    begin: Literal["random", "probe"] = option("random", BEGIN_HELP)
    head_dropout: float = option(0.0, "Dropout of the head.")
    layer_decay: float = option(1.0, "Learning rate factor per level away from the head; 1 is off.")
    freeze: tuple[str, ...] = option(
        (), "Parameters to keep, as patterns on their names, e.g. network.encoder.*"
    )
    threshold: Literal["validation", "half"] = option(
        "validation", "Two classes: threshold by balanced accuracy on validation data, or half."
    )
    device: str = option("cpu", "cpu, cuda or mps.")

    def __post_init__(self) -> None:
        expect(self, ABOVE_0, "lr")
        expect(self, Kind("a factor above 0, at most 1", lambda value: 0 < value <= 1), "layer_decay")
        expect(self, AT_LEAST_1, "batch_size", "max_epochs", "patience")


@dataclass(frozen=True)
class ReconstructConfig:
    """How a whole recording is put through a network."""

    mode: Literal["windows", "whole"] = option(
        "windows",
        "windows: scaled and reconstructed as in pretraining, overlapped and added; whole: one "
        "pass over all.",
    )
    overlap: float = option(
        0.5, "Share of a window that it shares with the next one; 0 puts windows side by side."
    )
    window_s: float | None = option(None, "Window length in seconds; none given: as pretrained.")
    which: Literal["best", "last"] = option("best", "Checkpoint of the run.")
    batch_size: int = option(16, "Windows per forward pass.")
    device: str = option("cpu", "cpu, cuda or mps.")

    def __post_init__(self) -> None:
        expect(self, BELOW_1, "overlap")
        expect(self, SECONDS, "window_s")


@dataclass(frozen=True)
class EmbedConfig:
    """What is written of the representation."""

    kind: Literal["auto", Features, "sequence"] = option(
        "auto", AUTO_HELP + FEATURES_HELP[:-1] + "; sequence: the representation step by step."
    )
    format: Literal["", "npz", "csv", "parquet"] = option(
        "", "Kind of file to write; none given: by the ending of --out."
    )
    window_s: float | None = option(None, "Window length in seconds; none given: as pretrained.")
    stride_s: float | None = option(None, "Step between windows in seconds; none given: the window's length.")
    scaling: Scaling | None = option(None, "Scaling of the windows; none given: as pretrained.")
    centre: Centre = option("none", CENTRE_HELP)
    positions: str = option("", POSITIONS_HELP)
    which: Literal["best", "last"] = option("best", "Checkpoint of the run.")
    allow_mismatch: bool = option(
        False, "Go on although the store's preprocessing differs from the checkpoint's."
    )
    batch_size: int = option(64, "Windows per forward pass.")
    device: str = option("cpu", "cpu, cuda or mps.")
