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
EXTRAS = [
    *("brainflow", "braindecode", "dask", "distributed", "executorch", "huggingface_hub", "moabb", "onnx"),
    *("onnxruntime", "onnxscript", "pyarrow", "pylsl", "pyriemann", "pyxdf", "s3fs", "skorch"),
]
"""What `import` finds of the optional dependencies."""


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


def test_everything_is_imported_without_extras_and_loading_takes_no_compiler(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({EXTRAS}, None)); from eegm2 import *; "
        "model = EEGM2(EEGM2Config.preset('eegm2', n_chans=3, width=8)); "
        f"save_checkpoint({str(path)!r}, model, {{}}); load_checkpoint({str(path)!r}); "
        "print('torch._dynamo' in sys.modules)"
    )
    source = Path(__file__).parents[2] / "src"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=source)
    assert done.stdout.strip() == "False", done.stderr
