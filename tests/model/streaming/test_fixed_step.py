"""The streaming step of fixed size equals the stream, from the first sample to the last."""

from __future__ import annotations

import pytest
import torch

from eegm2.errors import ConfigError
from eegm2.model.streaming.fixed_step import StreamStep
from eegm2.model.streaming.fixed_step_mixers import one_chunk
from eegm2.ops import ssd
from tests.deploy.helpers import network, signal

OPEN = torch.tensor(2**40)


@torch.no_grad()
@pytest.mark.parametrize("preset", ["eegm2", "light", "s1", "s3", "s4"])
@pytest.mark.parametrize(("hop", "n_times"), [(8, 120), (32, 203), (64, 8)])
def test_steps_with_a_stated_end_equal_the_offline_network(preset: str, hop: int, n_times: int) -> None:
    model, x = network(preset), signal(n_times)
    step = StreamStep(model, hop, reconstruct=preset != "light")
    states, position, pieces = step.initial_states(2), torch.tensor(0), []
    padded = torch.nn.functional.pad(x, (0, 20 * hop + 64), value=1e3)  # what lies behind the end is ignored
    while position < n_times + 40:
        block = padded[..., position : position + hop]
        *outputs, position, states = split(step, step(block, position, torch.tensor(n_times), *states))
        pieces.append(outputs)
    f = torch.cat([p[0] for p in pieces], dim=2)[..., step.delay_steps :]
    torch.testing.assert_close(f[..., : n_times // 8], model.encode(x), rtol=0, atol=1e-4)
    if preset != "light" and n_times % 8 == 0:
        y = torch.cat([p[1] for p in pieces], dim=2)[..., step.delay_samples :]
        torch.testing.assert_close(y[..., :n_times], model(x), rtol=0, atol=1e-4)


def split(step: StreamStep, results: tuple) -> tuple:
    n = 1 + step.reconstructs
    return (*results[: n + 1], results[n + 1 :])


def test_delays_are_those_of_whole_steps() -> None:
    for preset, samples, steps in (("eegm2", 30, 2), ("s1", 22, 1), ("light", 0, 2)):
        step = StreamStep(network(preset), reconstruct=preset != "light")
        assert (step.delay_samples, step.delay_steps) == (samples, steps)


def test_one_chunk_is_the_scan() -> None:
    torch.manual_seed(0)
    x, dt, A = torch.randn(2, 11, 6, 4), torch.rand(2, 11, 6), -torch.rand(6)
    B, C, state = torch.randn(2, 11, 3, 5), torch.randn(2, 11, 3, 5), torch.randn(2, 6, 4, 5)
    for got, expected in zip(one_chunk(x, dt, A, B, C, state), ssd(x, dt, A, B, C, None, state)):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_wrong_hops_are_refused() -> None:
    with pytest.raises(ConfigError, match="hop: got 12 samples, expected a positive multiple of 8"):
        StreamStep(network(), 12)
