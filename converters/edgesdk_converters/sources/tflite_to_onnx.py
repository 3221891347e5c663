"""Float TFLite to ONNX by tf2onnx, in a child that has TensorFlow; the outcome is run beside the source.

Trap: where an operator of TFLite becomes two of ONNX (a dense layer and its bias) and writes an output of the graph,
tf2onnx gives out the first of them: the bias is lost without a word. So outputs get a RESHAPE that changes nothing, and
lose it again afterwards.

(tf2onnx also takes int8 TFLite and gives QDQ that is equal to the bit; here the float file is converted and the recipe
applied after it, so that an ONNX artifact is made the same way whatever it comes from.)
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from edgesdk.contract import Contract
from edgesdk_converters.isolation import Call
from edgesdk_converters.passes.flatbuffer import pack, parse
from edgesdk_converters.sources.agreement import check_agreement

if TYPE_CHECKING:
    import onnx

INNER = "/inner"


def convert(call: Call) -> dict[str, Any]:
    """Child action: write ``model.onnx`` from the float TFLite file ``source``.

    Raises:
        ReleaseError: ``conversion-failed`` if it does not compute the same.
    """
    import onnx  # noqa: PLC0415 - only in the child
    import tf2onnx  # noqa: PLC0415 - only in the child; it brings TensorFlow

    source, path = call.inputs["source"], call.out / "model.onnx"
    guarded = call.out.parent / "guarded.tflite"
    guarded.write_bytes(with_guarded_outputs(source.read_bytes()))
    model, _ = tf2onnx.convert.from_tflite(str(guarded), opset=call.params["opset"])
    _drop_guards(model.graph)
    onnx.save(model, path)
    contract = msgspec.convert(call.params["contract"], Contract)
    difference = check_agreement(source, path, contract, what="the ONNX file that tf2onnx made")
    return {"difference": difference}


def with_guarded_outputs(content: bytes) -> bytes:
    """Return the file with a RESHAPE to the same shape at every output; the outputs keep their names."""
    from ai_edge_litert import schema_py_generated as schema  # noqa: PLC0415 - only in the child

    model = parse(content)
    graph = model.subgraphs[0]
    code = schema.OperatorCodeT()
    code.deprecatedBuiltinCode = code.builtinCode = schema.BuiltinOperator.RESHAPE
    code.version = 1
    model.operatorCodes.append(code)
    for inner in dict.fromkeys(int(index) for index in graph.outputs):
        outer, shape = copy.deepcopy(graph.tensors[inner]), _shape_tensor(model, graph.tensors[inner], schema)
        graph.tensors[inner].name = outer.name + INNER.encode()
        outer.buffer = 0
        graph.tensors += [outer, shape]
        place = len(graph.tensors) - 2
        operator = schema.OperatorT()
        operator.opcodeIndex = len(model.operatorCodes) - 1
        operator.inputs, operator.outputs = [inner, place + 1], [place]
        operator.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
        operator.builtinOptions = schema.ReshapeOptionsT()
        operator.builtinOptions.newShape = [int(size) for size in outer.shape]
        graph.operators.append(operator)
        graph.outputs = [place if index == inner else int(index) for index in graph.outputs]
        for signature in model.signatureDefs or []:
            for entry in signature.outputs or []:
                entry.tensorIndex = place if entry.tensorIndex == inner else entry.tensorIndex
    return pack(model)


def _shape_tensor(model: Any, tensor: Any, schema: Any) -> Any:
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(np.asarray(tensor.shape, np.int32).tobytes(), np.uint8)
    model.buffers.append(buffer)
    made = schema.TensorT()
    made.name = tensor.name + b"/shape"
    made.shape, made.type, made.buffer = [len(tensor.shape)], schema.TensorType.INT32, len(model.buffers) - 1
    return made


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
