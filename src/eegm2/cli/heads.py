"""A model and its head for a stream or a device, as ``--model`` and ``--head`` name them."""

from __future__ import annotations

from typing import Any

from eegm2.config import split_commas


def open_head(
    model: str, head: str, channels: tuple[str, ...], positions: str, *, device: bool = False
) -> tuple[Any, Any]:
    """Return the trained model and its head: of a stream, of separate windows, or None.

    Parameters
    ----------
    model : str
        Any name of a model; the folder of a probe or of a fine-tuned run has heads of its own.
    head : str
        File, or name of a head in that folder; by default the folder's first, if it has one.
    channels : tuple of str
        For networks of any electrodes; by default those of the head.
    positions : str
    device : bool
        Whether `channels` are a device's, some of which the network may not need.
    """
    from eegm2.deploy.heads.windowed import refuse_other_model, windowed_head
    from eegm2.deploy.predict.classifier import load_classifier
    from eegm2.deploy.trained_model import load_trained
    from eegm2.zoo.find import model_folder
    from eegm2.zoo.shipped import HEADS

    trained = load_trained(model)
    any_of, names = trained.config.any_electrodes, () if device else split_commas(channels)
    folder = model_folder(model)
    if not head and not (folder is not None and list((folder / HEADS).glob("*.safetensors"))):
        return (trained.on_montage(names, positions) if any_of else trained), None
    kept = load_classifier(model, head)
    refuse_other_model(trained, kept.facts)
    if any_of:
        names = names or tuple(kept.facts.get("ch_names", ())) or trained.ch_names
        kept, trained = kept.on_montage(names, positions), trained.on_montage(names, positions)
    network = kept.checkpoint.model
    return trained, windowed_head(network, kept.head, kept.tuned, classes=kept.classes, facts=kept.facts)
