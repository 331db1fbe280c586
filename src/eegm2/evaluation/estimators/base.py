"""What the scikit-learn estimators share: checked windows, their network, learning by a protocol."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.model_selection import GroupShuffleSplit, ShuffleSplit, StratifiedShuffleSplit
from sklearn.utils import check_random_state
from sklearn.utils.validation import validate_data

from eegm2.data.electrodes import on_montage
from eegm2.data.windows.scaling import scale_window
from eegm2.errors import ConfigError
from eegm2.evaluation.config import PROTOCOLS, Features, FitConfig
from eegm2.evaluation.estimators.input_facts import InputFacts, epochs_to_array, is_epochs
from eegm2.evaluation.features.representation import extract_features
from eegm2.evaluation.protocols.fitting import Task, fit, outputs
from eegm2.evaluation.protocols.frozen import linear_model
from eegm2.evaluation.protocols.layers import freeze, layer_groups
from eegm2.evaluation.protocols.people import fit_by_people, variances
from eegm2.model.config import EEGM2Config
from eegm2.model.features import feature_views, refuse_kind
from eegm2.model.heads import Downstream, light_head
from eegm2.model.network import EEGM2, build_model, fresh_copy
from eegm2.model.unet import UNet


class OnWindows(BaseEstimator):
    """What the three estimators share: reading windows, and the network they start from."""

    input_facts_: InputFacts

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        tags.non_deterministic = False
        return tags

    def _windows(self, X: Any, y: Any = "no_validation", *, reset: bool) -> Any:
        """Return scaled float32 windows (and y), checked by scikit-learn's rules.

        Epochs are brought into the order of the checkpoint's channels, or of those that were fitted.
        """
        facts: InputFacts = self._checkpoint_facts() if reset else self.input_facts_
        facts.refuse_scaling(self.scaling)
        names: list[str] | None = None
        rate_hz: float | None = None
        if is_epochs(X):
            X, found = epochs_to_array(X, facts)
            names, rate_hz = list(found.ch_names), found.sfreq_hz
            facts = facts if facts.ch_names else found
        if reset:
            self.sfreq_hz_ = rate_hz
            self.ch_names_ = list(self.ch_names) if self.ch_names is not None else names
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
            self.input_facts_ = facts
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

    def _checkpoint_facts(self) -> InputFacts:
        """Return what the checkpoint says of its input, and the names that were given for windows without."""
        facts = InputFacts()
        if isinstance(self.checkpoint, EEGM2 | UNet):
            facts = InputFacts.of_header(self.checkpoint.header)
            anything = self.checkpoint.config.any_electrodes
        elif self.checkpoint is not None:
            from eegm2.training.checkpoint import read_header

            header = read_header(self.checkpoint)
            facts = InputFacts.of_header(header, f"checkpoint {self.checkpoint}")
            anything = EEGM2Config.from_dict(header["model"]).any_electrodes
        if self.checkpoint is None or anything:
            given = tuple(self.ch_names) if self.ch_names is not None else ()
            facts = dataclasses.replace(facts, ch_names=given, whose=facts.whose or "ch_names")
        return facts

    def _network(self, n_chans: int, seed: int) -> EEGM2 | UNet:
        """Return a copy of the checkpoint's network, or a fresh one of the preset where there is none."""
        if self.checkpoint is None:
            with torch.random.fork_rng():
                torch.manual_seed(seed)
                config = EEGM2Config.preset(self.preset, n_chans=n_chans, width=self.width)
                config = config.at_rate(self.sfreq_hz_ or config.sfreq_hz)
                return self._on_montage(build_model(config).eval(), None)
        network, trained_on = self.checkpoint, None
        if not isinstance(network, EEGM2 | UNet):
            from eegm2.training.checkpoint import load_checkpoint

            loaded = load_checkpoint(network)
            network, trained_on = loaded.model, list(loaded.header["ch_names"])
        network = self._on_montage(network, trained_on)
        if network.config.n_chans != n_chans:
            raise ConfigError(
                f"checkpoint: has {network.config.n_chans} channels, X has {n_chans}; "
                "use eegm2.adapt_channels(model, n_chans), or pick the checkpoint's channels"
            )
        return copy.deepcopy(network)

    def _on_montage(self, network: EEGM2 | UNet, trained_on: list[str] | None) -> EEGM2 | UNet:
        """Return a network for the channels of the windows, where it takes any and they are known."""
        if self.ch_names_ is None:
            if network.config.any_electrodes and self.checkpoint is None:
                raise ConfigError(
                    f"ch_names: preset {self.preset} needs to know which electrodes the windows are from; "
                    "give their names, or pass MNE Epochs"
                )
            return network
        return on_montage(network, trained_on or [], self.ch_names_, self.positions or "")

    def _frozen_features(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the frozen features of scaled windows."""
        refuse_kind(self.features, self.network_.config)
        return extract_features(
            self.network_, windows, batch_size=self.batch_size, device=self.device, kind=self.features
        )


class Learner(OnWindows):
    """The four protocols with a validation part taken from the training windows."""

    def __init__(
        self,
        checkpoint: Any = None,
        *,
        protocol: str = "light",
        preset: str = "eegm2",
        width: int = 16,
        scaling: str = "quantile95",
        features: Features = "statistics",
        head: str = "statistics",
        C: float | str = 1.0,
        lr: float | None = None,
        max_epochs: int | None = None,
        patience: int = 10,
        batch_size: int = 64,
        layer_decay: float = 1.0,
        freeze: Any = (),
        validation: float = 0.2,
        device: str = "cpu",
        random_state: Any = 0,
        ch_names: Any = None,
        positions: Any = None,
        c: Any = None,
    ) -> None:
        self.checkpoint = checkpoint
        self.protocol = protocol
        self.preset = preset
        self.width = width
        self.scaling = scaling
        self.features = features
        self.head = head
        self.C = C
        self.lr = lr
        self.max_epochs = max_epochs
        self.patience = patience
        self.batch_size = batch_size
        self.layer_decay = layer_decay
        self.freeze = freeze
        self.validation = validation
        self.device = device
        self.random_state = random_state
        self.ch_names = ch_names
        self.positions = positions
        self.c = c

    def _penalty(self) -> Any:
        """Return `C`, by its former name too."""
        if self.c is None:
            return self.C
        warnings.warn(
            "c is called C now, as in scikit-learn; c ends in version 0.3", DeprecationWarning, stacklevel=4
        )
        return self.c

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
        seed = integer_seed(self.random_state)
        self.network_ = self._network(windows.shape[1], seed)
        if self.protocol == "linear":
            made = self._features(windows)
            views = feature_views(self.features, self.network_.config)
            if (penalty := self._penalty()) == "people":
                if groups is None:
                    raise ConfigError(
                        "C: 'people' leaves people out; say in fit's groups who windows are from"
                    )
                people = np.asarray(groups)
                self.model_: Any = fit_by_people(made, y, people, views, regression=not n_classes)
                return self
            variance = variances(views, made.shape[1])
            self.model_ = linear_model(not n_classes, float(penalty), variance).fit(made, y)
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
                self.network_ = fresh_copy(self.network_)
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
        return self._frozen_features(windows).astype(np.float64)

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


def integer_seed(random_state: Any) -> int:
    """Return an integer seed; an integer is taken as it is."""
    if isinstance(random_state, int | np.integer):
        return int(random_state)
    return int(check_random_state(random_state).randint(2**31))
