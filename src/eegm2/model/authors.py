"""The authors' published checkpoints, read and written under their own key names.

Their ``best_model.pth`` files are plain state dicts. The variant, the width and the channel count follow
from the keys and shapes alone.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eegm2.atomic import whole_file
from eegm2.errors import CheckpointError
from eegm2.model.config import PRESETS, EEGM2Config, largest_divisor
from eegm2.model.network import EEGM2, build_model
from eegm2.model.unet import LEVELS, UNet

#: Our module path -> theirs, for the EEGM2 family; "{kind}" is Mamba or Attn.
_EEGM2_NAMES = {
    "encoder.embedding.branches.0": "input_embedding.branch1",
    "encoder.embedding.branches.1": "input_embedding.branch3",
    "encoder.embedding.branches.2": "input_embedding.branch7",
    "encoder.embedding.fuse": "input_embedding.fuse",
    "encoder.embedding": "input_embedding",
    "encoder.linear1": "encoder1.0",
    "encoder.block1": "encoder1.1",
    "encoder.conv2": "encoder2",
    "encoder.conv3": "encoder3",
    "mediator.linear_in": "bottleneck.0",
    "mediator.block": "bottleneck.1",
    "mediator.linear_out": "bottleneck.2",
    "decoder.conv3": "decoder3",
    "decoder.block3": "decode{kind}3",
    "decoder.conv2": "decoder2",
    "decoder.block2": "decode{kind}2",
    "decoder.conv1": "decoder1",
    "decoder.output": "onput_embedding",
}
_UNET_NAMES = {
    **{f"down.{i}": f"encoder{i + 1}" for i in range(LEVELS)},
    **{f"up.{i}": f"decoder{i + 1}" for i in range(LEVELS)},
    **{f"upsample.{i}": f"upconv{i + 1}" for i in range(LEVELS)},
    "bottleneck": "bottleneck",
    "output": "final_conv",
}
_WRAPPERS = ("state_dict", "model_state_dict", "model", "network", "net", "module", "weights")
_PREFIXES = ("_orig_mod.", "module.", "model.", "network.", "net.")


def load_authors_checkpoint(source: str | os.PathLike[str] | Mapping[str, Tensor]) -> EEGM2 | UNet:
    """Read a checkpoint of the authors into the right preset.

    Parameters
    ----------
    source : path or mapping
        A ``.pth`` file (read with ``weights_only=True``: no code in it is run) or its state dict; also inside
        a trainer's ``state_dict``, and with the prefixes of compiled or parallel modules.

    Returns
    -------
    EEGM2 or UNet
        In evaluation mode, with the width and channel count of the checkpoint.

    Raises
    ------
    CheckpointError
        If the file cannot be read safely, is no state dict, or has missing, unexpected or misshapen keys;
        the message names them.
    """
    where = "state dict" if isinstance(source, Mapping) else os.fspath(source)
    state = _unwrapped(source if isinstance(source, Mapping) else _read(Path(source)))
    if not state or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in state.items()):
        raise CheckpointError(
            f"{where}: not a state dict of tensors; expected a file such as the authors' best_model.pth"
        )
    config = _config(state, where)
    model = build_model(config)
    expected = {authors: (ours, tuple(tensor.shape)) for ours, authors, tensor in _names(model)}
    missing, extra = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or extra:
        raise CheckpointError(
            f"{where}: does not match preset '{config.preset_name}': "
            f"missing keys {missing or 'none'}, unexpected keys {extra or 'none'}"
        )
    for key, (_, shape) in expected.items():
        if tuple(state[key].shape) != shape:
            raise CheckpointError(f"{where}: {key} has shape {tuple(state[key].shape)}, expected {shape}")
    model.load_state_dict({ours: state[key] for key, (ours, _) in expected.items()}, strict=True)
    return model.eval()


def _unwrapped(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the state dict inside what trainers, compilers and parallel wrappers put around it."""
    while not all(isinstance(value, Tensor) for value in state.values()):
        inside = [state[key] for key in _WRAPPERS if isinstance(state.get(key), Mapping)]
        if len(inside) != 1:
            return state
        state = inside[0]
    prefix = next((p for p in _PREFIXES if state and all(str(key).startswith(p) for key in state)), None)
    if prefix is None:
        return state
    return _unwrapped({key.removeprefix(prefix): value for key, value in state.items()})


def authors_state_dict(model: EEGM2 | UNet) -> dict[str, Tensor]:
    """Return the model's weights under the authors' key names (tensors are shared, not copied)."""
    return {authors: tensor for _, authors, tensor in _names(model)}


def save_authors_checkpoint(model: EEGM2 | UNet, path: str | os.PathLike[str]) -> None:
    """Write the model's weights as the authors do: a plain state dict under their key names.

    The file is complete or absent: it is written beside `path` and then renamed.
    """
    weights = {key: tensor.detach().cpu().clone() for key, tensor in authors_state_dict(model).items()}
    with whole_file(Path(path)) as temporary, temporary.open("wb") as file:
        torch.save(weights, file)


def _read(path: Path) -> Mapping[str, Tensor]:
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read ({error.strerror or error})") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: not a checkpoint that can be read safely (weights only)") from error
    if not isinstance(state, Mapping):
        raise CheckpointError(f"{path}: holds a {type(state).__name__}, expected a state dict of tensors")
    return state


def _config(state: Mapping[str, Tensor], where: str) -> EEGM2Config:
    """Find preset, width, channel count and mixer sizes from keys and shapes."""
    try:
        if "final_conv.weight" in state:
            n_chans, width, _ = state["final_conv.weight"].shape
            return EEGM2Config.preset("unet", n_chans=n_chans, width=width)
        multi = "input_embedding.branch1.weight" in state
        width, n_chans, _ = state[
            "input_embedding.branch1.weight" if multi else "input_embedding.weight"
        ].shape
        sizes: dict[str, Any] = {"n_chans": n_chans, "width": width}
        if "encoder1.1.mha.in_proj_weight" in state:
            mixer = "attention"
        else:
            conv_channels, _, sizes["d_conv"] = state["encoder1.1.mamba.conv1d.weight"].shape
            d_inner = state["encoder1.1.mamba.out_proj.weight"].shape[1]
            sizes["expand"] = d_inner // width
            mixer = "mamba2" if "encoder1.1.mamba.dt_bias" in state else "mamba1"
            if mixer == "mamba2":
                sizes["d_state"] = (conv_channels - d_inner) // 2
                sizes["headdim"] = _headdim(state)
            else:
                sizes["d_state"] = state["encoder1.1.mamba.A_log"].shape[1]
    except (KeyError, ValueError) as error:
        raise CheckpointError(
            f"{where}: keys such as {sorted(state)[:3]} belong to no known variant ({', '.join(PRESETS)})"
        ) from error
    kind = {"mamba2": ("eegm2", "s1"), "mamba1": ("s3", "s4"), "attention": ("s5", "s5")}[mixer][not multi]
    decoder = any(key.startswith(("decode", "bottleneck", "onput")) for key in state)
    return EEGM2Config.preset(kind, **sizes, decoder=decoder)


def _headdim(state: Mapping[str, Tensor]) -> int:
    """Return the bound of the channels per head under which every block has the heads that it has."""
    blocks = []
    for key in state:
        if key.endswith(".mamba.A_log"):
            inner = state[key.removesuffix("A_log") + "out_proj.weight"].shape[1]
            blocks.append((inner, inner // state[key].shape[0]))
    largest = max(size for _, size in blocks)
    usual = EEGM2Config().headdim
    bounds = [usual, *range(largest, max(inner for inner, _ in blocks) + 1)]
    fits = (b for b in bounds if all(largest_divisor(inner, b) == size for inner, size in blocks))
    return next(fits, largest)


def _names(model: EEGM2 | UNet) -> list[tuple[str, str, Tensor]]:
    """List (our key, the authors' key, tensor) for every weight of the model."""
    attention = model.config.mixer == "attention"
    table = _UNET_NAMES if isinstance(model, UNet) else _EEGM2_NAMES
    rows = []
    for key, tensor in model.state_dict().items():
        prefix = max((p for p in table if key.startswith(p + ".")), key=len)
        rest = key.removeprefix(prefix).replace(".mixer.mha.", ".mha.").replace(".mixer.", ".mamba.")
        rows.append((key, table[prefix].format(kind="Attn" if attention else "Mamba") + rest, tensor))
    return rows
