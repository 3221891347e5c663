"""Run by the Python of onnx2tf's environment, which has none of ours: ``onnx2tf_tool.py REQUEST.json``.

The request names the ONNX file, whose inputs and outputs are called ``input_0`` … and ``output_0`` …; their names in
the TFLite file; and probes, arrays with what the ONNX file answers. onnx2tf gives outputs with channels last; which of
them have to be turned back is told by the probes, as sizes alone do not say it where they are equal.
"""

from __future__ import annotations

import json
import sys
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import onnx2tf
import tensorflow as tf

CHANNELS_RANK = 3
"""From here on tensors have a channel axis that may lie elsewhere."""
MOST_RANK = 5
"""Up to here every order of axes is tried."""


def main() -> None:
    """Write ``model.tflite`` into the folder that the request names."""
    request = json.loads(Path(sys.argv[1]).read_text())
    out = Path(request["out"])
    inputs, outputs = request["inputs"], request["outputs"]
    onnx2tf.convert(
        input_onnx_file_path=request["source"],
        output_folder_path=str(out),
        output_signaturedefs=True,
        keep_shape_absolutely_input_names=[f"input_{index}" for index in range(len(inputs))],
        non_verbose=True,
    )
    loaded = tf.saved_model.load(str(out))
    function = loaded.signatures["serving_default"]
    taken = function.structured_input_signature[1]
    with np.load(request["probes"]) as arrays:
        fed = {f"input_{index}": tf.constant(arrays[f"input_{index}"]) for index in range(len(inputs))}
        shapes = {name: tensor.shape for name, tensor in fed.items()}
        fed = {name: fitted(tensor, taken[name].shape) for name, tensor in fed.items()}
        answers = function(**fed)
        orders = [
            order_of(answers[f"output_{index}"].numpy(), arrays[f"output_{index}"]) for index in range(len(outputs))
        ]

    def call(*tensors: Any) -> dict[str, Any]:
        given = {f"input_{index}": tensor for index, tensor in enumerate(tensors)}
        given = {name: fitted(tensor, taken[name].shape) for name, tensor in given.items()}
        made = function(**given)
        return {
            name: made[f"output_{index}"] if order is None else tf.transpose(made[f"output_{index}"], order)
            for index, (name, order) in enumerate(zip(outputs, orders, strict=True))
        }

    signature = [
        tf.TensorSpec(shapes[f"input_{index}"], taken[f"input_{index}"].dtype, name=name)
        for index, name in enumerate(inputs)
    ]
    wrapped = tf.function(call, input_signature=signature)
    loaded.edgesdk = wrapped
    tf.saved_model.save(loaded, str(out / "wrapped"), signatures={"serving_default": wrapped.get_concrete_function()})
    converter = tf.lite.TFLiteConverter.from_saved_model(str(out / "wrapped"), signature_keys=["serving_default"])
    (out / "model.tflite").write_bytes(converter.convert())


def fitted(tensor: Any, shape: Any) -> Any:
    """Return an input in the rank that onnx2tf gave it: a single number became a row of one."""
    return tensor if tensor.shape.rank == shape.rank else tf.reshape(tensor, [-1] * shape.rank)


def order_of(found: Any, expected: Any) -> list[int] | None:
    """Return the order of axes that makes of what was found what was expected; None: it is the same.

    Channels last is usual; but a state of (layers, batch, features) has come out as (batch, layers, features).
    """
    rank = found.ndim
    orders: list[list[int] | None] = [None]
    if rank >= CHANNELS_RANK:
        orders.append([0, rank - 1, *range(1, rank - 1)])
    if rank <= MOST_RANK:
        orders += [list(order) for order in permutations(range(rank))]
    fitting = [order for order in orders if turned(found, order).shape == expected.shape]
    if not fitting:
        raise SystemExit(f"an output has shape {found.shape}, expected {expected.shape}")
    return min(fitting, key=lambda order: float(np.abs(turned(found, order) - expected).max(initial=0.0)))


def turned(array: Any, order: list[int] | None) -> Any:
    """Return an array with its axes in an order."""
    return array if order is None else array.transpose(order)


if __name__ == "__main__":
    main()
