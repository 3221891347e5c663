"""Edits of the wearable example's v2 (ONNX): each plants one fault that a conversion or a release really makes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

EXAMPLE = Path(__file__).parents[2] / "examples" / "wearable"
CHANNELS, CLASSES = 6, 7
WX_STD = 1.0323638  # of the contract's normalisation, which comes before the artifact
GRAVITY = 9.80665
Array = NDArray[np.float32]


def good(version: str = "v2") -> onnx.ModelProto:
    """Return a model of the example as it is."""
    return onnx.load(EXAMPLE / "models" / f"{version}.onnx")


def fine_tuned(seed: int, spread: float = 0.01) -> onnx.ModelProto:
    """Return v2 with every weight moved by about 1 % at random: another model that is as good."""
    model, random = good(), np.random.default_rng(seed)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32:
            moved = values * (1 + spread * random.standard_normal(values.shape))
            _replace(tensor, moved.astype(np.float32))
    return model


def swapped_labels() -> onnx.ModelProto:
    """Swap what two classes of the last layer answer."""
    order = [0, 2, 1, 3, 4, 5, 6]
    return _edit_dense(lambda weights, bias: (weights[:, order], bias[order]))


def shifted_threshold(class_index: int = 3, shift: float = 3.0) -> onnx.ModelProto:
    """Raise one class's score before the softmax."""
    return _edit_dense(lambda weights, bias: (weights, bias + shift * np.eye(CLASSES, dtype=np.float32)[class_index]))


def scaled_input() -> onnx.ModelProto:
    """Expect accelerations in m/s² from an app that gives g."""
    factors = np.array([GRAVITY] * 3 + [1.0] * 3, np.float32)
    return _before("Mul", numpy_helper.from_array(factors, "unit_factors"))


def swapped_axes() -> onnx.ModelProto:
    """Read the channels in reverse within each sensor: for a watch what BGR for RGB is for a camera."""
    return _before("Gather", numpy_helper.from_array(np.array([2, 1, 0, 5, 4, 3], np.int64), "channel_order"), axis=2)


def truncated_weights(kept: float = 0.6) -> onnx.ModelProto:
    """Keep the first part of all weights, in the file's order: a file cut short and filled up with zeros."""
    model = good()
    tensors = [tensor for tensor in model.graph.initializer if tensor.data_type == TensorProto.FLOAT]
    left = int(kept * sum(int(np.prod(tensor.dims)) for tensor in tensors))
    for tensor in tensors:
        values = numpy_helper.to_array(tensor).copy()
        values.reshape(-1)[max(left, 0) :] = 0
        left -= values.size
        _replace(tensor, values)
    return model


def nan_when_forceful(limit: float = 9.5) -> onnx.ModelProto:
    """Answer NaN when the wrist turns faster than `limit` rad/s: a norm that nobody saw overflow."""
    model = good()
    graph = model.graph
    answer = graph.output[0].name
    _rename_output(graph, answer, "calm_answer")
    graph.initializer.append(numpy_helper.from_array(np.array([3], np.int64), "turning"))
    graph.initializer.append(numpy_helper.from_array(np.array(limit / WX_STD, np.float32), "limit"))
    graph.node.extend(
        [
            helper.make_node("Gather", [graph.input[0].name, "turning"], ["turn"], axis=2),
            helper.make_node("Abs", ["turn"], ["speed"]),
            helper.make_node("ReduceMax", ["speed"], ["fastest"], keepdims=0),
            helper.make_node("Sub", ["limit", "fastest"], ["left"]),
            helper.make_node("Sqrt", ["left"], ["root"]),
            helper.make_node("Div", ["root", "root"], ["one"]),
            helper.make_node("Mul", ["calm_answer", "one"], [answer]),
        ]
    )
    return model


def wrong_operation() -> onnx.ModelProto:
    """Use a sigmoid where the model was trained with ReLU, in one layer."""
    model = good()
    node = next(node for node in model.graph.node if node.op_type == "Relu")
    node.op_type = "Sigmoid"
    return model


def twice_the_work() -> onnx.ModelProto:
    """Compute everything twice and answer the mean.

    The second copy's weights differ in the last digits, or the runtime would compute one copy only.
    """
    model = good()
    graph, copy = model.graph, good().graph
    own = {graph.input[0].name}
    for tensor in copy.initializer:
        values = numpy_helper.to_array(tensor)
        _replace(tensor, (values * np.float32(1 + 1e-6)) if values.dtype == np.float32 else values)
        tensor.name += "_b"
    for node in copy.node:
        node.name += "_b"
        node.input[:] = [name if name in own or not name else f"{name}_b" for name in node.input]
        node.output[:] = [f"{name}_b" for name in node.output]
    answer = graph.output[0].name
    _rename_output(graph, answer, f"{answer}_a")
    graph.initializer.extend(copy.initializer)
    graph.node.extend(copy.node)
    graph.node.append(helper.make_node("Mean", [f"{answer}_a", f"{answer}_b"], [answer]))
    return model


def endless_history() -> onnx.ModelProto:
    """Append every window to a state that is never cut: the only way in which a pure graph can leak."""
    model = good()
    shape = [1, "past", CHANNELS]
    model.graph.input.append(helper.make_tensor_value_info("history", TensorProto.FLOAT, shape))
    model.graph.output.append(helper.make_tensor_value_info("history_next", TensorProto.FLOAT, [1, "longer", CHANNELS]))
    model.graph.node.append(
        helper.make_node("Concat", ["history", model.graph.input[0].name], ["history_next"], axis=1)
    )
    return model


def quantized(calibration: Array) -> onnx.ModelProto:
    """Return v2 in int8 (QDQ), calibrated on `calibration` of shape ``(count, 128, 6)``."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static  # noqa: PLC0415 - heavy

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self._left = iter(calibration)

        def get_next(self) -> dict[str, Array] | None:
            window = next(self._left, None)
            return None if window is None else {"window": window[None]}

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_static(
            EXAMPLE / "models" / "v2.onnx",
            path,
            Reader(),
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
        )
        return onnx.load(path)


def wrong_zero_point(model: onnx.ModelProto, shift: int = 24) -> onnx.ModelProto:
    """Decode the quantized input with another zero point than it was encoded with."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    encoder = next(node for node in model.graph.node if node.op_type == "QuantizeLinear")
    decoder = next(node for node in model.graph.node if node.input and node.input[0] == encoder.output[0])
    right = int(numpy_helper.to_array(constants[encoder.input[2]]).reshape(()))
    wrong = numpy_helper.from_array(np.array(right + (shift if right < 0 else -shift), np.int8), "wrong_zero_point")
    model.graph.initializer.append(wrong)
    decoder.input[2] = wrong.name
    return model


def _edit_dense(edit: Callable[[Array, Array], tuple[Array, Array]]) -> onnx.ModelProto:
    model = good()
    dense = next(node for node in model.graph.node if node.op_type == "Gemm")
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    weights, bias = (constants[name] for name in dense.input[1:3])
    new_weights, new_bias = edit(numpy_helper.to_array(weights), numpy_helper.to_array(bias))
    _replace(weights, new_weights)
    _replace(bias, new_bias)
    return model


def _before(operation: str, constant: onnx.TensorProto, **attributes: int) -> onnx.ModelProto:
    """Put an operation between the input and everything that reads it."""
    model = good()
    name = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["edited_input" if each == name else each for each in node.input]
    model.graph.initializer.append(constant)
    model.graph.node.insert(0, helper.make_node(operation, [name, constant.name], ["edited_input"], **attributes))
    return model


def _rename_output(graph: onnx.GraphProto, old: str, new: str) -> None:
    for node in graph.node:
        node.output[:] = [new if name == old else name for name in node.output]


def _replace(tensor: onnx.TensorProto, values: NDArray[np.generic]) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), tensor.name))
