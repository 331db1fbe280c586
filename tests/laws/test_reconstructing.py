"""Laws of reconstruction: the amplitude is the whole recording's, and a result says how it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mne
import numpy as np
import pytest
import torch

from eegm2.data.signal.quality import typical_amplitude
from eegm2.evaluation.config import ReconstructConfig
from eegm2.evaluation.features.representation import extract_features
from eegm2.evaluation.reconstruct import run as reconstructing
from eegm2.evaluation.reconstruct.overlap import reconstruct_array
from eegm2.evaluation.reconstruct.run import reconstruct_file
from eegm2.training.checkpoint import load_checkpoint, save_checkpoint
from tests.evaluation.helpers import CHANNELS, SFREQ_HZ, fake_run, labelled_store, rhythm, tiny_model


class Bending(torch.nn.Module):
    """Gives the hyperbolic tangent: what comes out depends on the scale that it was asked in."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.tanh()


@pytest.mark.parametrize("n_times", [None, 40])
def test_a_recordings_amplitude_is_that_of_all_of_it(n_times: int | None) -> None:
    """Also where its end is much louder than its beginning, and of every window alike."""
    x = np.random.default_rng(0).standard_normal((2, 200)).astype(np.float32)
    x[:, 100:] *= 30
    amplitude_uv = typical_amplitude(x)
    assert amplitude_uv > 2 * typical_amplitude(x[:, :40])
    found = reconstruct_array(Bending(), x, scaling="recording", n_times=n_times, overlap=0.0)
    np.testing.assert_allclose(found, np.tanh(x / amplitude_uv) * amplitude_uv, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scaling", ["none", "zscore", "robust", "quantile95", "recording"])
@pytest.mark.parametrize("asked", [{}, {"overlap": 0.25, "window_s": 1.5}, {"mode": "whole"}], ids=str)
def test_a_result_says_how_it_was_made_and_is_judged_so(
    asked: dict[str, Any], scaling: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = labelled_store(tmp_path / "store", subjects=1, seconds=4.0)
    header = load_checkpoint(fake_run(tmp_path / "plain", store)).header
    header["windows"] = {**header["windows"], "scaling": scaling}
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    save_checkpoint(tmp_path / "run" / "checkpoints" / "best.safetensors", tiny_model(), header)
    raw = mne.io.RawArray(
        rhythm(5, 200, np.random.default_rng(1)) * 1e-6,
        mne.create_info(list(CHANNELS), SFREQ_HZ, "eeg"),
        verbose="error",
    )
    raw.save(tmp_path / "kim_eeg.fif", verbose="error")
    judged: list[tuple[Any, ...]] = []
    true = reconstructing.reconstruction_scores
    monkeypatch.setattr(reconstructing, "reconstruction_scores", lambda *a: judged.append(a) or true(*a))
    config = ReconstructConfig(**asked)
    made = reconstruct_file(tmp_path / "run", tmp_path / "kim_eeg.fif", tmp_path / "out.fif", config)
    window_s = asked.get("window_s", 2.0)
    expected = {
        "file": str(tmp_path / "kim_eeg.fif"), "out": str(tmp_path / "out.fif"), "mode": config.mode,
        "window_s": window_s, "overlap": config.overlap, "scaling": scaling, "sfreq_hz": SFREQ_HZ,
        "n_samples": 200, "checkpoint": str(tmp_path / "run" / "checkpoints" / "best.safetensors"),
    }  # fmt: skip
    assert {name: made[name] for name in expected} == expected
    ((x, y, names, n_times, how),) = judged
    assert (names, n_times, how) == (list(CHANNELS), round(window_s * SFREQ_HZ), scaling)
    how_long = None if config.mode == "whole" else n_times
    whole = reconstruct_array(tiny_model(), x, scaling=scaling, n_times=how_long, overlap=config.overlap)
    np.testing.assert_allclose(y, whole, rtol=1e-5, atol=1e-4)
    kept = mne.io.read_raw_fif(tmp_path / "out.fif", verbose="error").get_data() * 1e6
    np.testing.assert_allclose(kept, y, rtol=1e-4, atol=1e-3)


class Told(torch.nn.Module):
    """Says in which mode it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.config = tiny_model().config
        self.seen: list[tuple[bool, bool]] = []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen.append((self.training, torch.is_grad_enabled()))
        return x

    encode = forward


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("ask", ["reconstruct", "features"])
def test_a_network_is_asked_as_it_answers_and_left_as_it_was(ask: str, training: bool) -> None:
    """Without dropout or gradients; a network that was learning goes on learning."""
    network = Told().train(training)
    x = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)
    if ask == "reconstruct":
        reconstruct_array(network, x, scaling="none", n_times=16)
    else:
        extract_features(network, x[None], kind="sequence")
    assert set(network.seen) == {(False, False)}
    assert network.training is training
