"""Fold what a convolution can take into its weights, before anything is quantized: batch normalisation, scale, offset.

Trap: exporters leave it beside depthwise convolutions, and PyTorch's and Paddle's leave all of it. Runtimes fold it in
float when they load a file, so nobody misses it there; in int8 they cannot, each multiplication costs accuracy, and
the artifact was twice as slow as float. onnxruntime's basic optimisation folds it: standard operators only.
"""

from __future__ import annotations

import math
from itertools import count
from typing import TYPE_CHECKING, Any

import msgspec

from edgesdk.contract import Contract
from edgesdk.errors import ReleaseError
from edgesdk_converters.running.isolation import Call
from edgesdk_converters.sources.agreement import check_agreement
from edgesdk_converters.sources.onnx import drop_unused_domains

if TYPE_CHECKING:
    import onnx

WITH_BIAS, BIAS = frozenset({"Conv", "ConvTranspose", "Gemm"}), 2
"""Operators that add a bias, and which of their inputs it is."""
GRAPH = 5
"""``AttributeProto.GRAPH``: what is within may use what seems unused."""
MOST_GROWTH = 1.25
"""Folding constants may also write out large ones; then the file stays as it is."""


def fold(call: Call) -> dict[str, Any]:
    """Child action: write ``model.onnx``, input ``source`` folded, or as it is where that changes its answers.

    Answers how many operators there were and are, and why it was left as it is, if so.
    """
    import onnx  # noqa: PLC0415 - only in the child

    source, path = call.inputs["source"], call.out / "model.onnx"
    before, (after, why) = onnx.load(source), _folded(call)
    nodes = len(before.graph.node)
    if not why:
        onnx.save(after, path)
        if path.stat().st_size > MOST_GROWTH * source.stat().st_size:
            why = f"it would grow to {path.stat().st_size} bytes"
    if not why:
        try:
            check_agreement(source, path, msgspec.convert(call.params["contract"], Contract), what="the folded model")
        except ReleaseError as error:
            why = error.message
    made = before if why else after
    unshare(made)
    onnx.save(made, path)
    return {"before": nodes, "after": len(made.graph.node), "left": why}


def unshare(model: onnx.ModelProto) -> None:
    """Give each user of a bias one of its own, of one dimension.

    Traps: in int8 each user needs its own scale, and onnxruntime names its copies by appending a number, with which
    exporters make names of other tensors too: the file that it writes does not load. A bias of shape (1, N), which
    Gemm takes, stops its quantizer.
    """
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    names = {name for node in model.graph.node for name in (*node.input, *node.output)}
    seen: set[str] = set()
    for node in model.graph.node:
        if node.op_type not in WITH_BIAS or len(node.input) <= BIAS or node.input[BIAS] not in stored:
            continue
        bias = node.input[BIAS]
        shape = list(stored[bias].dims)
        wide = len(shape) > 1 and math.prod(shape) == shape[-1]
        if bias in seen or wide:
            copy = model.graph.initializer.add()
            copy.CopyFrom(stored[bias])
            copy.name = next(name for k in count() if (name := f"{bias}/own_{k}") not in names)
            copy.dims[:] = shape[-1:] if wide else shape
            names.add(copy.name)
            node.input[BIAS] = copy.name
        seen.add(bias)
    used = {name for node in model.graph.node for name in node.input} | {output.name for output in model.graph.output}
    inner = any(attribute.type == GRAPH for node in model.graph.node for attribute in node.attribute)
    for tensor in () if inner else [each for each in model.graph.initializer if each.name not in used]:
        model.graph.initializer.remove(tensor)


def _folded(call: Call) -> tuple[onnx.ModelProto, str]:
    import onnx  # noqa: PLC0415 - only in the child
    import onnxruntime  # noqa: PLC0415 - only in the child

    source = onnx.load(call.inputs["source"])
    written = call.out.parent / "folded.onnx"
    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    settings.optimized_model_filepath = str(written)
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 4
    try:
        onnxruntime.InferenceSession(source.SerializeToString(), settings, providers=["CPUExecutionProvider"])
        model = onnx.load(written)
    except Exception as error:  # noqa: BLE001 - whatever it is, the file can be quantized as it is
        return source, f"onnxruntime does not fold it: {error}"
    drop_unused_domains(model)
    model.ir_version = source.ir_version
    return model, ""
