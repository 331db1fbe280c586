"""scikit-learn's face of the family: a transformer, a classifier and a regressor of windows.

All three take arrays (n, n_chans, n_times) or MNE Epochs, scale every channel of every window as in training,
and can be cloned, searched and put into pipelines.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin, RegressorMixin, TransformerMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, column_or_1d

from eegm2.evaluation.config import Features
from eegm2.evaluation.estimators.base import Learner, OnWindows, integer_seed
from eegm2.model.features import feature_names, n_features


class EEGM2Encoder(TransformerMixin, OnWindows):
    """Features of the frozen representation, one row per window.

    Parameters
    ----------
    checkpoint : path, EEGM2, UNet or None
        Run folder, ``.safetensors`` file or network; None: fresh weights of `preset`, a baseline of its own.
    preset, width : str, int
        Shape of the fresh network.
    scaling : {"quantile95", "robust", "zscore", "none"}
        Of each channel of each window; that of the checkpoint's training. A network trained with scaling by
        recording wants windows divided by their recording's typical amplitude, and ``none``.
    features : str
        What is made of the representation, see :func:`eegm2.model.features.window_features`.
    batch_size : int
        Windows per forward pass.
    device : str
        Where to compute.
    random_state : int, RandomState or None
        Seeds fresh weights.
    ch_names : sequence of str, optional
        Channels of arrays, for networks that take any electrodes; Epochs know theirs.
    positions : path, optional
        File of electrode positions, see :func:`eegm2.data.electrodes.read_positions`.

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
        features: Features = "statistics",
        batch_size: int = 64,
        device: str = "cpu",
        random_state: Any = 0,
        ch_names: Any = None,
        positions: Any = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.preset = preset
        self.width = width
        self.scaling = scaling
        self.features = features
        self.batch_size = batch_size
        self.device = device
        self.random_state = random_state
        self.ch_names = ch_names
        self.positions = positions

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []  # float32, whatever comes in
        return tags

    def fit(self, X: Any, y: Any = None) -> Self:
        """Take the channel count from `X`, (n, n_chans, n_times) or Epochs, and load the network."""
        windows = self._windows(X, reset=True)
        self.network_ = self._network(windows.shape[1], integer_seed(self.random_state))
        return self

    def transform(self, X: Any) -> NDArray[np.float32]:
        """Return features, (n, n_features), of `X`, (n, n_chans, n_times) or Epochs."""
        check_is_fitted(self)
        windows = self._windows(X, reset=False)
        return self._frozen_features(windows)

    def get_feature_names_out(self, input_features: Any = None) -> NDArray[np.str_]:
        """Return the features' names, such as min_000; `input_features` is not used.

        With it ``set_output(transform="pandas")`` works.
        """
        check_is_fitted(self)
        config = self.network_.config
        return np.array(feature_names(n_features(self.features, config), self.features, config), dtype=object)


class EEGM2Classifier(ClassifierMixin, Learner):
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
        Of each channel of each window; that of the checkpoint's training. A network trained with scaling by
        recording wants windows divided by their recording's typical amplitude, and ``none``.
    features : str
        Of linear and light: what is made of the frozen representation, as for :class:`EEGM2Encoder`.
    head : {"statistics", "attention", "flatten"}
        Of fine and scratch; flatten is the paper's and tied to one length.
    C : float or "people"
        Inverse strength of the linear protocol's penalty, or chosen by leaving out the people that `groups`
        tells apart, see `eegm2.evaluation.protocols.people`.
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
    ch_names, positions
        As for :class:`EEGM2Encoder`.
    c
        Former name of `C`, until version 0.3.

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


class EEGM2Regressor(RegressorMixin, Learner):
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
