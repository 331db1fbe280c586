"""What of a model can be exported: its modules, example inputs, free axes, names and facts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from eegm2.deploy.config import PARTS, ExportConfig
from eegm2.deploy.heads.windowed import WindowedHead
from eegm2.deploy.stream.streaming import StreamingEEGM2
from eegm2.errors import ConfigError
from eegm2.model.network import EEGM2
from eegm2.model.streaming.fixed_step import StreamStep

#: Batch and length of the inputs from which graphs of whole windows are traced.
TRACED = (2, 264)
#: Batch of the example input of a streaming step, by format; ExecuTorch files have fixed shapes.
STEP_BATCH = {"onnx": 2, "torch": 2, "executorch": 1}


class Encode(nn.Module):
    """The encoder of a model as a module of its own."""

    def __init__(self, model: EEGM2) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, n_chans, n_times) to (batch, representation_channels, steps)."""
        return self.model.encode(x)


class OfWindow(nn.Module):
    """A network for windows of one length: its representation, or the scores of a fine-tuned one."""

    def __init__(self, network: nn.Module, n_times: int, *, scores: bool) -> None:
        super().__init__()
        self.network, self.n_times, self.scores = network, n_times, scores

    def forward(self, x: Tensor) -> Tensor:
        """Map (1, n_chans, n_times) to (1, channels, steps) or (1, n_classes)."""
        return self.network(x) if self.scores else self.network.encode(x)  # type: ignore[operator]


@dataclass(frozen=True)
class Part:
    """One thing to export.

    Attributes
    ----------
    name : {"encoder", "reconstruction", "step", "window"}
    module : nn.Module
    inputs, outputs : list of str
        Names; everything but ``position``, ``end`` and ``next_position`` has the batch as its first axis.
    facts : dict
        What belongs into the file besides the model's own facts.
    """

    name: str
    module: nn.Module
    inputs: list[str]
    outputs: list[str]
    facts: dict[str, Any]

    def example(self, batch: int | None = None) -> tuple[Tensor, ...]:
        """Return an input from which the module can be traced."""
        if isinstance(self.module, OfWindow):
            return (torch.randn(1, self.facts["n_chans"], self.module.n_times),)
        config = self.module.config if isinstance(self.module, StreamStep | EEGM2) else None
        if config is None:
            assert isinstance(self.module, Encode)
            config = self.module.model.config
        if isinstance(self.module, StreamStep):
            batch = batch or STEP_BATCH["onnx"]
            x = torch.randn(batch, config.n_chans, self.module.hop)
            return (x, torch.tensor(64), torch.tensor(2**40), *self.module.initial_states(batch))
        return (torch.randn(batch or TRACED[0], config.n_chans, TRACED[1]),)

    def free_axes(self) -> dict[str, dict[int, str]]:
        """Return the dynamic axes of inputs and outputs by name; of a step only the batch is free."""
        if self.name == "window":
            return {}
        fixed = ("position", "end", "next_position")
        batched = {name: {0: "batch"} for name in (*self.inputs, *self.outputs) if name not in fixed}
        if self.name != "step":
            batched = {name: {**axes, 2: "time"} for name, axes in batched.items()}
        return batched


def chosen_parts(model: EEGM2, config: ExportConfig) -> list[str]:
    """Return the names of the parts to write.

    Raises
    ------
    ConfigError
        If a part is asked for that the model or the format does not have.
    """
    there = [part for part in PARTS if part != "reconstruction" or model.config.decoder]
    absent = [part for part in config.parts if part not in there]
    if absent:
        raise ConfigError(
            f"parts: got '{absent[0]}', but this model has no decoder; it has {', '.join(there)}"
        )
    chosen = [part for part in there if part in config.parts or not config.parts]
    if set(config.formats) == {"executorch"}:
        if "step" not in chosen:
            raise ConfigError(
                f"parts: got {', '.join(chosen)} for the format executorch, which holds fixed shapes only; "
                "expected step"
            )
        return ["step"]
    return chosen


def window_part(head: WindowedHead, n_chans: int) -> Part:
    """Return the network of a head that was learnt on separate windows, for one window at a time.

    Raises
    ------
    ConfigError
        If features are centred between a network and a head that is not one of plain arrays.
    """
    if head.kind == "pooled":
        raise ConfigError(
            "head: centres features inside a fine-tuned network, which a bundle cannot; fine-tune with "
            "--head light (or statistics of preset covariance), or with --centre none"
        )
    scores = head.head is None
    module = OfWindow(head.network, head.n_times, scores=scores).eval()
    output = "scores" if scores else "representation"
    facts = {"outputs": [output], "n_times": head.n_times, "n_chans": n_chans, "latency_samples": 0}
    return Part("window", module, ["x"], [output], facts)


def build_part(name: str, model: EEGM2, config: ExportConfig, *, reconstruct: bool | None = None) -> Part:
    """Return the part of that name; a step without `reconstruct` has what the model has."""
    if name != "step":
        output = "representation" if name == "encoder" else "reconstruction"
        module: nn.Module = Encode(model) if name == "encoder" else model
        stream = StreamingEEGM2(model, output=output)  # type: ignore[arg-type]
        facts = {"outputs": [output], "latency_samples": stream.latency_samples}
        return Part(name, module.eval(), ["x"], [output], facts)
    each = model.config.step_samples
    reconstruct = model.config.decoder if reconstruct is None else reconstruct
    step = StreamStep(model, config.hop, reconstruct=reconstruct).eval()
    outputs = ["representation", *(["reconstruction"] if reconstruct else [])]
    return Part(
        name,
        step,
        ["x", "position", "end", *(f"state.{n}" for n in step.state_shapes)],
        [*outputs, "next_position", *(f"next.{n}" for n in step.state_shapes)],
        {
            "outputs": outputs,
            "hop": config.hop,
            "delay_samples": step.delay_samples,
            "delay_steps": step.delay_steps,
            "states": {n: list(shape) for n, shape in step.state_shapes.items()},
            # a sample waits at most hop - 1 samples for its step to be complete
            "latency_samples": config.hop - 1 + max(step.delay_samples, each * step.delay_steps),
        },
    )
