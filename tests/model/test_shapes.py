"""A network without memory has the shapes of a real one, draws no random number and is quickly there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from eegm2 import EEGM2Config, build_model
from eegm2.model.shapes import without_memory

PRESETS = ("eegm2", "light", "s1", "s3", "s4", "s5", "unet", "covariance")


@pytest.mark.parametrize("preset", PRESETS)
def test_shapes_are_those_of_a_real_network(preset: str) -> None:
    config = EEGM2Config.preset(preset, n_chans=4, width=8)
    before = torch.get_rng_state()
    with without_memory():
        found = build_model(config).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    wanted = build_model(config).state_dict()
    assert found.keys() == wanted.keys()
    for name, tensor in wanted.items():
        assert found[name].is_meta, name
        assert (found[name].shape, found[name].dtype) == (tensor.shape, tensor.dtype), name


def test_loading_imports_no_compiler(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    code = (
        "import sys; from eegm2 import EEGM2, EEGM2Config, load_checkpoint, save_checkpoint; "
        "model = EEGM2(EEGM2Config.preset('eegm2', n_chans=3, width=8)); "
        f"save_checkpoint({str(path)!r}, model, {{}}); load_checkpoint({str(path)!r}); "
        "print('torch._dynamo' in sys.modules)"
    )
    source = Path(__file__).parents[2] / "src"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=source)
    assert done.stdout.strip() == "False", done.stderr
