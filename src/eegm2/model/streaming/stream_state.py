"""States of a stream as named plain tensors, to be saved, moved and loaded again."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from eegm2.errors import ConfigError
from eegm2.model.mamba1 import Mamba1
from eegm2.model.mamba2 import Mamba2
from eegm2.model.state import MambaState, map_state, state_names
from eegm2.model.streaming.incremental_decoder import LayerState
from eegm2.model.streaming.stream import StreamNetwork, StreamState


def flatten_state(state: StreamState) -> dict[str, Tensor]:
    """Return a state as named plain tensors; integers become int64 scalars."""
    flat = {"position": torch.tensor(state.position), "starts": torch.tensor(state.starts)}
    for name, layer in state.layers.items():
        for key, value in vars(layer).items():
            if key == "mamba":
                if value is not None:
                    parts = zip(state_names(value), value)
                    flat |= {f"{name}.{part}": tensor.clone() for part, tensor in parts}
            else:
                flat[f"{name}.{key}"] = torch.tensor(value) if isinstance(value, int) else value.clone()
    return flat


def unflatten_state(network: StreamNetwork, flat: dict[str, Tensor]) -> StreamState:
    """Build a state from the tensors of :func:`flatten_state`.

    Raises
    ------
    ConfigError
        If names or shapes do not belong to this network.
    """
    flat = dict(flat)
    try:
        position, starts = int(flat.pop("position")), tuple(flat.pop("starts").tolist())
        template = network.start(len(starts))
        layers: dict[str, LayerState] = {}
        for name, fresh in template.layers.items():
            changes: dict[str, Any] = {}
            for key, value in vars(fresh).items():
                if key == "mamba":
                    changes[key] = _mixer_state(network, name, flat, len(starts))
                elif isinstance(value, int):
                    changes[key] = int(flat.pop(f"{name}.{key}"))
                else:
                    tensor = flat.pop(f"{name}.{key}")
                    if (tensor.shape[0], *tensor.shape[2:]) != (value.shape[0], *value.shape[2:]):
                        raise ConfigError(
                            f"stream state: '{name}.{key}' has shape {tuple(tensor.shape)}, expected "
                            f"({value.shape[0]}, any, {value.shape[2]}); it belongs to another model"
                        )
                    changes[key] = tensor.to(value).clone()
            layers[name] = replace(fresh, **changes)
    except KeyError as error:
        raise ConfigError(f"stream state: {error} is missing; it belongs to another model or mode") from error
    if flat:
        raise ConfigError(
            f"stream state: unknown entry '{next(iter(flat))}'; it belongs to another model or mode"
        )
    return StreamState(position, layers, starts)


def _mixer_state(network: StreamNetwork, name: str, flat: dict[str, Tensor], batch: int) -> Any:
    """Take a mixer's state out of `flat`; None where it had none."""
    mixer, device = network.layers[name][1].block.mixer, network.like.device
    if isinstance(mixer, Mamba1 | Mamba2):
        if f"{name}.ssm" not in flat:
            return None
        parts = [flat.pop(f"{name}.{part}").to(device).clone() for part in MambaState._fields]
        _check_mamba(network, name, parts, batch)
        return MambaState(*parts)
    channels = network.layers[name][1].block.norm.normalized_shape[0]
    with torch.no_grad():
        _, usual = mixer(network.like.new_zeros(batch, 1, channels))
    names = [f"{name}.{part}" for part in state_names(usual)]
    if names[0] not in flat:
        return None
    taken = {key: flat.pop(key).to(device).clone() for key in names}
    for (key, tensor), like in zip(taken.items(), usual):
        if tensor.shape != like.shape:
            raise _of_another_model(key, tensor, tuple(like.shape))
    tensors = iter(taken.values())
    return map_state(lambda _: next(tensors), usual)


def _of_another_model(key: str, tensor: Tensor, shape: tuple[int, ...]) -> ConfigError:
    found = f"'{key}' has shape {tuple(tensor.shape)}, expected {shape}"
    return ConfigError(f"stream state: {found}; it belongs to another model")


def _check_mamba(network: StreamNetwork, name: str, parts: list[Tensor], batch: int) -> None:
    """Refuse a mixer state of another size."""
    layer = network.layers[name][1]
    mixer = layer.block.mixer
    conv = (batch, mixer.d_conv - 1, mixer.conv1d.in_channels)
    ssm = (
        (batch, mixer.n_heads, mixer.headdim, mixer.d_state)
        if hasattr(mixer, "n_heads")
        else (batch, mixer.d_inner, mixer.d_state)
    )
    for part, tensor, shape in zip(("conv", "ssm"), parts, (conv, ssm)):
        if tuple(tensor.shape) != shape:
            raise _of_another_model(f"{name}.{part}", tensor, shape)
