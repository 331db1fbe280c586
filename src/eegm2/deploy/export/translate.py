"""From torch modules to ONNX graphs, torch.export programs and ExecuTorch files."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from eegm2.deploy.export.parts import STEP_BATCH, Part

OPSET = 18


def onnx_model(part: Part) -> Any:
    """Return the ONNX model of a part.

    A step has one length, so recording one call is enough: a second at full width, where following symbolic
    shapes through its graph takes minutes. Networks for any length need the latter.
    """
    return _recorded(part) if part.name == "step" else _followed(part)


def _recorded(part: Part) -> Any:
    """Return the ONNX model of a part of fixed length, its operations recorded in one call."""
    import onnx

    buffer: Any = io.BytesIO()  # older torch states other types here
    with _quiet():
        torch.onnx.export(
            part.module,
            part.example(),
            buffer,
            dynamo=False,
            input_names=part.inputs,
            output_names=part.outputs,
            dynamic_axes=part.free_axes(),
            opset_version=OPSET,
        )
    return onnx.load_from_string(buffer.getvalue())


def _followed(part: Part) -> Any:
    """Return the ONNX model of a part of any length, its shapes followed as symbols."""
    with _quiet():
        translated = torch.onnx.export(
            torch_program(part),
            dynamo=True,
            input_names=part.inputs,
            output_names=part.outputs,
            verbose=False,
            external_data=False,
        )
    assert translated is not None
    return translated.model_proto


def torch_program(part: Part) -> torch.export.ExportedProgram:
    """Return the torch.export program of a part, with dynamic batch (and time, but for a step)."""
    from torch.fx.experimental import _config as symbolic

    free = part.free_axes()
    axes = [dict.fromkeys(free[n], torch.export.Dim.DYNAMIC) if n in free else None for n in part.inputs]
    dynamic = (*axes[:3], tuple(axes[3:])) if part.name == "step" else tuple(axes)
    with _quiet(), symbolic.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        return torch.export.export(part.module, part.example(), dynamic_shapes=dynamic, strict=False)


def executorch_file(part: Part, facts: dict[str, Any]) -> bytes:
    """Return the ExecuTorch file of a step for one stream, lowered to XNNPACK, the facts inside.

    The facts are the JSON text that the file's constant method ``eegm2`` returns, as UTF-8 bytes.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    text = torch.frombuffer(bytearray(json.dumps(facts).encode()), dtype=torch.uint8)
    with _quiet():
        program = torch.export.export(part.module, part.example(STEP_BATCH["executorch"]), strict=False)
        lowered = to_edge_transform_and_lower(
            program, partitioner=[XnnpackPartitioner()], constant_methods={"eegm2": text}
        )
        return bytes(lowered.to_executorch().buffer)


@contextmanager
def _quiet() -> Iterator[None]:
    """Trace without gradients and without the exporters' warnings; what comes out is compared with torch."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
