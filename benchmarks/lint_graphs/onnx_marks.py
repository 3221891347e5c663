"""Marks of quantization around every float tensor of a graph: as a quantizer for Qualcomm's HTP leaves it (uint8)."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WITHIN = {"Sigmoid": (1 / 256, 0), "Softmax": (1 / 256, 0), "HardSigmoid": (1 / 256, 0), "Tanh": (1 / 128, 128)}
"""Scale and zero point of what these write: the HTP takes no others."""
BIASED = frozenset({"Conv", "ConvTranspose", "Gemm", "InstanceNormalization"})
"""Their third input is kept in 32 bits."""
USUAL = (0.05, 128)


def quantized(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with QuantizeLinear and DequantizeLinear around all that is float; int64 is left alone."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    floats = {
        value.name: value.type.tensor_type.elem_type == TensorProto.FLOAT
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    biases = {node.input[2] for node in graph.node if node.op_type in BIASED and len(node.input) > 2}
    nodes: list[onnx.NodeProto] = []
    names: dict[str, str] = {}
    kept = {name for node in graph.node if node.op_type in {"Resize", "Upsample"} for name in node.input[1:]}
    for item in [each for each in graph.initializer if each.data_type == TensorProto.FLOAT and each.name not in kept]:
        _constant(item, nodes, graph, names, bias=item.name in biases)
    for value in graph.input:
        if floats[value.name]:
            _mark(value.name, USUAL, nodes, graph, names)
    outputs = {value.name for value in graph.output}
    for node in model.graph.node:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [names.get(name, name) for name in node.input]
        renamed = {name: f"{name}_raw" for name in node.output if name in outputs}
        copy.output[:] = [renamed.get(name, name) for name in node.output]
        nodes.append(copy)
        for name in node.output:
            if floats.get(name):
                _mark(renamed.get(name, name), WITHIN.get(node.op_type, USUAL), nodes, graph, names)
                if name in outputs:
                    nodes[-1].output[0] = name
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    return onnx.shape_inference.infer_shapes(made)


def _mark(
    name: str, how: tuple[float, int], nodes: list[onnx.NodeProto], graph: onnx.GraphProto, names: dict[str, str]
) -> None:
    scale, point = how
    graph.initializer.append(numpy_helper.from_array(np.asarray(scale, np.float32), f"{name}_scale"))
    graph.initializer.append(numpy_helper.from_array(np.asarray(point, np.uint8), f"{name}_point"))
    marks = [f"{name}_scale", f"{name}_point"]
    nodes.append(helper.make_node("QuantizeLinear", [name, *marks], [f"{name}_q"], name=f"{name}_quantize"))
    nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", *marks], [f"{name}_d"], name=f"{name}_dequantize"))
    names[name] = f"{name}_d"


def _constant(
    item: onnx.TensorProto, nodes: list[onnx.NodeProto], graph: onnx.GraphProto, names: dict[str, str], *, bias: bool
) -> None:
    values = numpy_helper.to_array(item)
    scale = 1e-3 if bias else max(float(np.abs(values).max()) / 127, 1e-3)
    rounded, point = np.round(values / scale), np.asarray(0, np.int32) if bias else np.asarray(128, np.uint8)
    stored = rounded.astype(np.int32) if bias else np.clip(rounded + 128, 0, 255).astype(np.uint8)
    graph.initializer.remove(item)
    graph.initializer.append(numpy_helper.from_array(stored, f"{item.name}_q"))
    graph.initializer.append(numpy_helper.from_array(np.asarray(scale, np.float32), f"{item.name}_scale"))
    graph.initializer.append(numpy_helper.from_array(point, f"{item.name}_point"))
    marks = [f"{item.name}_scale", f"{item.name}_point"]
    nodes.append(
        helper.make_node("DequantizeLinear", [f"{item.name}_q", *marks], [f"{item.name}_d"], name=f"{item.name}_mark")
    )
    names[item.name] = f"{item.name}_d"
