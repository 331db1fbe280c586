"""Long inputs in pieces of time: the same results as of the whole, and only where pieces may be taken."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from eegm2 import EEGM2, EEGM2Config
from eegm2.model import network as networks
from eegm2.model import pieces

WINDOW = 2 * pieces.LEAST  # the longest input that is taken as a whole, where pieces are as short as can be


@pytest.fixture(autouse=True)
def _short_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(1)
    monkeypatch.setattr(pieces, "SAMPLES", pieces.LEAST)


def network(preset: str, **sizes: Any) -> EEGM2:
    torch.manual_seed(0)
    return EEGM2(EEGM2Config.preset(preset, **{"n_chans": 5, "width": 8, **sizes})).eval()


def both(
    model: EEGM2, x: Tensor, monkeypatch: pytest.MonkeyPatch, **options: Any
) -> list[tuple[Tensor, Tensor]]:
    """What pieces give and what the whole gives, of the network and of its encoder."""
    taken: list[Tensor | None] = []

    def seen(*arguments: Any, **named: Any) -> Tensor | None:
        taken.append(pieces.in_pieces(*arguments, **named))
        return taken[-1]

    with torch.no_grad():
        monkeypatch.setattr(networks, "in_pieces", seen)
        found = [model(x, **options), model.encode(x, **options)]
        monkeypatch.setattr(networks, "in_pieces", lambda *_, **__: None)
        whole = [model(x, **options), model.encode(x, **options)]
    assert all(piece is y for piece, y in zip(taken, found))
    assert [y.shape for y in found] == [y.shape for y in whole]
    return list(zip(found, whole))


LENGTHS = [WINDOW + extra for extra in (1, 2, 4, 7, 8, 96, pieces.LEAST - 1, pieces.LEAST, pieces.LEAST + 1)]


@pytest.mark.parametrize("n_times", LENGTHS)
@pytest.mark.parametrize("preset", ["eegm2", "light", "s1"])
def test_equal_to_the_last_bit(preset: str, n_times: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for found, whole in both(network(preset), torch.randn(1, 5, n_times), monkeypatch):
        if n_times % 8:  # interpolation to lengths that are not twice as long may round otherwise
            torch.testing.assert_close(found, whole, rtol=1e-5, atol=1e-5)
        else:
            assert torch.equal(found, whole)


@pytest.mark.parametrize("n_times", [WINDOW + 1, WINDOW + 8, 3 * WINDOW + 44])
@pytest.mark.parametrize(
    ("preset", "sizes"),
    [
        ("s3", {}),
        ("s4", {}),
        ("covariance", {}),
        ("covariance", {"n_virtual": 0, "decoder": True, "trunk_blocks": 2}),
        ("covariance", {"sfreq_hz": 250.0, "token_hz": 3.0, "covariance_s": 2.0}),
        ("covariance", {"sfreq_hz": 400.0, "token_hz": 0.5, "covariance_s": 4.0}),
        ("eegm2", {"d_conv": 4, "width": 5, "n_chans": 1}),
        ("eegm2", {"norm_order": "after_residual", "ngroups": 2, "headdim": 16}),
    ],
    ids=str,
)
def test_equal_for_every_variant(
    preset: str, sizes: dict[str, Any], n_times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network(preset, **sizes)
    for found, whole in both(model, torch.randn(2, model.config.n_chans, n_times), monkeypatch):
        torch.testing.assert_close(found, whole, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("layout", ["expanded", "time first", "every other"])
def test_batches_layouts_and_threads(threads: int, layout: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_num_threads(threads)
    monkeypatch.setattr(pieces, "SAMPLES", threads * pieces.LEAST)
    n_times = WINDOW + 776
    x = {
        "expanded": torch.randn(1, 5, n_times).expand(5, -1, -1),
        "time first": torch.randn(5, n_times, 5).transpose(1, 2),
        "every other": torch.randn(5, 5, 2 * n_times)[..., ::2],
    }[layout]
    for found, whole in both(network("eegm2"), x, monkeypatch):
        assert torch.equal(found, whole)


def test_the_map_of_each_window_goes_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network("covariance")
    assert model.trunk is not None
    assert model.trunk.electrodes is not None
    spread = model.trunk.electrodes.get_buffer("spread") * torch.linspace(0.5, 1.5, 3)[:, None, None]
    for found, whole in both(model, torch.randn(3, 5, WINDOW + 32), monkeypatch, spread=spread):
        torch.testing.assert_close(found, whole, rtol=2e-5, atol=2e-5)


def test_what_is_not_a_number_stays_so_and_where_it_belongs(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.randn(1, 5, WINDOW + 800)
    x[0, 2, 900] = torch.nan
    for found, whole in both(network("eegm2"), x, monkeypatch):
        assert torch.equal(found.isnan(), whole.isnan())
        assert found.isnan().any()
        assert not found[..., : found.shape[2] // 4].isnan().any()


@pytest.mark.parametrize(
    "why", ["short", "gradients", "hook", "attention", "autocast", "traced", "no kernels"]
)
def test_the_whole_is_taken_where_pieces_may_not_be(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = network("s5" if why == "attention" else "light")
    x = torch.randn(1, 5, WINDOW + (8 if why != "short" else 0))

    def result() -> Tensor | None:
        return pieces.in_pieces(model, x, None, reconstruct=False)

    if why == "gradients":
        assert result() is None
        model.requires_grad_(False)
        assert result() is not None
        return
    with torch.no_grad():
        assert (result() is not None) == (why not in ("short", "attention"))
        if why == "hook":
            model.encoder.conv3.register_forward_hook(lambda *_: None)
        elif why == "no kernels":
            monkeypatch.setenv("EEGM2_BACKEND", "chunked")
        elif why == "traced":
            monkeypatch.setattr(torch.compiler, "is_exporting", lambda: True)
        with torch.autocast("cpu", enabled=why == "autocast"):
            assert result() is None


PEAK = """
import resource, sys, torch
from eegm2 import EEGM2, EEGM2Config
torch.set_num_threads(1)
model = EEGM2(EEGM2Config.preset("eegm2", n_chans=1, width=8)).eval()
with torch.no_grad():
    for _ in range(2):
        model(torch.zeros(1, 1, int(sys.argv[1])))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="resident memory is counted in KiB there")
def test_memory_between_input_and_output_does_not_grow() -> None:
    used = []
    for n_times in (38_400, 921_600):
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(n_times)],
            capture_output=True,
            text=True,
            timeout=600,
            check=True,
        )
        used.append(int(done.stdout) / 1024)
    assert used[1] < used[0] + 24, f"MiB of five minutes and of two hours: {used}"  # x1 alone would be 28
