"""Families of operators on single values and along axes: element-wise, activations, comparisons, reductions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lint_graphs.draw import ANY, ORDINARY, Draw

UNARY = (
    "ABS", "NEG", "EXP", "LOG", "RSQRT", "GELU", "ELU", "LEAKY_RELU", "HARD_SWISH", "LOGISTIC", "TANH", "RELU",
    "RELU6", "RELU_0_TO_1", "RELU_N1_TO_1", "SQRT", "SIN", "COS", "FLOOR", "CEIL", "ROUND", "SQUARE", "LOG_SOFTMAX",
    "L2_NORMALIZATION", "LOGICAL_NOT", "CAST",
)  # fmt: skip
ARITHMETIC = ("ADD", "SUB", "MUL", "MINIMUM", "MAXIMUM", "SQUARED_DIFFERENCE", "DIV", "FLOOR_DIV", "FLOOR_MOD", "POW")
COMPARE = ("EQUAL", "NOT_EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "LOGICAL_AND", "LOGICAL_OR")
FUSES = {"ADD", "SUB", "MUL", "DIV"}


def unary(draw: Draw) -> bytes:
    op = draw.one(UNARY)
    dtype = "bool" if op == "LOGICAL_NOT" and draw.chance(0.7) else draw.dtype()
    shape = draw.shape()
    x = draw.input(shape, dtype)
    out = draw.dtype() if op == "CAST" or draw.chance(0.05) else dtype
    y = draw.output(shape if not draw.chance(0.02) else [*shape[:-1], shape[-1] + 1], out)
    options = {"alpha": draw.one([0.1, 0.3, 1.5, -0.2, 0.0])} if op == "LEAKY_RELU" else {}
    draw.build.op(op, [x], [y], **options)
    return draw.finish([y])


def _broadcast(draw: Draw, shape: Sequence[int]) -> list[int]:
    kind = draw.rng.random()
    if kind < 0.45:
        return list(shape)
    if kind < 0.6:
        return [1] * len(shape)
    if kind < 0.75:
        return list(shape[1:]) or [1]
    return [size if draw.chance(0.5) else 1 for size in shape]


def arithmetic(draw: Draw) -> bytes:
    op = draw.one(ARITHMETIC[:6] * 3 + ARITHMETIC[6:])
    dtype = draw.dtype(ORDINARY + ("int32",) * 4 + ("float32", "int64"))
    shape = draw.shape()
    other = _broadcast(draw, shape)
    left, right = (shape, other) if draw.chance(0.7) else (other, shape)
    if draw.chance(0.15) and len(shape) == len(other) and len(shape) > 1:  # each side is broadcast along one axis
        left, right = [1, *shape[1:]], [shape[0], *[1 for _ in shape[1:]]]
    matching = op in {"MINIMUM", "MAXIMUM"} and draw.chance(0.7)
    words = draw.quantization(dtype) if matching else {}
    a = draw.input(left, dtype, **words)
    second = dtype if not draw.chance(0.03) else draw.dtype(ORDINARY)
    b = draw.input(right, second, **words) if draw.chance(0.7) else draw.constant(right, second, **words)
    out = dtype if not draw.chance(0.08) else draw.dtype((*ORDINARY, "int32"))
    result = list(np.broadcast_shapes(tuple(left), tuple(right)))
    if draw.chance(0.02):
        result[-1] += 1
    y = draw.output(result, out, **(words if matching and draw.chance(0.9) else {}))
    options = {"fusedActivationFunction": draw.one([0, 0, 1, 3])} if op in FUSES else {}
    draw.build.op(op, [a, b], [y], **options)
    return draw.finish([y])


def compare(draw: Draw) -> bytes:
    op = draw.one(COMPARE)
    dtype = "bool" if op.startswith("LOGICAL") and draw.chance(0.8) else draw.dtype(ANY)
    shape = draw.shape()
    a = draw.input(shape, dtype)
    b = draw.input(_broadcast(draw, shape), dtype)
    y = draw.output(shape, "bool" if not draw.chance(0.05) else "int8")
    draw.build.op(op, [a, b], [y])
    return draw.finish([y])


def select(draw: Draw) -> bytes:
    dtype, shape = draw.dtype(), draw.shape()
    condition = draw.build.input(shape, "bool" if not draw.chance(0.1) else "int8", scale=None)
    a, b = draw.input(shape, dtype), draw.input(shape, dtype)
    y = draw.output(shape, dtype)
    draw.build.op(draw.one(["SELECT", "SELECT_V2"]), [condition, a, b], [y])
    return draw.finish([y])


def prelu(draw: Draw) -> bytes:
    dtype, shape = draw.dtype(), draw.shape(4)
    x = draw.input(shape, dtype)
    alpha = [1, 1, shape[-1]] if draw.chance(0.7) else list(shape[1:])
    words = {} if dtype != "float32" else {"scale": None}
    slope = draw.constant(alpha, dtype, **words) if not draw.chance(0.1) else draw.input(alpha, dtype, **words)
    y = draw.output(shape, dtype)
    draw.build.op("PRELU", [x, slope], [y])
    return draw.finish([y])


def softmax(draw: Draw) -> bytes:
    dtype = draw.dtype()
    shape = draw.shape()
    if draw.chance(0.2):
        shape = draw.one([(1, 256, 256, 2), (1, 256, 257, 2), (1, 65536, 2), (1, 65537, 2), (70000, 2)])
    x = draw.input(shape, dtype)
    out = dtype if not draw.chance(0.12) else draw.dtype(ORDINARY)
    y = draw.output(shape, out)
    draw.build.op("SOFTMAX", [x], [y], beta=draw.one([1.0, 1.0, 0.5, -1.0]))
    return draw.finish([y])


def reduce(draw: Draw) -> bytes:
    op = draw.one(["MEAN"] * 6 + ["SUM", "SUM", "REDUCE_MAX", "REDUCE_MIN", "REDUCE_ANY", "REDUCE_ALL", "REDUCE_PROD"])
    dtype = "bool" if op in {"REDUCE_ANY", "REDUCE_ALL"} and draw.chance(0.8) else draw.dtype()
    shape = draw.shape(draw.one([4, 4, 4, 4, 3, 2, 1, 5]))
    if draw.chance(0.15):
        shape = draw.one(
            [(1, 64, 64, 4), (1, 4096, 1, 2), (1, 4097, 1, 2), (1, 2, 4098, 2), (1, 1, 2, 5000), (4, 4099)]
        )
    rank = len(shape)
    axes = sorted({int(axis) for axis in draw.rng.integers(0, rank, draw.int(1, min(3, rank)))})
    if draw.chance(0.4) and rank == 4:
        axes = [1, 2]
    keep = draw.chance(0.5)
    result = [1 if index in axes else size for index, size in enumerate(shape)]
    if not keep:
        result = [size for index, size in enumerate(shape) if index not in axes]
    if not result and draw.chance(0.9):
        keep, result = True, [1] * rank
    given = [axis - rank if draw.chance(0.15) else axis for axis in axes]
    x = draw.input(shape, dtype)
    axis = draw.build.ints(given) if not draw.chance(0.05) else draw.build.input([len(given)], "int32", scale=None)
    if len(given) == 1 and draw.chance(0.15):
        axis = draw.build.ints(given, shape=[])
    y = draw.output(result, dtype if not draw.chance(0.05) else draw.dtype(ORDINARY))
    draw.build.op(op, [x, axis], [y], keepDims=keep)
    return draw.finish([y])


def arg(draw: Draw) -> bytes:
    op, dtype = draw.one(["ARG_MAX", "ARG_MAX", "ARG_MAX", "ARG_MIN"]), draw.dtype()
    shape = draw.shape()
    if draw.chance(0.4):
        shape = (*shape[:-1], draw.one([100, 127, 128, 200]))
    rank = len(shape)
    axis = draw.one([rank - 1, rank - 1, -1, 0, max(rank - 2, 0)])
    x = draw.input(shape, dtype)
    result = [size for index, size in enumerate(shape) if index != axis % rank] or [1]
    y = draw.output(result, draw.one(["int32", "int32", "int64", "int8"]), scale=None)
    kind = {"int32": 2, "int64": 4}
    draw.build.op(
        op, [x, draw.build.ints([axis], shape=draw.one([[], [1]]))], [y], outputType=kind[draw.one(list(kind))]
    )
    return draw.finish([y])


def requantize(draw: Draw) -> bytes:
    op = draw.one(["QUANTIZE", "QUANTIZE", "QUANTIZE", "DEQUANTIZE"])
    shape = draw.shape()
    given = draw.dtype(ANY if op == "QUANTIZE" else ORDINARY)
    x = draw.input(shape, given)
    y = draw.output(shape, draw.dtype((*ORDINARY, "int32")) if op == "QUANTIZE" else "float32")
    draw.build.op(op, [x], [y])
    return draw.finish([y])


FAMILIES = {
    "unary": (unary, 18),
    "arithmetic": (arithmetic, 18),
    "compare": (compare, 6),
    "select": (select, 2),
    "prelu": (prelu, 3),
    "softmax": (softmax, 6),
    "reduce": (reduce, 12),
    "arg": (arg, 6),
    "requantize": (requantize, 5),
}
