"""The authors' numbers: inputs, outputs, losses and gradients, and the weights that made them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parent / "reference"
SHAPES: dict[str, dict[str, list[int]]] = json.loads((FOLDER / "state_dict_shapes.json").read_text())
SEEDS = {
    "EEGM2": 10,
    "EEGM2_S1": 11,
    "EEGM2_S3": 12,
    "EEGM2_S4": 13,
    "EEGM2_S5": 14,
    "EEGM2_Light": 15,
    "UNet": 16,
}
PRESET_OF = {
    "EEGM2": "eegm2",
    "EEGM2_S1": "s1",
    "EEGM2_S3": "s3",
    "EEGM2_S4": "s4",
    "EEGM2_S5": "s5",
    "EEGM2_Light": "light",
    "UNet": "unet",
}
PARAMETERS = {
    "EEGM2": 4_565_144,
    "EEGM2_Light": 254_392,
    "EEGM2_S1": 4_544_472,
    "EEGM2_S3": 4_950_544,
    "EEGM2_S4": 4_929_872,
    "EEGM2_S5": 1_472_272,
    "UNet": 10_816_208,
}


def weights(variant: str) -> dict[str, torch.Tensor]:
    """Return the reference weights under the authors' keys; they follow from the variant's seed."""
    rng = np.random.default_rng(SEEDS[variant])
    state = {}
    for key in sorted(SHAPES[variant]):
        shape = tuple(SHAPES[variant][key])
        if key.endswith("A_log"):
            value = np.log(rng.uniform(1, 16, shape))
        elif key.endswith("dt_bias"):
            dt = np.exp(rng.uniform(np.log(1e-3), np.log(1e-1), shape))
            value = dt + np.log(-np.expm1(-dt))
        elif key.endswith(".D") or key.endswith("norm.weight"):
            value = 1 + 0.1 * rng.standard_normal(shape)
        elif len(shape) == 1:
            value = 0.05 * rng.standard_normal(shape)
        else:
            value = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        state[key] = torch.from_numpy(np.asarray(value, dtype=np.float32))
    return state


def vectors(variant: str) -> dict[str, np.ndarray]:
    """Return the stored arrays of a variant."""
    with np.load(FOLDER / f"{variant}.npz") as file:
        return {key: file[key] for key in file.files}
