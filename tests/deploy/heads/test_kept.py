"""Kept probes and fine-tuned networks decide on a stream and on a device as they predict, or say why not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from eegm2.cli.main import app
from eegm2.data.files.readers import read_raw
from eegm2.data.windows.scaling import scale_window
from eegm2.deploy.heads.fit import fit_head
from eegm2.deploy.heads.windowed import WindowedHead
from eegm2.deploy.predict.classifier import load_classifier
from eegm2.deploy.stream.causal import CausalPreprocessor
from eegm2.deploy.trained_model import load_trained
from eegm2.errors import CheckpointError, ConfigError
from eegm2.evaluation.config import ProbeConfig
from eegm2.evaluation.finetuning.config import FinetuneConfig
from eegm2.evaluation.finetuning.run import finetune
from eegm2.evaluation.probing.run import probe
from eegm2.training.checkpoint import load_checkpoint, save_checkpoint
from tests.data.samples import eeg, write_edf
from tests.deploy.export.test_bundle import ALONE, EXAMPLE
from tests.evaluation.helpers import CHANNELS, SFREQ_HZ, fake_run, labelled_store
from tests.evaluation.protocols.test_modes import tokens_run


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders of probes and of fine-tuned runs, and a recording."""
    folder = tmp_path_factory.mktemp("kept")
    store = labelled_store(folder / "store")
    run = fake_run(folder / "run", store)
    for name, centre in (("probe", "none"), ("running", "running"), ("recording", "recording")):
        options = ProbeConfig(seeds=1, protocols=("linear",), centre=centre)
        probe(run, store.url, folder / name, options)
    for name, changes in TUNED.items():
        finetune(run, store.url, folder / name, FinetuneConfig(max_epochs=1, **changes))
    tokens = tokens_run(folder / "tokens")
    linear = FinetuneConfig(max_epochs=1, head="statistics", centre="running")
    finetune(tokens, store.url, folder / "tokens_running", linear)
    write_edf(folder / "r.edf", eeg(len(CHANNELS), 250 * 32, 250.0), CHANNELS, sfreq_hz=250.0)
    return folder


TUNED: dict[str, dict[str, Any]] = {
    "light": {"protocol": "light"},
    "fine": {},
    "flatten": {"head": "flatten"},
    "fine_running": {"centre": "running"},
    "attention_running": {"head": "attention", "centre": "running"},
    "fine_recording": {"centre": "recording"},
}
RUNNING = ("running", "fine_running", "attention_running", "tokens_running")


def call(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    if done.exception is not None:
        raise done.exception
    return done.output


def streamed(kept: Path, model: str, head: str, out: Path) -> list[dict]:
    more = ["--head", head] if head else []
    source = ["stream", "--source", kept / "r.edf", "--speed", 0, "--chunk-s", 1, "--model", kept / model]
    call(*source, *more, "--out", out)
    return [json.loads(line) for line in out.read_text().splitlines() if '"decision"' in line]


CASES = [("probe", ""), ("light", "light"), ("fine", ""), ("flatten", ""), ("running", "linear")]
CASES += [("fine_running", ""), ("attention_running", "fine"), ("tokens_running", "")]


@pytest.mark.parametrize(("model", "head"), CASES)
def test_a_kept_model_says_of_a_window_what_it_predicts(
    model: str, head: str, kept: Path, tmp_path: Path
) -> None:
    decisions = streamed(kept, model, head, tmp_path / "o.jsonl")
    classifier = load_classifier(kept / model, head)
    raw, checkpointed = read_raw(kept / "r.edf"), classifier.checkpoint
    causal = CausalPreprocessor(
        list(raw.ch_names), 250.0, checkpointed.preprocessing, tuple(checkpointed.header["ch_names"])
    )
    prepared = np.concatenate([causal.push(raw[:][0] * 1e6), causal.flush()], axis=1)
    n = round(classifier.windows.window_s * SFREQ_HZ)
    assert len(decisions) >= 5
    checked = 0
    for decision in decisions[-6:]:
        if model in RUNNING:
            break
        end = round(decision["time_s"] * SFREQ_HZ)
        x = scale_window(prepared[:, end - n : end], classifier.windows.scaling)[None]
        expected = classifier.probabilities(x, classifier.features(x, 1, "cpu"), 1, "cpu")[0]
        np.testing.assert_allclose(decision["probabilities"], expected, atol=1e-5)
        assert decision["decided"] == classifier.classes[classifier.decide(expected[None])[0]]
        checked += 1
    if model in RUNNING:  # of windows side by side, from the fifteenth on
        ends = range(n, prepared.shape[1] + 1, n)
        x = np.stack([scale_window(prepared[:, end - n : end], "quantile95") for end in ends])
        taken = classifier.features(x, 8, "cpu")
        if taken is not None:
            taken = classifier.centred(taken, np.arange(len(x)) * n / SFREQ_HZ, n / SFREQ_HZ)
        expected = classifier.probabilities(x, taken, 8, "cpu")
        found = {round(d["time_s"] * SFREQ_HZ): d["probabilities"] for d in decisions}
        assert min(found) == 15 * n
        for row, end in zip(expected[14:], list(ends)[14:]):
            np.testing.assert_allclose(found[end], row, atol=1e-5)
            checked += 1
    assert checked


@pytest.mark.parametrize(
    ("model", "head"),
    [
        ("fine", "fine"),
        pytest.param("fine_running", "fine", marks=pytest.mark.slow),
        pytest.param("tokens_running", "fine", marks=pytest.mark.slow),
        pytest.param("probe", "linear", marks=pytest.mark.slow),
        pytest.param("flatten", "fine", marks=pytest.mark.slow),
    ],
)
def test_its_bundle_decides_as_its_stream_does(model: str, head: str, kept: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    theirs, out = streamed(kept, model, head, tmp_path / "o.jsonl"), tmp_path / "device"
    call("export", kept / model, "--head", head, "--out", out, "--source-hz", 250)
    samples = read_raw(kept / "r.edf")[:][0].T * 1e6
    text = "\n".join(",".join(f"{value:.9g}" for value in row) for row in samples)
    command = [sys.executable, "-c", ALONE, str(EXAMPLE), str(out)]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    ours = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(ours) == len(theirs) >= 5
    for one, other in zip(ours, theirs):
        np.testing.assert_allclose(one["probabilities"], other["probabilities"], rtol=0, atol=1e-4)
        assert (one["decided"], one["sample"]) == (other["decided"], other["sample"])
        assert one["time_s"] == pytest.approx(other["time_s"], abs=1e-5)


def test_what_a_stream_does_not_have_is_refused_with_the_reason(kept: Path, tmp_path: Path) -> None:
    base = ["stream", "--source", kept / "r.edf", "--speed", 0]
    with pytest.raises(
        ConfigError, match=r"learnt on features less the mean of their whole recording.*head --c"
    ):
        call(*base, "--model", kept / "recording")
    with pytest.raises(ConfigError, match=r"less the mean of their whole recording.*--centre running"):
        call(*base, "--model", kept / "fine_recording")
    with pytest.raises(ConfigError, match=r"centres features inside a fine-tuned network, which a bundle"):
        call("export", kept / "attention_running", "--head", "fine", "--out", tmp_path / "x")
    classifier = load_classifier(kept / "probe")
    facts = {**classifier.facts, "scaling": "recording"}
    with pytest.raises(
        ConfigError, match=r"scaled by their whole recording, which a stream does not have; fit"
    ):
        WindowedHead(classifier.checkpoint.model, classifier.classes, facts, classifier.head)
    with pytest.raises(ConfigError, match="predicts values, and a stream decides between classes"):
        WindowedHead(classifier.checkpoint.model, (), classifier.facts, classifier.head)
    with pytest.raises(CheckpointError, match=r"--head none: .* has linear; choose one of them"):
        call(*base, "--model", kept / "probe", "--head", "none")


def test_a_head_of_another_model_of_the_same_size_is_refused(kept: Path, tmp_path: Path) -> None:
    here = kept / "run" / "checkpoints" / "best.safetensors"
    again = load_checkpoint(here)
    save_checkpoint(tmp_path / "same.safetensors", again.model, again.header)
    known = load_trained(here).weights_sha256
    assert load_trained(tmp_path / "same.safetensors").weights_sha256 == known, "whatever the file"
    with torch.no_grad():
        next(again.model.parameters()).flatten()[0] += 1e-3
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, again.model, again.header)
    head = kept / "probe" / "heads" / "linear.safetensors"
    command = ["stream", "--source", kept / "r.edf", "--speed", 0, "--head", head, "--model"]
    call(*command, tmp_path / "same.safetensors")
    with pytest.raises(
        ConfigError, match=r"fitted on a model with the hash \w{12}, this one \(other.safetensors"
    ):
        call(*command, other)
    with pytest.raises(ConfigError, match=r"fitted on a model with the hash"):
        call("export", other, "--head", head, "--out", tmp_path / "x")
    fitted = fit_head(here, kept / "store", val=0.0, calibration_s=4.0)
    fitted.save(tmp_path / "h.safetensors")
    command[command.index(head)] = tmp_path / "h.safetensors"
    with pytest.raises(ConfigError, match=r"fitted on a model with the hash"):
        call(*command, other)
