"""EEGM2 behind braindecode's signature, for skorch and for harnesses that build models by it."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from eegm2.data.config import Scaling
from eegm2.data.electrodes import on_montage
from eegm2.data.windows.scaling import scale_window
from eegm2.errors import CheckpointError, ConfigError
from eegm2.evaluation.estimators.input_facts import InputFacts
from eegm2.model.config import EEGM2Config
from eegm2.model.heads import Downstream, HeadName
from eegm2.model.network import EEGM2, build_model
from eegm2.model.unet import UNet
from eegm2.plugins import trusting

CLASSIFIER = "classifier.safetensors"


class EEGM2ForClassification(nn.Module):
    """EEGM2 with a head: (batch, n_chans, n_times) to logits (batch, n_outputs).

    Parameters
    ----------
    n_chans : int, optional
        EEG channels; from `chs_info` if left out.
    n_times : int, optional
        Samples of a window; from `input_window_seconds` and `sfreq` if left out.
    n_outputs : int
        Classes, or 1 for a value.
    sfreq : float
        Sampling rate in Hz; refused if a checkpoint was trained at another.
    chs_info : list of dict, optional
        MNE's ``info["chs"]``; refused if a checkpoint was trained on other channels or in another order.
    input_window_seconds : float, optional
        Length of a window in seconds.
    checkpoint : path, EEGM2, UNet or None
        Pretrained weights; None: fresh ones.
    preset, width : str, int
        Shape of a fresh network.
    head : {"flatten", "statistics", "attention"}
        The paper's, tied to `n_times`, or one for any length.
    drop_prob : float
        Dropout of the head.
    scaling : {"quantile95", "robust", "zscore", "none"}
        Of each channel of each window, inside the module.
    network : mapping, optional
        Every size of a fresh network, as `get_config` has them, in place of `preset` and `width`.

    Attributes
    ----------
    final_layer : nn.Linear
        The last layer; replace it for another number of outputs.

    Raises
    ------
    ConfigError
        If sizes are missing or contradict one another or the checkpoint.
    """

    def __init__(
        self,
        n_chans: int | None = None,
        n_times: int | None = None,
        n_outputs: int = 2,
        sfreq: float | None = None,
        chs_info: list[Any] | None = None,
        input_window_seconds: float | None = None,
        *,
        checkpoint: Any = None,
        preset: str = "eegm2",
        width: int = 64,
        head: HeadName = "flatten",
        drop_prob: float = 0.0,
        scaling: Scaling = "quantile95",
        network: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.n_chans = _agreed("n_chans", n_chans, None if chs_info is None else len(chs_info), "chs_info")
        seconds = (
            None if input_window_seconds is None or sfreq is None else round(input_window_seconds * sfreq)
        )
        self.n_times = _agreed("n_times", n_times, seconds, "input_window_seconds")
        self.n_outputs, self.sfreq, self.chs_info, self.scaling = n_outputs, sfreq, chs_info, scaling
        self.head, self.drop_prob = head, drop_prob
        if checkpoint is not None:
            made = _pretrained(checkpoint, self.n_chans, sfreq, chs_info, scaling)
        else:
            if network is not None:
                config = EEGM2Config.from_dict(dict(network), where="network").replace(n_chans=self.n_chans)
            else:
                config = EEGM2Config.preset(preset, n_chans=self.n_chans, width=width)
            made = _on_montage(build_model(config if sfreq is None else config.at_rate(sfreq)), chs_info)
        self.body = Downstream(made, n_outputs, self.n_times, head, drop_prob)
        head_out = self.body.head.out
        assert isinstance(head_out, nn.Linear)
        self.final_layer, self.body.head.out = head_out, nn.Identity()

    def forward(self, x: Tensor, return_features: bool = False) -> Any:
        """Return logits or values, (batch, n_outputs), of windows (batch, n_chans, n_times).

        With `return_features` what the last layer takes, as ``{"features": Tensor (batch, n_features),
        "cls_token": None}``.
        """
        features = self.body(scale_window(x, self.scaling))
        if return_features:
            return {"features": features, "cls_token": None}
        return self.final_layer(features)

    def reset_head(self, n_outputs: int) -> None:
        """Put a fresh last layer for another number of outputs."""
        old = self.final_layer
        self.final_layer = nn.Linear(old.in_features, n_outputs).to(old.weight)
        self.n_outputs = n_outputs

    def get_config(self) -> dict[str, Any]:
        """Return what makes a module of this shape, as plain values for JSON; `from_config` takes it."""
        names = [str(channel["ch_name"]) for channel in self.chs_info or ()]
        return {
            "n_chans": self.n_chans,
            "n_times": self.n_times,
            "n_outputs": self.n_outputs,
            "sfreq": self.sfreq,
            "chs_info": [{"ch_name": name} for name in names] or None,
            "head": self.head,
            "drop_prob": self.drop_prob,
            "scaling": self.scaling,
            "network": self.body.network.config.to_dict(),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> EEGM2ForClassification:
        """Return a module with fresh weights from what `get_config` gave."""
        return cls(**config)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write weights and configuration into a folder, each file whole or not at all.

        Returns
        -------
        Path
            The folder; `from_pretrained` reads it.
        """
        from eegm2.training.checkpoint import provenance, write_weights

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        shape = self.body.network.config.to_dict()
        header = {"model": shape, "classifier": self.get_config(), **provenance()}
        write_weights(folder / CLASSIFIER, self.state_dict(), header)
        return folder

    @classmethod
    def from_pretrained(
        cls,
        name_or_folder: str | Path,
        n_outputs: int | None = None,
        *,
        trust: str | Sequence[str] = (),
        **options: Any,
    ) -> EEGM2ForClassification:
        """Read what `save_pretrained` wrote, or put a fresh head on any pretrained model.

        Parameters
        ----------
        name_or_folder : str or Path
            Folder of `save_pretrained`; or any name of a model, see :func:`eegm2.zoo.find_weights`.
        n_outputs : int, optional
            Another number of outputs than was saved: the last layer is then a fresh one.
        trust : str or sequence of str
            Packages whose code may be imported where the model names it, see :func:`eegm2.trusting`.
        **options
            Of a model without head: as for the class; channels, rate and length of windows are the model's.

        Returns
        -------
        EEGM2ForClassification
            In evaluation mode.

        Raises
        ------
        CheckpointError
            If there is no such model, or it is damaged.
        ConfigError
            If an option contradicts the model.
        """
        path = Path(name_or_folder).expanduser() / CLASSIFIER
        with trusting(*([trust] if isinstance(trust, str) else trust)):
            if path.is_file():
                return cls._read(path, n_outputs, options)
            return cls._with_fresh_head(name_or_folder, n_outputs, options).eval()

    @classmethod
    def _read(cls, path: Path, n_outputs: int | None, options: dict[str, Any]) -> EEGM2ForClassification:
        from eegm2.training.checkpoint import model_config, read_weights

        if options:
            raise ConfigError(f"{path}: was saved with its options; leave {', '.join(options)} out")
        header, state = read_weights(path)
        model_config(path, header)
        try:
            module = cls.from_config(header["classifier"])
            module.load_state_dict(state)
        except (KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:160]
            raise CheckpointError(f"{path}: damaged ({reason}); take another copy of the file") from error
        if n_outputs not in (None, module.n_outputs):
            module.reset_head(int(n_outputs))
        return module.eval()

    @classmethod
    def _with_fresh_head(
        cls, name: str | Path, n_outputs: int | None, options: dict[str, Any]
    ) -> EEGM2ForClassification:
        from eegm2.training.checkpoint import INPUT, load_checkpoint

        loaded = load_checkpoint(name, needs=INPUT)
        windows, rate = loaded.plain_windows("an array"), float(loaded.header["sfreq_hz"])
        known: dict[str, Any] = {"sfreq": rate, "scaling": windows.scaling}
        if not {"n_chans", "chs_info"} & options.keys():
            known["chs_info"] = [{"ch_name": str(channel)} for channel in loaded.header["ch_names"]]
        if not {"n_times", "input_window_seconds"} & options.keys():
            known["n_times"] = round(windows.window_s * rate)
        found = {**known, **options, **({} if n_outputs is None else {"n_outputs": n_outputs})}
        return cls(checkpoint=loaded.model, **found)


def _agreed(name: str, given: int | None, derived: int | None, source: str) -> int:
    """Return a size given directly or through another argument, refusing neither and both that differ."""
    if given is None and derived is None:
        raise ConfigError(f"{name}: not given, nor {source} to take it from")
    if given is not None and derived is not None and given != derived:
        raise ConfigError(f"{name}: got {given}, but {source} gives {derived}")
    return int(given if given is not None else derived)  # type: ignore[arg-type]


def _on_montage(network: EEGM2 | UNet, chs_info: list[Any] | None) -> EEGM2 | UNet:
    """Return a network for the channels that are described, where it takes any."""
    if not network.config.any_electrodes or chs_info is None:
        return network
    return on_montage(network, [], [str(channel["ch_name"]) for channel in chs_info])


def _pretrained(
    checkpoint: Any, n_chans: int, sfreq: float | None, chs_info: list[Any] | None, scaling: str
) -> EEGM2 | UNet:
    """Return a copy of the checkpoint's network, refusing other channels, another rate or another scaling."""
    if isinstance(checkpoint, EEGM2 | UNet):
        network, facts = copy.deepcopy(checkpoint), InputFacts.of_header(checkpoint.header)
    else:
        from eegm2.training.checkpoint import load_checkpoint

        loaded = load_checkpoint(checkpoint, needs=("sfreq_hz",))
        network, facts = loaded.model, InputFacts.of_header(loaded.header, f"checkpoint {checkpoint}")
    if sfreq is not None and facts.sfreq_hz and abs(sfreq - facts.sfreq_hz) > 1e-3:
        raise ConfigError(
            f"sfreq: got {sfreq:g} Hz, {checkpoint} was trained at {facts.sfreq_hz:g} Hz; resample"
        )
    any_electrodes = network.config.any_electrodes
    network = _on_montage(network, chs_info)
    if network.config.n_chans != n_chans:
        raise ConfigError(
            f"checkpoint: has {network.config.n_chans} channels, got n_chans={n_chans}; "
            "use eegm2.adapt_channels(model, n_chans)"
        )
    facts.refuse_scaling(scaling)
    ch_names = [str(channel["ch_name"]) for channel in chs_info or () if "ch_name" in channel]
    order = None if any_electrodes else facts.order(ch_names)
    if order is not None and order != sorted(order):
        raise ConfigError(
            f"chs_info: has the order {' '.join(ch_names)}, {facts.whose} has {' '.join(facts.ch_names)}; "
            "reorder the data (reorder_channels)"
        )
    return network
