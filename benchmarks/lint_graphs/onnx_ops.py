"""ONNX graphs of one operator between two convolutions, for compilers that take ONNX."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Case = tuple[str, list[Any], dict[str, Any]]
"""Operator, further inputs (constants; ``"x"`` is the feature map again), attributes."""
FLOAT = onnx.TensorProto.FLOAT
I64 = np.int64
UNARY = (
    "Abs Ceil Cos Elu Erf Exp Floor HardSigmoid HardSwish Identity LeakyRelu Log LogSoftmax Mish Neg Reciprocal Relu"
    " Round Selu Sigmoid Sign Sin Softmax Softplus Softsign Sqrt Tan Tanh ThresholdedRelu GlobalAveragePool"
    " GlobalMaxPool Hardmax LpNormalization Flatten Celu Atan"
)
CASES: tuple[Case, ...] = (
    *((op, [], {}) for op in UNARY.split()),
    *((op, ["x"], {}) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min", "Pow", "Sum", "Mean", "PRelu")),
    ("Mod", ["x"], {"fmod": 1}),
    ("Clip", [np.float32(0), np.float32(6)], {}),
    ("Concat", ["x"], {"axis": 1}),
    ("AveragePool", [], {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("MaxPool", [], {"kernel_shape": [3, 3], "strides": [2, 2]}),
    ("LpPool", [], {"kernel_shape": [2, 2]}),
    ("Transpose", [], {"perm": [0, 2, 1, 3]}),
    ("Reshape", [np.asarray([1, 8, 64, 1], I64)], {}),
    ("Squeeze", [np.asarray([0], I64)], {}),
    ("ReduceMean", [], {"axes": [2, 3]}),
    ("ReduceMax", [], {"axes": [1]}),
    ("ReduceMin", [], {"axes": [1]}),
    ("ReduceSum", [np.asarray([1], I64)], {}),
    ("ReduceL2", [], {"axes": [1]}),
    ("ReduceProd", [], {"axes": [1]}),
    ("Pad", [np.asarray([0, 0, 1, 1, 0, 0, 1, 1], I64)], {}),
    ("Resize", [np.zeros(0, np.float32), np.asarray([1, 1, 2, 2], np.float32)], {"mode": "nearest"}),
    ("Resize", [np.zeros(0, np.float32), np.asarray([1, 1, 2, 2], np.float32)], {"mode": "cubic"}),
    ("Slice", [np.asarray([0], I64), np.asarray([4], I64), np.asarray([1], I64)], {}),
    ("Tile", [np.asarray([1, 2, 1, 1], I64)], {}),
    ("Expand", [np.asarray([1, 8, 8, 8], I64)], {}),
    ("Gather", [np.asarray([0, 2], I64)], {"axis": 1}),
    ("GatherND", [np.zeros((1, 1), I64)], {}),
    ("DepthToSpace", [], {"blocksize": 2}),
    ("SpaceToDepth", [], {"blocksize": 2}),
    ("BatchNormalization", [np.ones(8, np.float32)] * 4, {}),
    ("InstanceNormalization", [np.ones(8, np.float32)] * 2, {}),
    ("LayerNormalization", [np.ones(8, np.float32)], {}),
    ("MatMul", ["x"], {}),
    ("CumSum", [np.asarray(1, I64)], {}),
    ("ConvTranspose", [np.ones((8, 4, 2, 2), np.float32)], {"strides": [2, 2]}),
    ("Conv", [np.ones((8, 1, 3, 3), np.float32)], {"group": 8}),
    ("Einsum", ["x"], {"equation": "bchw,bcwk->bchk"}),
    ("LRN", [], {"size": 3}),
)
C = np.full((1, 8, 1, 1), 0.5, np.float32)
HELD_OUT: tuple[Case, ...] = (
    *((op, [C], {}) for op in ("Min", "Max", "Add", "Sub", "Mul", "Div", "Mod")),
    ("Pow", [np.float32(2)], {}),
    ("Pow", [np.float32(0.5)], {}),
    ("PRelu", [np.full((8, 1, 1), 0.2, np.float32)], {}),
    *((op, [], {"axes": [2, 3]}) for op in ("ReduceMax", "ReduceMin", "ReduceL2", "ReduceProd")),
    ("ReduceMean", [], {"axes": [1]}),
    ("ReduceSum", [np.asarray([2, 3], I64)], {}),
    ("Softmax", [], {"axis": 1}),
    ("LogSoftmax", [], {"axis": 1}),
    ("Hardmax", [], {"axis": 1}),
    ("Transpose", [], {"perm": [0, 3, 1, 2]}),
    ("Resize", [np.zeros(0, np.float32), np.asarray([1, 1, 2, 2], np.float32)], {"mode": "linear"}),
    ("Resize", [np.zeros(0, np.float32), np.asarray([1, 1, 3, 3], np.float32)], {"mode": "nearest"}),
    ("AveragePool", [], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    ("MaxPool", [], {"kernel_shape": [2, 2]}),
    ("Slice", [np.asarray(each, I64) for each in ([0], [8], [2], [2])], {}),
    ("Concat", ["x", "x"], {"axis": 2}),
    ("Clip", [np.float32(-1), np.float32(1)], {}),
    ("HardSigmoid", [], {"alpha": 0.1, "beta": 0.4}),
    ("LeakyRelu", [], {"alpha": 0.3}),
    ("DepthToSpace", [], {"blocksize": 2, "mode": "CRD"}),
    ("Gather", [np.asarray([1, 3, 5], I64)], {"axis": 2}),
    ("Tile", [np.asarray([1, 1, 1, 3], I64)], {}),
    ("Reshape", [np.asarray([1, 512], I64)], {}),
    ("Unsqueeze", [np.asarray([0], I64)], {}),
    ("Pad", [np.asarray([0, 0, 2, 2, 0, 0, 2, 2], I64)], {"mode": "reflect"}),
    ("ConvTranspose", [np.ones((8, 4, 3, 3), np.float32)], {}),
    ("Conv", [np.ones((4, 8, 5, 5), np.float32)], {"dilations": [2, 2], "pads": [4, 4, 4, 4]}),
    ("Conv", [np.ones((16, 4, 3, 3), np.float32)], {"group": 2, "strides": [2, 2]}),
    ("MatMul", [np.ones((8, 8), np.float32)], {}),
    ("Einsum", ["x"], {"equation": "bchw,bchw->bchw"}),
    ("CumSum", [np.asarray(3, I64)], {}),
    ("LpNormalization", [], {"axis": 1, "p": 1}),
    ("InstanceNormalization", [np.full(8, 0.3, np.float32)] * 2, {}),
    ("Selu", [], {"alpha": 1.2}),
    ("Celu", [], {"alpha": 2.0}),
)


def write(folder: Path, cases: tuple[Case, ...] = CASES, opset: int = 17) -> dict[str, str]:
    """Write every case; return the operator's name by file."""
    made: dict[str, str] = {}
    for index, (op, further, attributes) in enumerate(cases):
        constants = {f"c{at}": np.asarray(each) for at, each in enumerate(further) if not isinstance(each, str)}
        names = ["a" if isinstance(each, str) else f"c{at}" for at, each in enumerate(further)]
        names = ["" if name in constants and constants[name].size == 0 else name for name in names]
        constants = {name: each for name, each in constants.items() if each.size}
        constants["w"] = np.random.default_rng(0).normal(size=(8, 3, 3, 3)).astype(np.float32)
        graph = helper.make_graph(
            [
                helper.make_node("Conv", ["x", "w"], ["a"], name="first", pads=[1, 1, 1, 1]),
                helper.make_node(op, ["a", *names], ["b"], name="probe", **attributes),
                helper.make_node("Relu", ["b"], ["y"], name="last"),
            ],
            "g",
            [helper.make_tensor_value_info("x", FLOAT, [1, 3, 8, 8])],
            [helper.make_tensor_value_info("y", FLOAT, None)],
            [numpy_helper.from_array(array, name) for name, array in constants.items()],
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
        model = onnx.shape_inference.infer_shapes(model)
        if not model.graph.output[0].type.tensor_type.HasField("shape"):
            continue
        path = folder / f"{index:03d}-{op}.onnx"
        onnx.save(model, path)
        made[path.name] = op
    return made
