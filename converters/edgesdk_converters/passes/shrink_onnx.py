"""Float ONNX to float16 or to dynamic int8: what needs no calibration.

Traps: onnxruntime has no ConvInteger for signed weights, so a dynamic file with them does not load; and weights of 8
bits saturate on x86 without VNNI, as in `quantize_onnx`.
"""

from __future__ import annotations

from typing import Any

import msgspec

from edgesdk.errors import ReleaseError
from edgesdk_converters.passes.half_onnx import beyond_half, computing, join_islands
from edgesdk_converters.passes.quantize_onnx import excluded, finish
from edgesdk_converters.recipes import OnnxDynamic, OnnxFloat16, Recipe
from edgesdk_converters.running.isolation import Call
from edgesdk_converters.sources.onnx import opset_of

TOOLS = ("onnxruntime", "onnx", "numpy")
MIN_MAX_OPSET = 12
FLOAT16_SINCE_12 = {"Min", "Max"}
"""Operators that the tool leaves in float32, though opset 12 gave them float16."""
INTEGER_OPS = frozenset({"MatMulInteger", "ConvInteger", "DynamicQuantizeLSTM", "QAttention"})


def to_float16(call: Call) -> dict[str, Any]:
    """Child action: write ``model.onnx`` in float16 from input ``source``; its inputs and outputs stay float32."""
    import onnx  # noqa: PLC0415 - only in the child
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16  # noqa: PLC0415

    recipe = msgspec.convert(call.params["recipe"], Recipe)
    options = recipe.onnx
    assert isinstance(options, OnnxFloat16)
    model = onnx.load(call.inputs["source"])
    own = {node.name for node in model.graph.node}
    left = excluded(model, recipe.float_layers, "float_layers")
    left += beyond_half(model) if options.tiny == "float32" else []
    narrow = FLOAT16_SINCE_12 if opset_of(model) >= MIN_MAX_OPSET else set[str]()
    blocked = sorted(set(DEFAULT_OP_BLOCK_LIST) - narrow)
    made = convert_float_to_float16(model, keep_io_types=True, op_block_list=blocked, node_block_list=left)
    join_islands(made, own)
    half = sum(entry.data_type == onnx.TensorProto.FLOAT16 for entry in made.graph.initializer)
    if not half:
        beside = f" beside the {len(left)} nodes that stay in float32 by `float_layers` or `tiny`" if left else ""
        raise ReleaseError("conversion-failed", f"nothing became float16: the model has no float32 weights{beside}")
    finish(made, call)
    single, floats = computing(made)
    figures = {"float16_weights": half, "float32_operators": single, "float_operators": floats}
    return {**figures, "nodes": len(made.graph.node)}


def to_dynamic(call: Call) -> dict[str, Any]:
    """Child action: write ``model.onnx`` with 8-bit weights and activations quantized on the fly."""
    import onnx  # noqa: PLC0415 - only in the child
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415

    recipe = msgspec.convert(call.params["recipe"], Recipe)
    options = recipe.onnx
    assert isinstance(options, OnnxDynamic)
    source, path = call.inputs["source"], call.out / "model.onnx"
    model = onnx.load(source)
    quantize_dynamic(
        source,
        path,
        per_channel=options.per_channel,
        reduce_range=options.reduce_range,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gemm", "LSTM", "Attention"],
        nodes_to_exclude=excluded(model, recipe.float_layers, "float_layers"),
    )
    made = onnx.load(path)
    quantized = sum(node.op_type in INTEGER_OPS for node in made.graph.node)
    if not quantized:
        raise ReleaseError("conversion-failed", "onnxruntime quantized nothing: no operator of the model is supported")
    finish(made, call)
    return {"integer_nodes": quantized, "nodes": len(made.graph.node)}
