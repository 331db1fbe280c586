"""Export a trained model: files for other runtimes that are checked against torch before they appear."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

import eegm2
from eegm2.atomic import whole_folder
from eegm2.config import to_dict
from eegm2.deploy.config import ExportConfig
from eegm2.deploy.export.parts import Part, build_part, chosen_parts, window_part
from eegm2.deploy.export.translate import executorch_file, onnx_model, torch_program
from eegm2.deploy.heads.dense import DenseHead
from eegm2.deploy.heads.windowed import WindowedHead, refuse_other_model
from eegm2.deploy.trained_model import TrainedModel
from eegm2.errors import ConfigError
from eegm2.model.network import EEGM2

#: Mixers whose streaming step has a form that can be traced.
EXPORTED_MIXERS = ("mamba2", "mamba1")
#: What each format imports, and how to get it.
NEEDED = {
    "onnx": (("onnx", "onnxruntime", "onnxscript"), "pip install 'eegm2[export]'"),
    "torch": (("onnxruntime",), "pip install 'eegm2[export]'"),
    "executorch": (("executorch.exir", "onnxruntime"), "pip install 'eegm2[executorch]'"),
}


def export_model(
    trained: TrainedModel,
    out: str | Path,
    config: ExportConfig | None = None,
    head: DenseHead | WindowedHead | None = None,
) -> dict[str, Any]:
    """Write a folder with a model for other runtimes.

    Parameters
    ----------
    trained : TrainedModel
        See :func:`eegm2.deploy.trained_model.load_trained`.
    out : str or Path
        Folder to create: ``encoder.onnx``, ``reconstruction.onnx``, ``step.onnx``, the same with
        ``.int8.onnx`` and ``.pt2``, ``step.pte`` if asked for, and ``export.json`` with what was measured.
    config : ExportConfig, optional
    head : DenseHead or WindowedHead, optional
        Write ``bundle.onnx`` with the whole way from microvolts to decisions, and ``eegm2_runtime.py`` that
        runs it; other files only where parts or formats are asked for.

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
    if head is None and config.source_hz:
        raise ConfigError("source_hz: belongs to a bundle; give --head as well")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out}: is there already; name a new folder or remove it")
    model = trained.model
    whole = isinstance(head, WindowedHead) and not (config.parts or config.format)
    if not whole and (not isinstance(model, EEGM2) or model.config.mixer not in EXPORTED_MIXERS):
        name = trained.config.preset_name
        what = f"mixer {trained.config.mixer}" if name == "custom" else f"preset {name}"
        raise ConfigError(f"export: {what} is not supported; export eegm2, light, s1, s3 or s4")
    parts = []
    if isinstance(head, WindowedHead) and "executorch" in config.format:
        raise ConfigError(
            "format: executorch takes the streaming step, and this head was learnt on separate windows; "
            "write its bundle for ONNX Runtime"
        )
    if head is None or config.parts or set(config.format) - {"executorch"}:
        assert isinstance(model, EEGM2)
        parts = chosen_parts(model, config)
    _require_packages(config)
    with whole_folder(out) as folder:
        files: dict[str, Any] = {}
        for name in parts:
            assert isinstance(model, EEGM2)
            files |= _export_part(build_part(name, model, config), trained, folder, config)
        if head is not None:
            files |= _export_bundle(trained, head, folder, config)
        report = {"format": 1, "eegm2": eegm2.__version__, **trained.facts(), "config": to_dict(config)}
        report["files"] = files
        (folder / "export.json").write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n")
    return report


def _require_packages(config: ExportConfig) -> None:
    for form in config.formats:
        names, remedy = NEEDED[form]
        for name in names:
            try:
                import_module(name)
            except ImportError as error:
                raise ConfigError(f"export: {error.name} is missing; {remedy}") from error


def _export_part(part: Part, trained: TrainedModel, folder: Path, config: ExportConfig) -> dict[str, Any]:
    """Write and check the files of one part; return what was measured."""
    from eegm2.deploy.export.check import compare, executorch_runner, program_runner

    assert isinstance(trained.model, EEGM2)
    facts = _facts(part, trained)
    files: dict[str, Any] = {}
    if "onnx" in config.formats:
        files |= _export_onnx(part, facts, trained, folder, config)
    if "torch" in config.formats:
        path = folder / f"{part.name}.pt2"
        torch.export.save(torch_program(part), path)
        difference, _ = compare(part, trained.model, program_runner(path, part))
        files |= _measured(path, difference, config)
    if "executorch" in config.formats and part.name == "step":
        path = folder / f"{part.name}.pte"
        path.write_bytes(executorch_file(part, facts))
        difference, _ = compare(part, trained.model, executorch_runner(path))
        files |= _measured(path, difference, config, facts=facts)
    return files


def _facts(part: Part, trained: TrainedModel) -> dict[str, Any]:
    """Return what an exported file says of itself."""
    facts = {"part": part.name, **trained.facts(), **part.facts, "eegm2": eegm2.__version__}
    return {**facts, "latency_s": facts["latency_samples"] / trained.sfreq_hz}


def _export_onnx(
    part: Part, facts: dict[str, Any], trained: TrainedModel, folder: Path, config: ExportConfig
) -> dict[str, Any]:
    import onnx

    from eegm2.deploy.export.check import compare, onnx_runner
    from eegm2.deploy.export.quantise import weights_to_int8

    assert isinstance(trained.model, EEGM2)
    proto, files = onnx_model(part), {}

    def write(name: str, model: onnx.ModelProto, extra: dict[str, Any]) -> Path:
        path = folder / name
        onnx.helper.set_model_props(model, {"eegm2": json.dumps({**facts, **extra}, ensure_ascii=False)})
        onnx.save(model, path)
        files[name] = {"bytes": path.stat().st_size, **extra}
        return path

    path = write(f"{part.name}.onnx", proto, {})
    difference, _ = compare(part, trained.model, onnx_runner(path))
    files |= _measured(path, difference, config)
    if config.int8:
        small, count = weights_to_int8(proto)
        path = write(f"{part.name}.int8.onnx", small, {"int8_weights": count})
        _, loss = compare(part, trained.model, onnx_runner(path))
        write(path.name, small, {"int8_weights": count, "int8_loss": loss})
    return files


def _export_bundle(
    trained: TrainedModel, head: DenseHead | WindowedHead, folder: Path, config: ExportConfig
) -> dict[str, Any]:
    """Write the bundle and its runtime, and check the one through the other."""
    import onnx

    from eegm2.deploy.export.bundle import (
        RUNTIME_NAME,
        bundle_facts,
        check_bundle,
        refuse_other_head,
        runtime_source,
    )

    refuse_other_model(trained, head.facts)
    if isinstance(head, WindowedHead):
        part = window_part(head, trained.config.n_chans)
    else:
        assert isinstance(trained.model, EEGM2)
        refuse_other_head(trained, head)
        part = build_part("step", trained.model, config, reconstruct=False)
    facts = _facts(part, trained)
    bundle = bundle_facts(trained, head, config)
    bundle["latency_ms"]["network"] = round(1e3 * facts["latency_s"], 1)
    bundle["latency_ms"]["total"] = round(sum(bundle["latency_ms"].values()), 1)
    proto, path = onnx_model(part), folder / "bundle.onnx"
    facts["bundle"] = bundle
    onnx.helper.set_model_props(proto, {"eegm2": json.dumps(facts, ensure_ascii=False)})
    onnx.save(proto, path)
    made = _measured(path, check_bundle(path, trained, head), config, source=bundle["source"])
    (folder / RUNTIME_NAME).write_text(runtime_source(), encoding="utf-8")
    if "executorch" in config.format:  # the same bundle, its decisions checked in ExecuTorch's own runtime
        from eegm2.deploy.export.check import ExecutorchStream

        path = folder / "bundle.pte"
        path.write_bytes(executorch_file(part, facts))
        difference = check_bundle(path, trained, head, ExecutorchStream(path))
        made |= _measured(path, difference, config)
    return made | {RUNTIME_NAME: {"bytes": (folder / RUNTIME_NAME).stat().st_size}}


def _measured(path: Path, difference: float, config: ExportConfig, **more: Any) -> dict[str, Any]:
    """Return what is told of a file; refuse one that differs from torch."""
    if not difference <= config.tolerance:
        raise ConfigError(
            f"export: {path.name} differs from torch by {difference:.1e} of the largest output, more than "
            f"{config.tolerance:g}; raise --tolerance if that will do"
        )
    return {path.name: {"bytes": path.stat().st_size, "difference": difference, **more}}
