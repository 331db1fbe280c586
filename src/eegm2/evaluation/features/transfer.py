"""A pretrained network for another montage: new layers at its two ends, the rest kept."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from eegm2.data.electrodes import for_electrodes
from eegm2.errors import ConfigError
from eegm2.model.network import EEGM2, build_model
from eegm2.model.unet import UNet


def adapt_channels(
    model: EEGM2 | UNet,
    n_chans: int,
    *,
    seed: int = 0,
    trained_on: Sequence[str] | None = None,
    ch_names: Sequence[str] | None = None,
) -> EEGM2 | UNet:
    """Return a copy of a network for another channel count: input and output layers new, the rest kept.

    Parameters
    ----------
    model : EEGM2 or UNet
        Pretrained; not changed.
    n_chans : int
        Channels of the new montage.
    seed : int
        Seeds the new layers.
    trained_on, ch_names : sequence of str, optional
        Channels of the old and the new montage. Where both are given, a channel of both keeps its weights
        (old and new 10-20 names count as one: T3 is T7).

    Returns
    -------
    EEGM2 or UNet
        With ``config.n_chans == n_chans``, in the mode of `model`.

    Raises
    ------
    ConfigError
        If a list of names does not fit its number of channels; or the network has the covariance embedding
        and takes no other electrodes, or no names are given by which it takes them.
    """
    for what, names, count in (
        ("trained_on", trained_on, model.config.n_chans),
        ("ch_names", ch_names, n_chans),
    ):
        if names is not None and len(names) != count:
            raise ConfigError(f"adapt_channels: got {len(names)} names in {what}, expected {count}")
    if model.config.embedding == "covariance":
        return _for_electrodes(model, ch_names)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = build_model(model.config.replace(n_chans=n_chans))
    shared = _shared(trained_on, ch_names)
    old, new = model.state_dict(), made.state_dict()
    for name in new:
        axis = channel_axis(name)
        if axis is None:
            new[name] = old[name].clone()
        elif shared:
            here, there = (torch.tensor(places) for places in zip(*shared))
            new[name].index_copy_(axis, here, old[name].index_select(axis, there))
    made.load_state_dict(new)
    return made.train(model.training)


def _for_electrodes(model: EEGM2 | UNet, ch_names: Sequence[str] | None) -> EEGM2:
    """Return a copy of a network with virtual channels for a montage: nothing of it is new."""
    assert isinstance(model, EEGM2)
    if ch_names is None:
        raise ConfigError(
            "adapt_channels: the covariance embedding needs to know which electrodes; give ch_names"
        )
    return copy.deepcopy(for_electrodes(model, ch_names))


def channel_axis(name: str) -> int | None:
    """Return the axis of a parameter that counts EEG channels, None where there is none."""
    ends = ("encoder.embedding.branches.", "encoder.embedding.weight", "down.0.0.weight")
    if name.startswith(ends):
        return 1 if name.endswith("weight") else None
    return 0 if name.startswith(("decoder.output.", "output.")) else None


def _shared(trained_on: Sequence[str] | None, ch_names: Sequence[str] | None) -> list[tuple[int, int]]:
    """Return (place in the new montage, place in the old one) of every channel of both."""
    if trained_on is None or ch_names is None:
        return []
    from eegm2.data.channels import canonical

    old = {canonical(name).upper(): place for place, name in enumerate(trained_on)}
    return [
        (place, old[canonical(name).upper()])
        for place, name in enumerate(ch_names)
        if canonical(name).upper() in old
    ]
