"""Fold what a convolution can take into its weights, before anything is quantized: batch normalisation, scale, offset.

Trap: exporters leave it beside depthwise convolutions, and PyTorch's and Paddle's leave all of it. Runtimes fold it in
float when they load a file, so nobody misses it there; in int8 they cannot, each multiplication costs accuracy, and
the artifact was twice as slow as float. onnxruntime's basic optimisation folds it: standard operators only.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import msgspec

from edgesdk.contract import Contract
from edgesdk.errors import ReleaseError
from edgesdk_converters.isolation import Call
from edgesdk_converters.sources.agreement import check_agreement
from edgesdk_converters.sources.onnx import drop_unused_domains

if TYPE_CHECKING:
    import onnx

MOST_GROWTH = 1.25
"""Folding constants may also write out large ones; then the file stays as it is."""


def fold(call: Call) -> dict[str, Any]:
    """Child action: write ``model.onnx``, input ``source`` folded, or as it is where that changes its answers.

    Answers how many operators there were and are, and why it was left as it is, if so.
    """
    import onnx  # noqa: PLC0415 - only in the child

    source, path = call.inputs["source"], call.out / "model.onnx"
    before, (after, why) = onnx.load(source), _folded(call)
    if not why:
        onnx.save(after, path)
        if path.stat().st_size > MOST_GROWTH * source.stat().st_size:
            why = f"it would grow to {path.stat().st_size} bytes"
    if not why:
        try:
            check_agreement(source, path, msgspec.convert(call.params["contract"], Contract), what="the folded model")
        except ReleaseError as error:
            why = error.message
    if why:
        shutil.copyfile(source, path)
    return {"before": len(before.graph.node), "after": len(onnx.load(path).graph.node), "left": why}


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
