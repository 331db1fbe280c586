"""A bundle: the streaming step of the encoder with everything before and after it, in one ONNX file."""

from __future__ import annotations

import ast
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch

from eegm2.config import split_commas, to_dict
from eegm2.data.signal.preprocessing import AMPLITUDE_LIMITS_UV
from eegm2.deploy.config import ExportConfig, StreamConfig
from eegm2.deploy.device.decisions import StreamCentring
from eegm2.deploy.device.scale import RunningScale
from eegm2.deploy.export.decoder import Decoder
from eegm2.deploy.export.packing import packed
from eegm2.deploy.export.runtime import StepStream
from eegm2.deploy.heads.decisions import SlidingFeatures, rule_of
from eegm2.deploy.heads.dense import DenseHead
from eegm2.deploy.heads.windowed import WindowedFeatures, WindowedHead
from eegm2.deploy.long import encode_long
from eegm2.deploy.stream.causal import CausalPreprocessor
from eegm2.deploy.trained_model import TrainedModel
from eegm2.errors import ConfigError
from eegm2.evaluation.features.centring import WARM_UP_WINDOWS
from eegm2.model.features import diagonal, n_features

#: Modules of which the runtime beside a bundle is made, in this order, and what of them where it is not all;
#: that needs NumPy, ONNX Runtime and each other alone.
RUNTIME_MODULES = (
    *("errors", "evaluation/features/centring:WARM_UP_WINDOWS,RunningMean", "deploy/device/filters"),
    *("deploy/device/scale", "deploy/device/decisions", "deploy/device/features", "deploy/device/flat"),
    *("deploy/device/flags", "deploy/device/timeline", "records", "deploy/device/calibration"),
    "deploy/device/flow",
    *("deploy/export/packing", "deploy/export/runtime", "deploy/export/decoder"),
)
RUNTIME_NAME = "eegm2_runtime.py"


def bundle_facts(
    trained: TrainedModel, head: DenseHead | WindowedHead, config: ExportConfig
) -> dict[str, Any]:
    """Return everything of a bundle but the network, as plain values.

    Parameters
    ----------
    trained : TrainedModel
    head : DenseHead or WindowedHead
        Fitted on this model.
    config : ExportConfig
        ``channels`` and ``source_hz`` of the device; without, those of the model.

    Raises
    ------
    ConfigError, DataError
        If the head does not belong to the model, or the device's channels or rate do not fit.
    """
    shape, stream, facts = trained.config, StreamConfig(), head.facts
    names = list(split_commas(config.channels) or trained.ch_names)
    source_hz = config.source_hz or trained.sfreq_hz
    window_s = float(facts.get("window_s", trained.window_s or 4.0))
    hop_s = float(facts.get("hop_s", stream.hop_s))
    windowed = isinstance(head, WindowedHead)
    steps_per_s = trained.sfreq_hz if windowed else trained.sfreq_hz / shape.step_samples
    causal = CausalPreprocessor(names, source_hz, trained.preprocessing, trained.ch_names, where="device")
    if config.flat == "interpolate":
        causal.refuse_unknown_electrodes()
    kernel, places = causal.electrodes()
    delays = {"filter": causal.filter.delay_s(), "resampling": causal.resampler.delay_s}
    tokens = None
    if shape.embedding == "covariance":
        tokens = {
            "token_step": shape.token_step,
            "window_tokens": shape.window_tokens,
            "kernel_taps": shape.kernel_taps,
            "diagonal": diagonal(shape),
        }
    preprocessing = to_dict(trained.preprocessing)
    compared = ("reference", "offset", "l_freq_hz", "h_freq_hz", "notch_hz", "sfreq_hz", "scale")
    return {
        "format": 1,
        "source": {"ch_names": names, "sfreq_hz": source_hz, "unit": "microvolts"},
        "classes": list(head.classes),
        "sfreq_hz": trained.sfreq_hz,
        "matrix": packed(causal.matrix * causal.scale),
        "from_zero": causal.from_zero,
        "sos": packed(causal.filter.sos),
        "settled": packed(causal.filter.settled.reshape(-1, 2)),
        "ratio": [causal.resampler.up, causal.resampler.down],
        "taps": packed(causal.resampler.taps),
        "scaling": facts.get("scaling", trained.scaling),
        "window_s": window_s,
        "calibration_s": float(facts.get("calibration_s", 60.0)),
        "adapt_s": float(facts.get("adapt_s", 0.0)),
        "amplitude_uv": list(AMPLITUDE_LIMITS_UV) if trained.preprocessing.amplitude == "microvolts" else [],
        "features": head.kind if isinstance(head, WindowedHead) else facts.get("features", "statistics"),
        "window_steps": head.n_times
        if isinstance(head, WindowedHead)
        else max(1, round(window_s * steps_per_s)),
        "hop_steps": max(1, round(hop_s * steps_per_s)),
        "hop_s": hop_s,
        "trunk_channels": shape.trunk_channels if tokens else shape.representation_channels,
        "tokens": tokens,
        "centre": head.centre if isinstance(head, WindowedHead) else facts.get("centre", "none"),
        "warm_up": int(facts.get("warm_up", WARM_UP_WINDOWS)),
        "head": _head_facts(head.head if isinstance(head, WindowedHead) else head, len(head.classes)),
        "rule": rule_of(facts, config),
        "flat": config.flat,
        "electrodes": {"kernel": packed(kernel), "places": places.tolist()} if len(places) else None,
        "max_gap_s": stream.max_gap_s,
        "whose": {
            "method": facts.get("scaling", trained.scaling),
            "ch_names": list(trained.ch_names),
            "preprocessing": {name: preprocessing[name] for name in compared} | {"causal": True},
        },
        "latency_ms": {name: round(1e3 * value, 1) for name, value in delays.items()},
        "validation": facts.get("validation"),
    }


def _head_facts(head: DenseHead | None, n_classes: int) -> dict[str, Any]:
    """Return a dense head as plain values; a network that has its own needs the probabilities alone."""
    if head is None:
        nothing, one = packed(np.zeros(n_classes)), packed(np.ones(n_classes))
        return {"mean": nothing, "scale": one, "layers": [], "link": "softmax"}
    layers = [[packed(weight), packed(bias)] for weight, bias in head.layers]
    return {"mean": packed(head.mean), "scale": packed(head.scale), "layers": layers, "link": head.link}


def refuse_other_head(trained: TrainedModel, head: DenseHead) -> None:
    """Raise a ConfigError where a head takes another number of features than the model gives."""
    shape, kind = trained.config, head.facts.get("features", "statistics")
    made = n_features(kind, shape)
    if made != len(head.mean):
        raise ConfigError(
            f"head: takes {len(head.mean)} {kind} features, the model gives {made}; fit it on this model"
        )


def runtime_source() -> str:
    """Return the runtime as one Python file, joined from the modules that `eegm2 stream` runs itself."""
    imports: dict[str, None] = {}
    bodies = []
    for module_name in RUNTIME_MODULES:
        path, _, chosen = module_name.partition(":")
        text = files("eegm2").joinpath(f"{path}.py").read_text(encoding="utf-8")
        lines, kept, at = text.splitlines(), [], 0
        for node in ast.parse(text).body:
            first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", ()))])
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = node.module if isinstance(node, ast.ImportFrom) else node.names[0].name
                if module != "__future__" and not str(module).startswith("eegm2"):
                    imports[ast.unparse(node)] = None
            elif not (isinstance(node, ast.Expr) and first == 1) and _is_chosen(node, chosen):
                comment = [line for line in lines[at : first - 1] if line.startswith("#")]
                kept += ["", "", *comment, *lines[first - 1 : node.end_lineno]]
            at = node.end_lineno or at
        bodies += kept
    head = [
        '"""Run a bundle written by ``eegm2 export --head`` with NumPy and ONNX Runtime alone.',
        "",
        "    from eegm2_runtime import Decoder",
        "",
        '    decoder = Decoder("bundle.onnx")',
        "    for decision in decoder.push(x_uv):  # (channels, samples) in microvolts, any number of samples",
        '        print(decision["time_s"], decision["decided"], decision["probabilities"])',
        '"""',
        "",
        "from __future__ import annotations",
        "",
    ]
    return "\n".join([*head, *sorted(imports), *bodies]) + "\n"


def _is_chosen(node: ast.stmt, chosen: str) -> bool:
    """Return whether a statement defines one of some names, separated by commas; of none, always."""
    names = [getattr(node, "name", "")] + [getattr(t, "id", "") for t in getattr(node, "targets", ())]
    return not chosen or bool(set(names) & set(chosen.split(",")))


def check_bundle(
    path: Path, trained: TrainedModel, head: DenseHead | WindowedHead, network: StepStream | None = None
) -> float:
    """Return the largest difference of probabilities from `eegm2 stream` on noise of microvolts."""
    decoder = Decoder(path, network=network)
    facts = decoder.facts
    warm_up = facts["warm_up"] if facts["centre"] != "none" else 0
    baseline_s = 0.0 if isinstance(head, WindowedHead) else facts["calibration_s"]
    seconds = baseline_s + (3 + warm_up) * facts["window_s"] + 4
    n_times = round(seconds * decoder.sfreq_hz)
    x = 20 * np.random.default_rng(0).standard_normal((len(decoder.ch_names), n_times))
    got = decoder.push(x[:, : x.shape[1] // 3]) + decoder.push(x[:, x.shape[1] // 3 :]) + decoder.flush()
    causal = CausalPreprocessor(
        decoder.ch_names, decoder.sfreq_hz, trained.preprocessing, trained.ch_names, where="device"
    )
    prepared = np.concatenate([causal.push(x), causal.flush()], axis=1)
    if isinstance(head, WindowedHead):
        made = WindowedFeatures(head, facts["hop_steps"]).push(prepared)
    else:
        made = _streamed(prepared, trained, facts)
    if facts["centre"] != "none":
        centring = StreamCentring(facts["window_steps"], facts["warm_up"])
        made = [(end, row) for end, taken in made if (row := centring.take(taken, end)) is not None]
    if len(made) != len(got):
        raise ConfigError(f"export: {path.name} made {len(got)} decisions, the stream {len(made)}")
    rule, worst = decoder.facts["rule"], 0.0
    past: np.ndarray | None = None
    for (_, features), decision in zip(made, got):
        new = head(features)[0]
        past = new if past is None else rule["smooth"] * past + (1 - rule["smooth"]) * new
        worst = max(worst, float(np.abs(past - np.array(decision["probabilities"])).max()))
    return worst


def _streamed(
    prepared_uv: np.ndarray, trained: TrainedModel, facts: dict[str, Any]
) -> list[tuple[int, np.ndarray]]:
    """Return (end step, features) of the windows of a stream of prepared microvolts."""
    scale = RunningScale(
        facts["scaling"],
        trained.sfreq_hz,
        window_s=facts["window_s"],
        calibration_s=facts["calibration_s"],
        adapt_s=facts["adapt_s"],
    )
    with torch.inference_mode():
        representation = torch.from_numpy(encode_long(trained.model, scale.push(prepared_uv)))[None]
        sliding = SlidingFeatures(
            facts["window_steps"], facts["hop_steps"], facts["features"], trained.config
        )
        return [(end, features.numpy()) for end, features in sliding.push(representation)]
