"""Float ONNX to QDQ int8: static, ranges by minimum and maximum.

Traps: `CalibMaxIntermediateOutputs` *drops* all samples but the last few; strides keep memory constant and every
sample. Files are pinned to the target's IR, as onnx writes its newest by default.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
from numpy.typing import NDArray

from edgesdk.contract import Contract
from edgesdk.errors import ReleaseError
from edgesdk.runtime import describe_artifact
from edgesdk_converters.data import feeds, open_data
from edgesdk_converters.isolation import Call, Progress
from edgesdk_converters.recipes import OnnxStatic, Recipe
from edgesdk_converters.sources.onnx import check_opset, pin_ir

TOOLS = ("onnxruntime", "onnx", "numpy")
STRIDE = 64


def quantize(call: Call) -> dict[str, Any]:
    """Child action: write ``model.onnx`` from inputs ``source`` and ``calibration``."""
    import onnx  # noqa: PLC0415 - only in the child
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static  # noqa: PLC0415

    recipe = msgspec.convert(call.params["recipe"], Recipe).onnx
    assert isinstance(recipe, OnnxStatic)
    path = call.out / "model.onnx"
    quantize_static(
        call.inputs["source"],
        path,
        _reader(call),
        quant_format=QuantFormat.QDQ,
        calibrate_method=CalibrationMethod.MinMax,
        activation_type=QuantType.QInt8,
        weight_type=QuantType.QInt8,
        per_channel=recipe.per_channel,
        reduce_range=recipe.reduce_range,
        extra_options={"ActivationSymmetric": recipe.symmetric_activations, "CalibStridedMinMax": STRIDE},
    )
    graph = onnx.load(path)
    check_opset({item.domain: item.version for item in graph.opset_import}, call.params["max_opset"], path.name)
    pin_ir(graph, call.params["max_ir"])
    quantized = sum(node.op_type == "QuantizeLinear" for node in graph.graph.node)
    if not quantized:
        raise ReleaseError("conversion-failed", "onnxruntime quantized nothing: no operator of the model is supported")
    onnx.save(graph, path)
    return {"quantize_nodes": quantized, "nodes": len(graph.graph.node)}


def _reader(call: Call) -> StridedReader:
    contract = msgspec.convert(call.params["contract"], Contract)
    inputs, _outputs = describe_artifact(call.inputs["source"], "onnxruntime")
    data = open_data(call.inputs["calibration"], contract, labelled=False)
    return StridedReader(feeds(data, {raw.name: raw.dtype for raw in inputs}), data.count, call.progress)


class StridedReader:
    """Hands samples to onnxruntime's calibration, `STRIDE` at a time, in order, each once.

    Its length is rounded up to whole strides, as the tool wants; the last stride ends early.
    """

    def __init__(self, samples: Iterator[dict[str, NDArray[Any]]], count: int, progress: Progress) -> None:
        self._samples, self._count, self._progress = samples, count, progress
        self._done = self._end = 0

    def __len__(self) -> int:
        return -(-self._count // STRIDE) * STRIDE

    def set_range(self, start_index: int, end_index: int) -> None:
        """Begin the stride from `start_index` (where the last one ended) to `end_index`."""
        assert start_index == self._done
        self._end = min(end_index, self._count)
        self._progress(start_index, self._count)

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        """Return one sample by artifact input name, or None at the end of the stride."""
        if self._done == self._end:
            return None
        self._done += 1
        return next(self._samples)
