"""scikit-learn's face of the family: a transformer, a classifier and a regressor of windows.

All three take arrays (n, n_chans, n_times) or MNE Epochs, scale every channel of every window as in training,
and can be cloned, searched and put into pipelines.
"""

from __future__ import annotations

import copy
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from eegm2.data.scaling import scale_window
from eegm2.errors import ConfigError
from eegm2.evaluation.config import PROTOCOLS, FitConfig
from eegm2.evaluation.fitting import Task, fit, outputs
from eegm2.evaluation.probes import linear_model
from eegm2.evaluation.protocols import freeze, layer_groups
from eegm2.evaluation.representation import extract_features
from eegm2.model.config import EEGM2Config
from eegm2.model.heads import Downstream, light_head
from eegm2.model.network import EEGM2, build_model
from eegm2.model.unet import UNet


class _OnWindows(BaseEstimator):
    """What the three estimators share: reading windows, and the network they start from."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.non_deterministic = False
        return tags

    def _windows(self, X: Any, y: Any = "no_validation", *, reset: bool) -> Any:
        """Return scaled float32 windows (and y), checked by scikit-learn's rules."""
        if hasattr(X, "get_data") and hasattr(X, "info"):
            X = X.get_data(picks="eeg", copy=False) * 1e6
        checks = {"dtype": [np.float64, np.float32], "allow_nd": True, "ensure_2d": False, "reset": reset}
        if isinstance(y, str):
            X = validate_data(self, X, **checks)
        else:
            X, y = validate_data(self, X, y, multi_output=True, **checks)
        if X.ndim < 2:
            raise ValueError(
                f"X: got shape {X.shape}, expected (n, n_chans, n_times); Reshape your data, or pass MNE "
                "Epochs"
            )
        if reset:
            self.n_features_in_ = X.shape[1]
        elif X.shape[1] != self.n_features_in_:
            raise ValueError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting {self.n_features_in_} "
                "features as input (features are EEG channels)"
            )
        X = self._shaped(X)
        if X.ndim != 3:
            raise ValueError(
                f"X: got shape {X.shape}, expected (n, n_chans, n_times); Reshape your data, or pass MNE "
                "Epochs"
            )
        scaled = scale_window(np.ascontiguousarray(X, dtype=np.float32), self.scaling)
        return scaled if isinstance(y, str) else (scaled, y)

    def _shaped(self, X: NDArray[np.floating]) -> NDArray[np.floating]:
        """Return X as (n, n_chans, n_times); a place for subclasses that take other shapes."""
        return X

    def _network(self, n_chans: int, seed: int) -> EEGM2 | UNet:
        """Return a copy of the checkpoint's network, or a fresh one of the preset where there is none."""
        if self.checkpoint is None:
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                return build_model(EEGM2Config.preset(self.preset, n_chans=n_chans, width=self.width)).eval()
        network = self.checkpoint
        if not isinstance(network, EEGM2 | UNet):
            from eegm2.training.checkpoint import load_checkpoint

            network = load_checkpoint(network).model
        if network.config.n_chans != n_chans:
            raise ConfigError(
                f"checkpoint: has {network.config.n_chans} channels, X has {n_chans}; "
                "use eegm2.adapt_channels(model, n_chans), or pick the checkpoint's channels"
            )
        return copy.deepcopy(network)


class EEGM2Encoder(TransformerMixin, _OnWindows):
    """Nine time statistics of the frozen representation, one row per window.

    Parameters
    ----------
    checkpoint : path, EEGM2, UNet or None
        Run folder, ``.safetensors`` file or network; None: fresh weights of `preset`, a baseline of its own.
    preset, width : str, int
        Shape of the fresh network.
    scaling : {"quantile95", "robust", "zscore", "none"}
        Of each channel of each window; that of the checkpoint's training.
    batch_size : int
        Windows per forward pass.
    device : str
        Where to compute.
    random_state : int, RandomState or None
        Seeds fresh weights.

    Attributes
    ----------
    network_ : EEGM2 or UNet
        The encoder.
    n_features_in_ : int
        EEG channels.

    References
    ----------
    EEGM2, arXiv 2502.17873, section 4.3.
    """

    def __init__(
        self,
        checkpoint: Any = None,
        *,
        preset: str = "eegm2",
        width: int = 16,
        scaling: str = "quantile95",
        batch_size: int = 64,
        device: str = "cpu",
        random_state: Any = 0,
    ) -> None:
        self.checkpoint = checkpoint
        self.preset = preset
        self.width = width
        self.scaling = scaling
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # float32, whatever comes in
        return tags

    def fit(self, X: Any, y: Any = None) -> Self:
        """Take the channel count from `X`, (n, n_chans, n_times) or Epochs, and load the network."""
        windows = self._windows(X, reset=True)
        self.network_ = self._network(windows.shape[1], _seed(self.random_state))
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Return features, (n, 9 * 4w), of `X`, (n, n_chans, n_times) or Epochs."""
        check_is_fitted(self)
        windows = self._windows(X, reset=False)
        return extract_features(self.network_, windows, batch_size=self.batch_size, device=self.device)


class _Learner(_OnWindows):
    """The four protocols with a validation part taken from the training windows."""

    def __init__(
        self,
        checkpoint: Any = None,
        *,
        protocol: str = "light",
        preset: str = "eegm2",
        width: int = 16,
        scaling: str = "quantile95",
        head: str = "statistics",
        c: float = 1.0,
        lr: float | None = None,
        max_epochs: int | None = None,
        patience: int = 10,
        batch_size: int = 64,
        layer_decay: float = 1.0,
        freeze: Any = (),
        validation: float = 0.2,
        device: str = "cpu",
        random_state: Any = 0,
    ) -> None:
        self.checkpoint = checkpoint
        self.protocol = protocol
        self.preset = preset
        self.width = width
        self.scaling = scaling
        self.head = head
        self.c = c
        self.lr = lr
        self.max_epochs = max_epochs
        self.patience = patience
        self.batch_size = batch_size
        self.layer_decay = layer_decay
        self.freeze = freeze
        self.validation = validation
        self.device = device
        self.random_state = random_state

    def _config(self) -> FitConfig:
        frozen = self.protocol == "light"
        return FitConfig(
            lr=self.lr or (1e-3 if frozen else 1e-4),
            max_epochs=self.max_epochs or (100 if frozen else 30),
            patience=self.patience,
            batch_size=self.batch_size,
            head=self.head,  # type: ignore[arg-type]
            layer_decay=self.layer_decay,
            freeze=tuple(self.freeze),
            device=self.device,
        )

    def _learn(self, windows: NDArray[np.float32], y: NDArray, n_classes: int, groups: Any) -> Self:
        """Fit the protocol on scaled windows and encoded targets."""
        if self.protocol not in PROTOCOLS:
            raise ConfigError(f"protocol: got '{self.protocol}', expected one of {', '.join(PROTOCOLS)}")
        seed = _seed(self.random_state)
        self.network_ = self._network(windows.shape[1], seed)
        if self.protocol == "linear":
            self.model_ = linear_model(not n_classes, self.c).fit(self._features(windows), y)
            return self
        train, val = self._validation_part(y, n_classes, groups, seed)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self._learn_by_gradient(windows, y, n_classes, train, val, seed)
        return self

    def _learn_by_gradient(
        self,
        windows: NDArray[np.float32],
        y: NDArray,
        n_classes: int,
        train: NDArray,
        val: NDArray,
        seed: int,
    ) -> None:
        config = self._config()
        if self.protocol == "light":
            features = self._features(windows)
            self.centre_, spread = features[train].mean(0), features[train].std(0)
            self.spread_ = np.where(spread > 0, spread, 1.0)
            inputs = torch.from_numpy(((features - self.centre_) / self.spread_).astype(np.float32))
            self.model_ = light_head(inputs.shape[1], n_classes or 1)
        else:
            inputs = torch.from_numpy(windows)
            if self.protocol == "scratch":
                self.network_ = build_model(self.network_.config)
            self.model_ = Downstream(self.network_, n_classes or 1, windows.shape[2], config.head)
            freeze(self.model_, config.freeze)
        task = Task(lambda i: inputs[torch.from_numpy(np.asarray(i))], y, train, val, n_classes)
        self.history_ = fit(self.model_, task, config, seed, layer_groups(self.model_, config))
        self.target_scale_ = (0.0, 1.0) if n_classes else task.target_scale()

    def _outputs(self, X: Any) -> NDArray[np.float64]:
        """Return logits or standardised values, (n, n_outputs); not for the linear protocol."""
        windows = self._windows(X, reset=False)
        inputs = torch.from_numpy(windows)
        if self.protocol == "light":
            scaled = (self._features(windows) - self.centre_) / self.spread_
            inputs = torch.from_numpy(scaled.astype(np.float32))
        every = np.arange(len(windows))
        task = Task(lambda i: inputs[torch.from_numpy(i)], every, every, every, 0)
        return outputs(self.model_, task, every, self._config()).double().cpu().numpy()

    def _features(self, windows: NDArray[np.float32]) -> NDArray[np.floating]:
        made = extract_features(self.network_, windows, batch_size=self.batch_size, device=self.device)
        return made.astype(np.float64)

    def _validation_part(
        self, y: NDArray, n_classes: int, groups: Any, seed: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return training and validation indices, by group if given; the same if there is too little."""
        every = np.arange(len(y))
        if groups is not None:
            splitter: Any = GroupShuffleSplit(1, test_size=self.validation, random_state=seed)
        elif n_classes:
            splitter = StratifiedShuffleSplit(1, test_size=self.validation, random_state=seed)
        else:
            splitter = ShuffleSplit(1, test_size=self.validation, random_state=seed)
        try:
            train, val = next(splitter.split(every, y, groups))
        except ValueError:
            return every, every
        if n_classes and len(np.unique(y[train])) < n_classes:
            return every, every
        return train, val


class EEGM2Classifier(ClassifierMixin, _Learner):
    """One of the paper's four protocols as a scikit-learn classifier of windows.

    Parameters
    ----------
    checkpoint : path, EEGM2, UNet or None
        Run folder, ``.safetensors`` file or network; None: fresh weights of `preset`.
    protocol : {"linear", "light", "fine", "scratch"}
        What is learnt.
    preset, width : str, int
        Shape of a fresh network.
    scaling : {"quantile95", "robust", "zscore", "none"}
        Of each channel of each window; that of the checkpoint's training.
    head : {"statistics", "attention", "flatten"}
        Of fine and scratch; flatten is the paper's and tied to one length.
    c : float
        Inverse strength of the linear protocol's penalty.
    lr, max_epochs : float, int, optional
        The paper's by default: 1e-4 (fine, scratch) or 1e-3 (light).
    patience, batch_size, layer_decay, freeze
        See :class:`FitConfig`.
    validation : float
        Share of the training windows (of the groups, where given) for early stopping.
    device : str
        Where to compute.
    random_state : int, RandomState or None
        Seeds weights, order, dropout and the validation part.

    Attributes
    ----------
    classes_ : array
        Labels in the order of :meth:`predict_proba`.
    network_, model_
        The encoder, and what was learnt.
    """

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Learn from windows (n, n_chans, n_times) or Epochs; `groups` are subjects, for early stopping."""
        windows, y = self._windows(X, y, reset=True)
        check_classification_targets(y)
        y = column_or_1d(y, warn=True)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"y: got one class ({self.classes_[0]!r}); a classifier needs two or more classes"
            )
        return self._learn(windows, codes.astype(np.int64), len(self.classes_), groups)

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return class probabilities, (n, n_classes), in the order of ``classes_``."""
        check_is_fitted(self)
        if self.protocol == "linear":
            return self.model_.predict_proba(self._features(self._windows(X, reset=False)))
        logits = self._outputs(X)
        odds = np.exp(logits - logits.max(1, keepdims=True))
        return odds / odds.sum(1, keepdims=True)

    def predict(self, X: Any) -> NDArray:
        """Return the likeliest label of every window, (n,)."""
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(1)]


class EEGM2Regressor(RegressorMixin, _Learner):
    """One of the four protocols as a scikit-learn regressor; parameters as :class:`EEGM2Classifier`."""

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Learn values (n,) of windows (n, n_chans, n_times) or Epochs; `groups` as for the classifier."""
        windows, y = self._windows(X, y, reset=True)
        y = column_or_1d(y, warn=True).astype(float)
        return self._learn(windows, y, 0, groups)

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Return the value of every window, (n,)."""
        check_is_fitted(self)
        if self.protocol == "linear":
            return self.model_.predict(self._features(self._windows(X, reset=False)))
        mean, scale = self.target_scale_
        return self._outputs(X)[:, 0] * scale + mean


def _seed(random_state: Any) -> int:
    """Return an integer seed; an integer is taken as it is."""
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31))
