"""Float TFLite to ONNX by tf2onnx, in a child that has TensorFlow; the outcome is run beside the source.

(tf2onnx also takes int8 TFLite and gives QDQ that is equal to the bit; here the float file is converted and the recipe
applied after it, so that an ONNX artifact is made the same way whatever it comes from.)
"""

from __future__ import annotations

from typing import Any

import msgspec

from edgesdk.contract import Contract
from edgesdk_converters.isolation import Call
from edgesdk_converters.sources.agreement import check_agreement


def convert(call: Call) -> dict[str, Any]:
    """Child action: write ``model.onnx`` from the float TFLite file ``source``.

    Raises:
        ReleaseError: ``conversion-failed`` if it does not compute the same.
    """
    import tf2onnx  # noqa: PLC0415 - only in the child; it brings TensorFlow

    source, path = call.inputs["source"], call.out / "model.onnx"
    tf2onnx.convert.from_tflite(str(source), opset=call.params["opset"], output_path=str(path))
    contract = msgspec.convert(call.params["contract"], Contract)
    difference = check_agreement(source, path, contract, what="the ONNX file that tf2onnx made")
    return {"difference": difference}
