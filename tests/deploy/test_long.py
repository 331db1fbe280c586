"""Whole recordings in blocks equal one call, with memory that does not grow."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from eegm2 import encode_long, reconstruct_long
from eegm2.errors import ConfigError, DataError
from tests.deploy.helpers import network, signal


@torch.no_grad()
@pytest.mark.parametrize("n_times", [8, 15, 1001])
@pytest.mark.parametrize("block_samples", [61, 100_000])
def test_blocks_equal_one_call(n_times: int, block_samples: int) -> None:
    model, x = network(), signal(n_times)
    y = reconstruct_long(model, x, block_samples=block_samples)
    torch.testing.assert_close(y, model(x), rtol=0, atol=1e-4)
    torch.testing.assert_close(
        encode_long(model, x, block_samples=block_samples), model.encode(x), rtol=0, atol=1e-4
    )


@torch.no_grad()
def test_a_long_odd_length_rounds_its_interpolation_as_offline() -> None:
    model = network(width=2)
    x = torch.randn(1, 3, 100_003, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(reconstruct_long(model, x, block_samples=50_000), model(x), rtol=0, atol=1e-4)


@torch.no_grad()
def test_memory_maps_in_and_out(tmp_path) -> None:
    model, x = network(), signal(900, batch=1)
    np.save(tmp_path / "x.npy", x[0].numpy().astype(np.float64))
    source = np.load(tmp_path / "x.npy", mmap_mode="r")
    target = np.lib.format.open_memmap(tmp_path / "y.npy", mode="w+", dtype=np.float32, shape=source.shape)
    assert reconstruct_long(model, source, out=target) is target
    target.flush()
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), model(x)[0].numpy(), rtol=0, atol=1e-4)
    assert encode_long(model, source).shape == (32, 112)
    assert np.array_equal(source, x[0].numpy())


def test_bad_input_is_refused_before_anything_is_written() -> None:
    model, x = network(), signal(64)
    out = torch.zeros(2, 3, 64)
    for arguments, error, message in (
        ((x[:, :2],), DataError, r"got shape \(2, 2, 64\), expected \(batch, n_chans=3, n_times\)"),
        ((x[..., :7],), DataError, "got n_times=7, expected at least 8"),
        ((x.int(),), DataError, "got dtype torch.int32"),
        ((x[..., :32], 8, out), DataError, r"got a Tensor of shape \(2, 3, 64\)"),
        ((x, 8, out.int()), DataError, "out: got dtype torch.int32"),
        ((x, 8, out.numpy()), DataError, "out: got a ndarray"),
        ((x, 0), ConfigError, "block_samples: got 0"),
    ):
        options = dict(zip(("block_samples", "out"), arguments[1:]))
        with pytest.raises(error, match=message):
            reconstruct_long(model, arguments[0], **options)
    assert not out.any()
    x[0, 1, 40] = torch.nan
    with pytest.raises(DataError, match="channel 1 of item 0 is not finite at sample 40"):
        reconstruct_long(model, x, block_samples=16)


PEAK = """
import resource, sys
import numpy as np, torch
from eegm2 import reconstruct_long
from tests.deploy.helpers import network
torch.set_num_threads(1)
model = network(width=16)
n = int(sys.argv[1])
x = np.lib.format.open_memmap(sys.argv[2], mode="r")[:, :n]
out = np.lib.format.open_memmap(sys.argv[3], mode="w+", dtype=np.float32, shape=x.shape)
reconstruct_long(model, x, out=out)
anonymous = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("RssAnon"))
print(anonymous)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")
def test_an_hour_takes_no_more_memory_than_a_minute(tmp_path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).standard_normal((3, 460_800), dtype=np.float32))
    used = []
    for n in (7_680, 460_800):
        result = subprocess.run(
            [sys.executable, "-c", PEAK, str(n), str(tmp_path / "x.npy"), str(tmp_path / "y.npy")],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(["src", "."]), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=600,
            check=True,
        )
        used.append(int(result.stdout) / 1024)
    assert used[1] < used[0] + 40, f"MiB resident after a minute and after an hour: {used}"
