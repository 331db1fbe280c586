"""Parity with the authors' code: outputs, loss, every gradient, parameter counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from eegm2 import EEGM2Config, build_model, load_authors_checkpoint
from eegm2.model.authors import _names
from tests.model.vectors import PARAMETERS, PRESET_OF, SEEDS, vectors, weights

OUTPUT_ATOL, LOSS_RTOL, GRADIENT_RTOL = 1e-4, 1e-5, 1e-3


def authors_loss(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Eq. 1 with alpha = beta = 1, un-normalised transform; written apart from the library's objective."""
    difference = torch.fft.rfft(y.double() - x.double())
    return (y - x).abs().double().mean() + (difference.real**2 + difference.imag**2).mean()


def compare(model: torch.nn.Module, variant: str) -> dict[str, float]:
    """Return the largest deviations from the reference."""
    stored = vectors(variant)
    x = torch.from_numpy(stored["x"])
    y = model(x)
    report = {"output": float((y.detach() - torch.from_numpy(stored["y"])).abs().max())}
    if "loss" not in stored:
        return report
    loss = authors_loss(y, x)
    report["loss"] = abs(float(loss.detach()) / float(stored["loss"]) - 1)
    loss.backward()
    parameters = {id(p): p for p in model.parameters()}
    by_pointer = {p.data_ptr(): p for p in parameters.values()}
    norms, whole = [], []
    for _, authors, tensor in _names(model):
        gradient = by_pointer[tensor.data_ptr()].grad
        assert gradient is not None, authors
        expected = float(stored[f"gradnorm/{authors}"])
        norms.append(abs(float(gradient.double().norm()) / expected - 1))
        if f"grad/{authors}" in stored:
            reference = torch.from_numpy(stored[f"grad/{authors}"]).double()
            whole.append(float((gradient.double() - reference).norm() / reference.norm()))
    report["gradient_norm"], report["gradient"] = max(norms), max(whole)
    return report


@pytest.mark.parametrize("variant", SEEDS)
def test_outputs_loss_and_gradients_match_the_authors_code(variant: str) -> None:
    model = load_authors_checkpoint(weights(variant))
    report = compare(model, variant)
    assert report["output"] < OUTPUT_ATOL
    if variant != "EEGM2_Light":
        assert report["loss"] < LOSS_RTOL
        assert report["gradient_norm"] < GRADIENT_RTOL
        assert report["gradient"] < GRADIENT_RTOL


@pytest.mark.parametrize(
    "key", ["encoder1.1.mamba.A_log", "bottleneck.1.mamba.in_proj.weight", "decoder1.bias"]
)
def test_one_percent_is_seen(key: str) -> None:
    state = weights("EEGM2")
    state[key] = state[key] * 1.01
    report = compare(load_authors_checkpoint(state), "EEGM2")
    assert report["output"] > OUTPUT_ATOL or report["gradient_norm"] > GRADIENT_RTOL


@pytest.mark.parametrize("variant", PARAMETERS)
def test_parameter_counts_are_the_papers(variant: str) -> None:
    model = build_model(EEGM2Config.preset(PRESET_OF[variant], n_chans=16))
    assert sum(p.numel() for p in model.parameters()) == PARAMETERS[variant]


def test_light_is_the_encoder_of_the_whole() -> None:
    model = load_authors_checkpoint(weights("EEGM2"))
    x = torch.from_numpy(vectors("EEGM2")["x"])
    light = model.light()
    torch.testing.assert_close(light(x), model.encode(x), rtol=0, atol=0)
    assert light.encoder is model.encoder
    assert np.prod(light(x).shape) == 2 * 256 * 31
