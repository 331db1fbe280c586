"""8-bit weights in an ONNX file: per output channel, symmetric, computed with in float32."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

#: Weights with fewer values are left as they are.
SMALLEST = 1024


def weights_to_int8(model: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """Return a copy whose large weights are int8 and dequantised on use, and how many there are.

    Every output channel of a weight has its own scale, ``max|w| / 127``. Activations stay float32: 8-bit
    activations lose an order of magnitude more and the states of the scan do not bear them.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    graph = copy.graph
    axes = _channel_axes(graph)
    kept, new, nodes = [], [], []
    for tensor in graph.initializer:
        array = numpy_helper.to_array(tensor)
        if tensor.name not in axes or array.dtype != np.float32 or array.size < SMALLEST:
            kept.append(tensor)
            continue
        axis = axes[tensor.name]
        others = tuple(i for i in range(array.ndim) if i != axis)
        scale = np.maximum(np.abs(array).max(axis=others, keepdims=True), 1e-12) / 127
        rounded = np.clip(np.rint(array / scale), -127, 127).astype(np.int8)
        names = [f"{tensor.name}.{part}" for part in ("int8", "scale", "zero")]
        new.append(numpy_helper.from_array(rounded, names[0]))
        new.append(numpy_helper.from_array(scale.reshape(-1).astype(np.float32), names[1]))
        new.append(
            helper.make_tensor(names[2], TensorProto.INT8, [array.shape[axis]], [0] * array.shape[axis])
        )
        nodes.append(helper.make_node("DequantizeLinear", names, [tensor.name], axis=axis))
    values = [value for value in graph.value_info if value.name not in {node.output[0] for node in nodes}]
    graph.ClearField("value_info")
    graph.value_info.extend(values)
    graph.ClearField("initializer")
    graph.initializer.extend([*kept, *new])
    rest = list(graph.node)
    graph.ClearField("node")
    graph.node.extend([*nodes, *rest])
    return copy, len(nodes)


def _channel_axes(graph: onnx.GraphProto) -> dict[str, int]:
    """Return the output-channel axis of every initializer that is the weight of a matrix product."""
    axes: dict[str, int] = {}
    for node in graph.node:
        if node.op_type == "MatMul":
            axes |= dict.fromkeys(node.input[1:2], 1)
        elif node.op_type == "Gemm":
            transposed = any(a.name == "transB" and a.i for a in node.attribute)
            axes |= dict.fromkeys(node.input[1:2], 0 if transposed else 1)
        elif node.op_type in ("Conv", "Transpose"):
            axes |= dict.fromkeys(node.input[1:2] or node.input[:1], 0)
    two_dimensional = {t.name for t in graph.initializer if len(t.dims) in (2, 3)}
    return {name: axis for name, axis in axes.items() if name in two_dimensional}
