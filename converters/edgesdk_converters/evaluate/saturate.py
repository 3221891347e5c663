"""Ask the emulator what x86 without VNNI makes of an int8 ONNX model: this machine may well have VNNI and not tell."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import onnx

from edgesdk.contract import Contract
from edgesdk.runtime import describe_artifact
from edgesdk_converters.data.npz import feeds, open_data
from edgesdk_converters.evaluate.saturation import NotMeasured, saturation_gate
from edgesdk_converters.running.isolation import Call


def look(call: Call) -> dict[str, Any]:
    """Child action: compare input ``artifact`` with and without saturation on rows of input ``evaluation``.

    The rows are up to ``params["samples"]`` evenly spaced ones. Answers ``{"measured": False, "reason": …}`` where the
    emulator cannot tell, else the gate's word with its figures, the cause, and the share of saturated sums by layer.
    """
    data = open_data(call.inputs["evaluation"], msgspec.convert(call.params["contract"], Contract), labelled=False)
    inputs, _outputs = describe_artifact(call.inputs["artifact"], "onnxruntime")
    if len(inputs) != 1 or data.labels is None:
        return {"measured": False, "reason": "it needs a model with one input, and labels"}
    rows = np.unique(np.linspace(0, data.count - 1, call.params["samples"]).astype(np.int64))
    wanted = set(rows.tolist())
    [artifact] = inputs
    x = [feed for row, feed in enumerate(feeds(data, {artifact.name: artifact.dtype})) if row in wanted]
    verdict = saturation_gate(
        onnx.load(call.inputs["artifact"]),
        np.concatenate([feed[artifact.name] for feed in x]),
        data.labels[rows],
        max_drop=call.params["max_drop"],
    )
    if isinstance(verdict, NotMeasured):
        return {"measured": False, "reason": verdict.reason}
    return {
        "measured": True,
        "samples": len(rows),
        "outcome": verdict.gate.outcome.value,
        "reason": verdict.gate.reason,
        "exact_accuracy": verdict.gate.source_value,
        "saturating_accuracy": verdict.gate.value,
        "cause": verdict.cause,
        "layers": [{"name": layer.name, "share": layer.share} for layer in verdict.layers],
    }
