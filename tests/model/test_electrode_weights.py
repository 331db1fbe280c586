"""How strongly each electrode is read: as the network's output depends on it, at its first layer."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eegm2 import EEGM2Config, build_model
from eegm2.model.electrode_weights import electrode_weights


@pytest.mark.parametrize("preset", ["eegm2", "light", "s4", "unet", "covariance"])
def test_an_electrode_read_twice_as_strongly_counts_twice(preset: str) -> None:
    torch.manual_seed(0)
    model = build_model(EEGM2Config.preset(preset, n_chans=5, width=4)).eval()
    before = electrode_weights(model)
    assert all(np.isclose(values.mean(), 1) for values in before.values())
    with torch.no_grad():
        if preset == "covariance":
            model.trunk.electrodes.get_buffer("spread")[:, 2] *= 2
        else:
            first = [m for m in model.modules() if isinstance(m, torch.nn.Conv1d) and m.in_channels == 5]
            for layer in first[: 1 if preset == "unet" else None]:
                layer.weight[:, 2] *= 2
    for name, values in electrode_weights(model).items():
        ratio = values / before[name]
        np.testing.assert_allclose(ratio[2] / np.delete(ratio, 2), 2, rtol=1e-4)
