"""Float TFLite to ONNX by tf2onnx, in a child that has TensorFlow; the outcome is run beside the source.

Traps: tf2onnx loses the bias of a dense layer without a word where the layer's input has not two axes (it flattens it
and forgets the third input), and what it adds behind an operator that writes an output of the graph. So such inputs,
and all outputs, get a RESHAPE that changes nothing; the outputs lose it again afterwards.

(tf2onnx also takes int8 TFLite and gives QDQ that is equal to the bit; here the float file is converted and the recipe
applied after it, so that an ONNX artifact is made the same way whatever it comes from.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgesdk.contract import Contract
from edgesdk_converters.passes.flatbuffer import pack, parse
from edgesdk_converters.passes.gelu_onnx import write_tflite_gelus
from edgesdk_converters.running.isolation import Call
from edgesdk_converters.sources.agreement import check_agreement

if TYPE_CHECKING:
    import onnx

INNER = "/inner"
MATRIX_RANK = 2


def convert(call: Call) -> dict[str, Any]:
    """Child action: write ``model.onnx`` from the float TFLite file ``source``.

    Raises:
        ReleaseError: ``conversion-failed`` if it does not compute the same.
    """
    import onnx  # noqa: PLC0415 - only in the child
    import tf2onnx  # noqa: PLC0415 - only in the child; it brings TensorFlow

    source, path = call.inputs["source"], call.out / "model.onnx"
    safe = call.out.parent / "guarded.tflite"
    safe.write_bytes(guarded(source.read_bytes()))
    model, _ = tf2onnx.convert.from_tflite(str(safe), opset=call.params["opset"])
    _drop_guards(model.graph)
    write_tflite_gelus(model)
    onnx.save(model, path)
    contract = msgspec.convert(call.params["contract"], Contract)
    difference = check_agreement(source, path, contract, what="the ONNX file that tf2onnx made")
    return {"difference": difference}


def guarded(content: bytes) -> bytes:
    """Return the file with a RESHAPE at every output and before every dense layer whose input has not two axes.

    None of them changes a value; the outputs keep their names.
    """
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415 - only in the child

    model = parse(content)
    graph = model.subgraphs[0]
    code = schema.OperatorCodeT()
    code.deprecatedBuiltinCode = code.builtinCode = schema.BuiltinOperator.RESHAPE
    code.version = 1
    model.operatorCodes.append(code)
    operators = []
    for operator in graph.operators:
        if _flattens(model, graph, operator, schema):
            source = int(operator.inputs[0])
            width = int(graph.tensors[operator.inputs[1]].shape[1])
            shape = [int(np.prod(graph.tensors[source].shape)) // width, width]
            name = graph.tensors[operator.outputs[0]].name + b"/flat"
            operators.append(_reshape(model, source, shape, name, schema))
            operator.inputs = [len(graph.tensors) - 1, *operator.inputs[1:]]
        operators.append(operator)
    for inner in dict.fromkeys(int(index) for index in graph.outputs):
        name, shape = graph.tensors[inner].name, [int(size) for size in graph.tensors[inner].shape]
        graph.tensors[inner].name = name + INNER.encode()
        operators.append(_reshape(model, inner, shape, name, schema))
        place = len(graph.tensors) - 1
        graph.outputs = [place if index == inner else int(index) for index in graph.outputs]
        for signature in model.signatureDefs or []:
            for entry in signature.outputs or []:
                entry.tensorIndex = place if entry.tensorIndex == inner else entry.tensorIndex
    graph.operators = operators
    return pack(model)


def _flattens(model: Any, graph: Any, operator: Any, schema: Any) -> bool:
    if model.operatorCodes[operator.opcodeIndex].builtinCode != schema.BuiltinOperator.FULLY_CONNECTED:
        return False
    return not operator.builtinOptions.keepNumDims and len(graph.tensors[operator.inputs[0]].shape) != MATRIX_RANK


def _reshape(model: Any, source: int, shape: list[int], name: bytes, schema: Any) -> Any:
    """Add a tensor of the same values in another shape as the last of the graph; return what writes it."""
    graph = model.subgraphs[0]
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.asarray(shape, np.int32).tobytes(), np.uint8)
    model.buffers.append(buffer)
    sizes, made = schema.TensorT(), schema.TensorT()
    sizes.name, sizes.shape, sizes.type = name + b"/shape", [len(shape)], schema.TensorType.INT32
    sizes.buffer = len(model.buffers) - 1
    made.name, made.shape, made.type, made.buffer = name, shape, graph.tensors[source].type, 0
    graph.tensors += [sizes, made]
    operator = schema.OperatorT()
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs, operator.outputs = [source, len(graph.tensors) - 2], [len(graph.tensors) - 1]
    operator.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
    operator.builtinOptions = schema.ReshapeOptionsT()
    operator.builtinOptions.newShape = shape
    return operator


def _drop_guards(graph: onnx.GraphProto) -> None:
    """Remove the Reshape at each output whose input can bear the output's name."""
    outputs = {entry.name for entry in graph.output}
    inputs = {entry.name for entry in graph.input} | {entry.name for entry in graph.initializer}
    for guard in [node for node in graph.node if node.op_type == "Reshape" and node.output[0] in outputs]:
        inner, outer = guard.input[0], guard.output[0]
        if inner in inputs or inner in outputs:
            continue
        graph.node.remove(guard)
        for node in graph.node:
            for names in (node.input, node.output):
                for index, name in enumerate(names):
                    names[index] = outer if name == inner else name
