"""Exported files against torch, on whole signals and through the runtimes that users get."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eegm2.deploy.export.parts import Part
from eegm2.deploy.export.runtime import OnnxModel, OnnxStream, StepStream, open_session
from eegm2.deploy.stream.streaming import StreamingEEGM2
from eegm2.errors import ConfigError
from eegm2.model.network import EEGM2
from eegm2.model.streaming.fixed_step import StreamStep

#: Batch and length of the inputs on which exported files are compared with torch; the traced one is (2, 264).
#: Lengths are from one step of 8 samples on; networks of longer steps get as much more.
CHECKED = ((1, 8), (1, 9), (3, 63), (2, 500), (1, 1003))

FileRun = Callable[[np.ndarray], dict[str, np.ndarray]]


def onnx_runner(path: Path) -> FileRun:
    """Return an ONNX file as a function of whole signals."""
    facts = open_session(path)[1]
    if facts["part"] != "step":
        model = OnnxModel(path)
        return lambda x: {facts["outputs"][0]: model(x)}
    return lambda x: _streamed(OnnxStream(path, batch=x.shape[0]), x)


class ExecutorchStream(StepStream):
    """A streaming step in ExecuTorch's own runtime, as `OnnxStream` in ONNX Runtime; takes torch besides.

    Parameters
    ----------
    path : str or Path
        ``step.pte`` or ``bundle.pte``.
    """

    def __init__(self, path: str | Path) -> None:
        from executorch.runtime import Runtime

        program = Runtime.get().load_program(path)
        facts = json.loads(bytes(program.load_method("eegm2").execute([])[0].numpy()))
        self.method = program.load_method("forward")
        states = list(facts["states"])
        self.inputs = ["x", "position", "end", *(f"state.{name}" for name in states)]
        self.outputs = [*facts["outputs"], "next_position", *(f"next.{name}" for name in states)]
        super().__init__(facts, batch=1)

    def _run(self, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        values = self.method.execute([torch.from_numpy(feed[name]) for name in self.inputs])
        return {name: value.numpy().copy() for name, value in zip(self.outputs, values)}


def executorch_runner(path: Path) -> FileRun:
    """Return an ExecuTorch step as a function of whole signals, one stream after another."""

    def run(x: np.ndarray) -> dict[str, np.ndarray]:
        results = [_streamed(ExecutorchStream(path), item[None]) for item in x]
        return {name: np.concatenate([r[name] for r in results]) for name in results[0]}

    return run


def _streamed(stream: StepStream, x: np.ndarray) -> dict[str, np.ndarray]:
    """Push a signal in two pieces and flush."""
    cut = x.shape[2] // 3
    pushed = [stream.push(x[:, :, :cut]), stream.push(x[:, :, cut:]), stream.flush()]
    return {name: np.concatenate([p[name] for p in pushed], axis=2) for name in pushed[0]}


def program_runner(path: Path, part: Part) -> FileRun:
    """Return a torch.export program as a function of signals (of one step from fresh states)."""
    program = torch.export.load(path)
    guarded = "check_guards" in inspect.signature(program.module).parameters  # torch 2.7 has no guards
    call = program.module(check_guards=False) if guarded else program.module()

    @torch.no_grad()
    def run(x: np.ndarray) -> dict[str, np.ndarray]:
        arguments = [torch.from_numpy(x)]
        if part.name == "step":
            step = part.module
            assert isinstance(step, StreamStep)
            first = torch.nn.functional.pad(arguments[0], (0, step.hop))[..., : step.hop]
            arguments = [first, torch.tensor(0), torch.tensor(2**40), *step.initial_states(x.shape[0])]
            y = call(*arguments)
            expected = step(*arguments)
            return {"step": torch.stack([(a - b).abs().max() for a, b in zip(y, expected)]).numpy()}
        return {part.outputs[0]: call(*arguments).numpy()}

    return run


@torch.no_grad()
def compare(part: Part, model: EEGM2, run: FileRun) -> tuple[float, float]:
    """Return the largest relative difference from torch and the relative loss over all checked inputs.

    Raises
    ------
    ConfigError
        If an output has another shape than torch's.
    """
    worst, squared, energy = 0.0, 0.0, 0.0
    for seed, (batch, n_times) in enumerate(CHECKED):
        n_times += model.config.step_samples - 8
        x = noise(batch, model.config.n_chans, n_times, seed)
        got = run(x)
        if "step" in got:
            worst = max(worst, float(got["step"].max()))
            continue
        expected = _expected(model, part, torch.from_numpy(x))
        for name, y in got.items():
            reference = expected[name]
            if y.shape != reference.shape:
                raise ConfigError(
                    f"export: {part.name} gives {y.shape} at {n_times} samples, torch {reference.shape}; "
                    "please report it with the versions of torch and onnxruntime"
                )
            worst = max(worst, float(np.abs(y - reference).max() / np.abs(reference).max()))
            squared += float(np.square(y - reference).sum())
            energy += float(np.square(reference).sum())
    return worst, (squared / energy) ** 0.5 if energy else 0.0


def _expected(model: EEGM2, part: Part, x: Tensor) -> dict[str, np.ndarray]:
    """Return torch's outputs for a whole signal."""
    if part.name == "encoder":
        return {"representation": model.encode(x).numpy()}
    if part.name == "reconstruction":
        return {"reconstruction": model(x).numpy()}
    output = "reconstruction" if model.config.decoder else "representation"
    stream = StreamingEEGM2(model, output=output)  # type: ignore[arg-type]
    first, last = stream.advance(x), stream.finish()
    both = [torch.cat(pair, dim=2).numpy() for pair in zip(first, last)]
    return dict(zip(("representation", "reconstruction"), both))


def noise(batch: int, n_chans: int, n_times: int, seed: int) -> np.ndarray:
    """Return 1/f noise of unit 0.95 quantile, (batch, n_chans, n_times) float32."""
    white = np.random.default_rng(seed).standard_normal((batch, n_chans, n_times))
    spectrum = np.fft.rfft(white)
    spectrum /= np.sqrt(np.maximum(np.arange(spectrum.shape[-1]), 1.0))
    x = np.fft.irfft(spectrum, n=n_times)
    return (x / np.quantile(np.abs(x), 0.95, axis=-1, keepdims=True)).astype(np.float32)
