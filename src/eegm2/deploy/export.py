"""Export a trained model: ONNX and torch.export files that are checked against torch before they appear."""

from __future__ import annotations

import json
import shutil
import uuid
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import eegm2
from eegm2.config import to_dict
from eegm2.deploy.config import PARTS, ExportConfig
from eegm2.deploy.source_model import TrainedModel
from eegm2.deploy.streaming import StreamingEEGM2
from eegm2.errors import ConfigError
from eegm2.model.network import EEGM2
from eegm2.model.step import StreamStep

#: Batch and length of the inputs on which exported files are compared with torch; the traced one is (2, 264).
CHECKED = ((1, 8), (1, 9), (3, 63), (2, 500), (1, 1003))
TRACED = (2, 264)


class Encode(nn.Module):
    """The encoder of a model as a module of its own."""

    def __init__(self, model: EEGM2) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_chans, n_times) to (batch, 4w, n_times // 8)."""
        return self.model.encode(x)


@dataclass(frozen=True)
class Part:
    """One thing to export: module, example input, which axes are free, and names."""

    name: str
    module: nn.Module
    example: tuple[Tensor, ...]
    dynamic: tuple[dict[int, Any] | None, ...]
    inputs: list[str]
    outputs: list[str]
    facts: dict[str, Any]


def export_model(
    trained: TrainedModel, out: str | Path, config: ExportConfig | None = None
) -> dict[str, Any]:
    """Write a folder with a model for other runtimes.

    Parameters
    ----------
    trained : TrainedModel
        See :func:`eegm2.deploy.source_model.load_trained`.
    out : str or Path
        Folder to create: ``encoder.onnx``, ``reconstruction.onnx``, ``step.onnx``, the same with
        ``.int8.onnx`` and ``.pt2``, and ``export.json`` with what was measured.
    config : ExportConfig, optional

    Returns
    -------
    dict
        The content of ``export.json``: per file its size, largest difference from torch relative to the
        largest output, and for 8-bit weights the loss ``|y8 - y| / |y|`` (root mean square).

    Raises
    ------
    ConfigError
        If the folder is there already, a part does not exist in this model, the packages are missing or an
        exported file differs from torch by more than the tolerance; nothing is written then.
    """
    config = config or ExportConfig()
    out = Path(out)
    _require_packages()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: is there already; name a new folder or remove it")
    model = trained.model
    if not isinstance(model, EEGM2) or model.config.mixer == "attention":
        name = getattr(getattr(model, "config", None), "preset_name", type(model).__name__)
        raise ConfigError(f"export: preset {name} is not supported; export eegm2, light, s1, s3 or s4")
    parts = _chosen(model, config)
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.with_name(f".{out.name}.tmp-{uuid.uuid4().hex[:8]}")
    folder.mkdir()
    try:
        files: dict[str, Any] = {}
        for name in parts:
            files |= _export_part(_part(name, model, config), trained, folder, config)
        report = {"format": 1, "eegm2": eegm2.__version__, **trained.facts(), "config": to_dict(config)}
        report["files"] = files
        (folder / "export.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
        if out.exists():
            out.rmdir()
        folder.replace(out)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return report


def _require_packages() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ConfigError(f"export: {error.name} is missing; pip install 'eegm2[export]'") from error


def _chosen(model: EEGM2, config: ExportConfig) -> list[str]:
    """Return the parts to write."""
    there = [part for part in PARTS if part != "reconstruction" or model.config.decoder]
    absent = [part for part in config.parts if part not in there]
    if absent:
        raise ConfigError(
            f"parts: got '{absent[0]}', but this model has no decoder; it has {', '.join(there)}"
        )
    return [part for part in there if part in config.parts or not config.parts]


def _part(name: str, model: EEGM2, config: ExportConfig) -> Part:
    n_chans, auto = model.config.n_chans, torch.export.Dim.DYNAMIC
    if name != "step":
        module: nn.Module = Encode(model) if name == "encoder" else model
        stream = StreamingEEGM2(model, output="representation" if name == "encoder" else "reconstruction")
        y = "representation" if name == "encoder" else "reconstruction"
        x = torch.randn(TRACED[0], n_chans, TRACED[1])
        facts = {"outputs": [y], "latency_samples": stream.latency_samples}
        return Part(name, module.eval(), (x,), ({0: auto, 2: auto},), ["x"], [y], facts)
    step = StreamStep(model, config.hop, reconstruct=model.config.decoder).eval()
    states = step.initial_states(TRACED[0])
    outputs = ["representation", *(["reconstruction"] if model.config.decoder else [])]
    example = (torch.randn(TRACED[0], n_chans, config.hop), torch.tensor(64), torch.tensor(2**40), *states)
    free: dict[int, Any] = {0: auto}
    return Part(
        name,
        step,
        example,
        (free, None, None, *(free for _ in states)),
        ["x", "position", "end", *(f"state.{n}" for n in step.state_shapes)],
        [*outputs, "next_position", *(f"next.{n}" for n in step.state_shapes)],
        {
            "outputs": outputs,
            "hop": config.hop,
            "delay_samples": step.delay_samples,
            "delay_steps": step.delay_steps,
            "states": {n: list(shape) for n, shape in step.state_shapes.items()},
            # a sample waits at most hop - 1 samples for its step to be complete
            "latency_samples": config.hop - 1 + max(step.delay_samples, 8 * step.delay_steps),
        },
    )


def _export_part(part: Part, trained: TrainedModel, folder: Path, config: ExportConfig) -> dict[str, Any]:
    """Write and check the files of one part; return what was measured."""
    import onnx

    from eegm2.deploy.quantise import weights_to_int8

    facts = {"part": part.name, **trained.facts(), **part.facts, "eegm2": eegm2.__version__}
    facts["latency_s"] = facts["latency_samples"] / trained.sfreq_hz
    program, proto = _translate(part)
    files: dict[str, Any] = {}

    def write(name: str, model: onnx.ModelProto, extra: dict[str, Any]) -> Path:
        path = folder / name
        onnx.helper.set_model_props(model, {"eegm2": json.dumps({**facts, **extra}, ensure_ascii=False)})
        onnx.save(model, path)
        files[name] = {"bytes": path.stat().st_size, **extra}
        return path

    path = write(f"{part.name}.onnx", proto, {})
    difference, _ = _compare(part, trained, _onnx_runner(path))
    if not difference <= config.tolerance:
        raise ConfigError(
            f"export: {path.name} differs from torch by {difference:.1e} of the largest output, more than "
            f"{config.tolerance:g}; raise --tolerance if that will do"
        )
    files[path.name]["difference"] = difference
    if config.int8:
        small, count = weights_to_int8(proto)
        path = write(f"{part.name}.int8.onnx", small, {"int8_weights": count})
        _, loss = _compare(part, trained, _onnx_runner(path))
        write(path.name, small, {"int8_weights": count, "int8_loss": loss})
    if config.torch_export:
        path = folder / f"{part.name}.pt2"
        torch.export.save(program, path)
        difference, _ = _compare(part, trained, _program_runner(path, part))
        files[path.name] = {"bytes": path.stat().st_size, "difference": difference}
    return files


def _translate(part: Part) -> tuple[Any, Any]:
    """Return the torch.export program and the ONNX model of a part."""
    from torch.fx.experimental import _config as symbolic

    dynamic = part.dynamic if part.name != "step" else (*part.dynamic[:3], part.dynamic[3:])
    oblivious = symbolic.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    with torch.no_grad(), warnings.catch_warnings(), oblivious:
        warnings.simplefilter("ignore")
        program = torch.export.export(part.module, part.example, dynamic_shapes=dynamic, strict=False)
        translated = torch.onnx.export(
            program,
            dynamo=True,
            input_names=part.inputs,
            output_names=part.outputs,
            verbose=False,
            external_data=False,
        )
    assert translated is not None
    return program, translated.model_proto


Runner = Callable[[np.ndarray], dict[str, np.ndarray]]


def _onnx_runner(path: Path) -> Runner:
    """Return the file as a function of whole signals, through the runtime that users get."""
    from eegm2.deploy.runtime import OnnxModel, OnnxStream, open_session

    facts = open_session(path)[1]
    if facts["part"] != "step":
        model = OnnxModel(path)
        return lambda x: {facts["outputs"][0]: model(x)}

    def run(x: np.ndarray) -> dict[str, np.ndarray]:
        stream = OnnxStream(path, batch=x.shape[0])
        cut = x.shape[2] // 3
        pushed = [stream.push(x[:, :, :cut]), stream.push(x[:, :, cut:]), stream.flush()]
        return {name: np.concatenate([p[name] for p in pushed], axis=2) for name in pushed[0]}

    return run


def _program_runner(path: Path, part: Part) -> Runner:
    """Return a torch.export program as a function of signals (of one step from fresh states)."""
    program = torch.export.load(path).module(check_guards=False)

    @torch.no_grad()
    def run(x: np.ndarray) -> dict[str, np.ndarray]:
        arguments = [torch.from_numpy(x)]
        if part.name == "step":
            step = part.module
            assert isinstance(step, StreamStep)
            first = torch.nn.functional.pad(arguments[0], (0, step.hop))[..., : step.hop]
            arguments = [first, torch.tensor(0), torch.tensor(2**40), *step.initial_states(x.shape[0])]
            y = program(*arguments)
            expected = step(*arguments)
            return {"step": torch.stack([(a - b).abs().max() for a, b in zip(y, expected)]).numpy()}
        return {part.outputs[0]: program(*arguments).numpy()}

    return run


@torch.no_grad()
def _compare(part: Part, trained: TrainedModel, run: Runner) -> tuple[float, float]:
    """Return the largest relative difference from torch and the relative loss over all checked inputs."""
    model = trained.model
    assert isinstance(model, EEGM2)
    worst, squared, energy = 0.0, 0.0, 0.0
    for seed, (batch, n_times) in enumerate(CHECKED):
        x = noise(batch, model.config.n_chans, n_times, seed)
        got = run(x)
        if "step" in got:
            worst = max(worst, float(got["step"].max()))
            continue
        expected = _expected(model, part, torch.from_numpy(x))
        for name, y in got.items():
            reference = expected[name]
            if y.shape != reference.shape:
                raise ConfigError(f"export: {part.name} gives {y.shape} at {n_times} samples")
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
