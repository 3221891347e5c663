"""Families of operators that move data: reshape, transpose, pad, slice, join, resize, gather; and small networks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lint_graphs.draw import ORDINARY, Draw, same
from lint_graphs.products import SAME

MOVED = (*ORDINARY, "int32", "int32", "float32", "int64", "bool")


def _pair(draw: Draw, given: Sequence[int], result: Sequence[int], dtype: str) -> tuple[int, int]:
    """Add an input and an output that mostly share their quantization, as data that is only moved does."""
    words = draw.quantization(dtype)
    x = draw.input(given, dtype, **words)
    return x, draw.output(result, dtype, **(words if draw.chance(0.9) else {}))


def reshape(draw: Draw) -> bytes:
    dtype, shape = draw.dtype(MOVED), list(draw.shape())
    op = draw.one(["RESHAPE", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "SHAPE"])
    if op == "RESHAPE":
        result = draw.one([[int(np.prod(shape))], [1, *shape], [shape[0], -1 * -int(np.prod(shape[1:]))]])
        x, y = _pair(draw, shape, result, dtype)
        constant = not draw.chance(0.08)
        size = draw.build.ints(result) if constant else draw.build.input([len(result)], "int32", scale=None)
        draw.build.op(op, [x, size] if not draw.chance(0.1) else [x], [y], newShape=result)
    elif op == "SQUEEZE":
        shape[0] = 1
        x, y = _pair(draw, shape, shape[1:] or [1], dtype)
        draw.build.op(op, [x], [y], squeezeDims=[0])
    elif op == "EXPAND_DIMS":
        x, y = _pair(draw, shape, [1, *shape], dtype)
        draw.build.op(op, [x, draw.build.ints([0], shape=[])], [y])
    else:
        x = draw.input(shape, dtype)
        y = draw.output([len(shape)], "int32", scale=None)
        draw.build.op(op, [x], [y])
    return draw.finish([y])


def transpose(draw: Draw) -> bytes:
    dtype = draw.dtype(MOVED)
    shape = draw.shape(draw.one([2, 3, 4, 4, 4, 5, 6]))
    if draw.chance(0.2):
        shape = draw.one(
            [(1, 3, 2, 16384), (1, 2, 3, 16385), (1, 2, 2, 32769), (1, 70000, 2, 2), (2, 3, 70000), (9, 300, 300)]
        )
    rank = len(shape)
    order = [int(axis) for axis in draw.rng.permutation(rank)]
    if draw.chance(0.35) and rank >= 3:
        order = [*range(rank - 3), *draw.one([(rank - 2, rank - 3, rank - 1), (rank - 3, rank - 1, rank - 2)])]
    if draw.chance(0.08):
        order = list(range(rank))
    x, y = _pair(draw, shape, [shape[axis] for axis in order], dtype)
    kind = draw.one(["int32"] * 12 + ["int64"])
    axes = draw.build.ints(order, kind) if not draw.chance(0.06) else draw.build.input([rank], "int32", scale=None)
    draw.build.op("TRANSPOSE", [x, axes], [y])
    return draw.finish([y])


def join(draw: Draw) -> bytes:
    op, dtype, shape = draw.one(["CONCATENATION", "CONCATENATION", "PACK"]), draw.dtype(MOVED), list(draw.shape())
    count, rank = draw.int(1, 4), len(shape)
    axis = draw.int(0, rank - 1)
    result = list(shape)
    result[axis] *= count
    if op == "PACK":
        result = [*shape[:axis], count, *shape[axis:]]
    words = draw.quantization(dtype)
    mixed = draw.chance(0.2)
    inputs = [draw.input(shape, dtype, **({} if mixed else words)) for _ in range(count)]
    if draw.chance(0.1):
        inputs[-1] = draw.constant(shape, dtype, **words)
    if draw.chance(0.04):
        inputs.append(draw.input([*shape[:-1], shape[-1] + 1], dtype, **words))
    y = draw.output(result, dtype, **words)
    axis = axis - len(result) if draw.chance(0.2) else axis
    options = {"axis": axis, "valuesCount": count} if op == "PACK" else {"axis": axis}
    if op != "PACK":
        options["fusedActivationFunction"] = draw.one([0, 0, 0, 1])
    draw.build.op(op, inputs, [y], **options)
    return draw.finish([y])


def split(draw: Draw) -> bytes:
    op, dtype = draw.one(["SPLIT", "SPLIT_V", "UNPACK"]), draw.dtype(MOVED)
    count, shape = draw.int(1, 4), list(draw.shape())
    rank = len(shape)
    axis = draw.int(0, rank - 1)
    words = draw.quantization(dtype)
    if op == "UNPACK":
        count = shape[axis] = min(shape[axis], 4)
        part = shape[:axis] + shape[axis + 1 :] or [1]
    else:
        shape[axis] *= count
        part = [*shape]
        part[axis] //= count
    x = draw.input(shape, dtype, **words)
    outputs = [draw.output(part, dtype, **words) for _ in range(count)]
    said = count if not draw.chance(0.06) else count + 1
    at = draw.build.ints([axis if draw.chance(0.7) else axis - rank], shape=[])
    if op == "SPLIT":
        draw.build.op(op, [at, x], outputs, numSplits=said)
    elif op == "SPLIT_V":
        sizes = [part[axis]] * count
        if draw.chance(0.2):
            sizes[0] = -1
        draw.build.op(op, [x, draw.build.ints(sizes), at], outputs, numSplits=said)
    else:
        draw.build.op(op, [x], outputs, num=said, axis=axis)
    return draw.finish(outputs)


def cut(draw: Draw) -> bytes:
    op, dtype, shape = draw.one(["SLICE", "STRIDED_SLICE", "STRIDED_SLICE"]), draw.dtype(MOVED), draw.shape()
    begin = [draw.int(0, size - 1) for size in shape]
    size = [draw.int(1, whole - at) for whole, at in zip(shape, begin, strict=True)]
    if op == "SLICE":
        x, y = _pair(draw, shape, size, dtype)
        first = draw.build.ints(begin) if not draw.chance(0.08) else draw.build.input([len(shape)], "int32", scale=None)
        draw.build.op(op, [x, first, draw.build.ints(size)], [y])
        return draw.finish([y])
    strides = [
        draw.one([1, 1, 1, 1, 2, 3]) if index in {len(shape) - 2, len(shape) - 3} else 1 for index in range(len(shape))
    ]
    if draw.chance(0.12):
        strides[draw.int(0, len(shape) - 1)] = draw.one([2, -1])
    result = [-(-count // abs(step)) for count, step in zip(size, strides, strict=True)]
    shrink = 1 if draw.chance(0.15) and len(shape) > 1 else 0
    if shrink:
        result = result[1:]
    end = [at + count for at, count in zip(begin, size, strict=True)]
    x, y = _pair(draw, shape, result, dtype)
    last = draw.build.ints(end) if not draw.chance(0.05) else draw.build.input([len(shape)], "int32", scale=None)
    draw.build.op(
        op, [x, draw.build.ints(begin), last, draw.build.ints(strides)], [y], shrinkAxisMask=shrink,
        beginMask=0, endMask=0,
    )  # fmt: skip
    return draw.finish([y])


def pad(draw: Draw) -> bytes:
    op, dtype = draw.one(["PAD", "PAD", "PADV2", "MIRROR_PAD"]), draw.dtype(MOVED)
    shape = draw.shape(draw.one([4, 4, 4, 3, 2, 5]))
    sides = [[draw.int(0, 2), draw.int(0, 2)] if draw.chance(0.6) else [0, 0] for _ in shape]
    if op == "MIRROR_PAD":
        sides = [[min(a, size - 1), min(b, size - 1)] for (a, b), size in zip(sides, shape, strict=True)]
    result = [size + a + b for size, (a, b) in zip(shape, sides, strict=True)]
    if draw.chance(0.03):
        result[-1] += 1
    x, y = _pair(draw, shape, result, dtype)
    kind = draw.one(["int32"] * 8 + ["int64", "int16"])
    amounts = (
        draw.build.ints(sides, kind)
        if not draw.chance(0.06)
        else draw.build.input([len(shape), 2], "int32", scale=None)
    )
    inputs = [x, amounts]
    if op == "PADV2":
        inputs.append(draw.constant([1] if draw.chance(0.5) else [], dtype))
    draw.build.op(op, inputs, [y], **({"mode": draw.one([0, 1])} if op == "MIRROR_PAD" else {}))
    return draw.finish([y])


def resize(draw: Draw) -> bytes:
    op, dtype = draw.one(["RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"]), draw.dtype()
    height, width = draw.int(1, 12), draw.int(1, 12)
    if draw.chance(0.15):
        height = width = 1
    factor = draw.one([1, 2, 2, 4, 8, 16, 3])
    oh, ow = height * factor, width * factor
    align, half = draw.one([(False, False), (True, False), (False, True), (False, True), (True, True)])
    kind = draw.rng.random()
    if align and kind < 0.6:
        oh, ow = (height - 1) * factor + 1, (width - 1) * factor + 1
    elif kind > 0.88:
        oh, ow = draw.int(1, 40), draw.int(1, 40)
    elif kind > 0.8:
        oh = height
    x = draw.input([1, height, width, 3], dtype)
    y = draw.output([1, oh, ow, 3], dtype)
    draw.build.op(op, [x, draw.build.ints([oh, ow])], [y], alignCorners=align, halfPixelCenters=half)
    return draw.finish([y])


def tile(draw: Draw) -> bytes:
    op, dtype, shape = (
        draw.one(["TILE", "TILE", "REVERSE_V2", "REVERSE_V2", "BROADCAST_TO", "CUMSUM"]),
        draw.dtype(MOVED),
        draw.shape(),
    )
    if op == "TILE":
        times = [draw.int(1, 3) for _ in shape]
        x, y = _pair(draw, shape, [size * count for size, count in zip(shape, times, strict=True)], dtype)
        draw.build.op(op, [x, draw.build.ints(times)], [y])
    elif op == "REVERSE_V2":
        x, y = _pair(draw, shape, shape, dtype)
        draw.build.op(op, [x, draw.build.ints([draw.int(0, len(shape) - 1)])], [y])
    elif op == "BROADCAST_TO":
        x, y = _pair(draw, [1] * len(shape), shape, dtype)
        draw.build.op(op, [x, draw.build.ints(shape)], [y])
    else:
        x, y = _pair(draw, shape, shape, dtype)
        draw.build.op(op, [x, draw.build.ints([0], shape=[])], [y])
    return draw.finish([y])


def gather(draw: Draw) -> bytes:
    op, dtype = draw.one(["GATHER", "GATHER", "GATHER", "GATHER_ND", "SCATTER_ND"]), draw.dtype(MOVED)
    if op == "SCATTER_ND":
        rows, depth = draw.int(2, 8), draw.int(1, 8)
        index = [[int(at)] for at in draw.rng.permutation(rows)[:2]]
        if draw.chance(0.2):
            index[1] = index[0]
        at = draw.build.ints(index) if not draw.chance(0.2) else draw.build.input([2, 1], "int32", scale=None)
        x, y = _pair(draw, [2, depth], [rows, depth], dtype)
        draw.build.op(op, [at, x, draw.build.ints([rows, depth])], [y])
        return draw.finish([y])
    shape = draw.shape(draw.one([2, 3, 4]))
    kind = draw.one(["int32"] * 5 + ["int64", "int16"])
    if op == "GATHER_ND":
        x, y = _pair(draw, shape, [3, *shape[1:]], dtype)
        draw.build.op(op, [x, draw.build.ints([[0]] * 3, kind)], [y])
        return draw.finish([y])
    axis = draw.one([0, 0, 0, 1, -1])
    batch_dims = draw.one([0, 0, 0, 1]) if axis == 1 else 0
    place = axis % len(shape)
    index = [3] if not batch_dims else [shape[0], 3]
    result = [*shape[:place], 3, *shape[place + 1 :]]
    x, y = _pair(draw, shape, result, dtype)
    at = draw.build.ints(np.zeros(index), kind) if draw.chance(0.5) else draw.build.input(index, kind, scale=None)
    draw.build.op(op, [x, at], [y], axis=axis, batchDims=batch_dims)
    return draw.finish([y])


def block(draw: Draw) -> bytes:
    """Space and depth exchanged; no NPU does it alone."""
    dtype, size, depth = draw.dtype(ORDINARY), 2 * draw.int(1, 6), draw.int(1, 4)
    op = draw.one(["DEPTH_TO_SPACE", "SPACE_TO_DEPTH"])
    if op == "DEPTH_TO_SPACE":
        x, y = _pair(draw, [1, size, size, depth * 4], [1, size * 2, size * 2, depth], dtype)
    else:
        x, y = _pair(draw, [1, size, size, depth], [1, size // 2, size // 2, depth * 4], dtype)
    draw.build.op(op, [x], [y], blockSize=2)
    return draw.finish([y])


def dilated(draw: Draw) -> bytes:
    """A dilated convolution as old converters write it: SPACE_TO_BATCH_ND, convolution, BATCH_TO_SPACE_ND."""
    dtype, rate, size, depth = (
        draw.dtype(("int8", "uint8", "int16")),
        draw.one([2, 2, 3, 4]),
        draw.int(4, 12),
        draw.int(1, 6),
    )
    before, kernel = rate, 3
    padded = -(-(size + 2 * before) // rate) * rate
    after = padded - size - before
    inner = padded // rate
    x = draw.input([1, size, size, depth], dtype)
    batched = draw.output([rate * rate, inner, inner, depth], dtype)
    draw.build.op(
        "SPACE_TO_BATCH_ND", [x, draw.build.ints([rate, rate]), draw.build.ints([[before, after]] * 2)], [batched]
    )
    stride = draw.one([1, 1, 1, 1, 4])
    outer = (inner - kernel) // stride + 1
    bias = draw.build.tensor([depth], "int64" if dtype == "int16" else "int32", data=np.zeros(depth), scale=0.001)
    weights = draw.constant(
        [1, kernel, kernel, depth], "int8" if dtype != "uint8" else "uint8", scale=0.01, zero_point=0
    )
    mid = draw.output([rate * rate, outer, outer, depth], dtype)
    draw.build.op(
        "DEPTHWISE_CONV_2D",
        [batched, weights, bias],
        [mid],
        padding=1,
        strideH=stride,
        strideW=stride,
        depthMultiplier=1,
    )
    crop = max(outer * rate - size, 0)
    y = draw.output([1, outer * rate - crop, outer * rate - crop, depth], dtype)
    draw.build.op("BATCH_TO_SPACE_ND", [mid, draw.build.ints([rate, rate]), draw.build.ints([[0, crop]] * 2)], [y])
    return draw.finish([y])


def network(draw: Draw) -> bytes:
    """Convolutions, an addition, an odd activation, a head: as a model has them, with a few stumbling blocks."""
    dtype, size, depth = draw.dtype(("int8", "int8", "uint8")), draw.int(6, 16), draw.int(1, 4)
    x = current = draw.input([1, size, size, depth], dtype, scale=0.02)
    for _ in range(draw.int(1, 3)):
        channels, stride = draw.int(2, 8), draw.one([1, 2, 2, 4])
        weights = draw.constant([channels, 3, 3, depth], dtype, scale=0.01, zero_point=0)
        bias = draw.build.tensor([channels], "int32", data=np.zeros(channels), scale=0.001)
        size, depth = same(size, stride), channels
        result = draw.output([1, size, size, depth], dtype, scale=0.03)
        draw.build.op(
            "CONV_2D",
            [current, weights, bias],
            [result],
            padding=SAME,
            strideH=stride,
            strideW=stride,
            fusedActivationFunction=draw.one([0, 1, 3]),
        )
        current = result
        op = draw.one(["HARD_SWISH", "LOGISTIC", "ROUND", "GELU", "ADD", "RELU", "SIN"])
        result = draw.output([1, size, size, depth], dtype, scale=1 / 256 if op == "LOGISTIC" else 0.03)
        draw.build.op(op, [current, current] if op == "ADD" else [current], [result])
        current = result
    pooled = draw.output([1, depth], dtype, scale=0.02)
    draw.build.op("MEAN", [current, draw.build.ints([1, 2])], [pooled], keepDims=False)
    weights = draw.constant([5, depth], dtype, scale=0.01, zero_point=0)
    logits = draw.output([1, 5], dtype, scale=0.05)
    draw.build.op(
        "FULLY_CONNECTED", [pooled, weights, draw.build.tensor([5], "int32", data=np.zeros(5), scale=0.0002)], [logits]
    )
    y = draw.output([1, 5], dtype, scale=1 / 256, zero_point=-128 if dtype == "int8" else 0)
    draw.build.op("SOFTMAX", [logits], [y], beta=1.0)
    assert x >= 0
    return draw.finish([y])


FAMILIES = {
    "reshape": (reshape, 8),
    "transpose": (transpose, 10),
    "join": (join, 8),
    "split": (split, 7),
    "cut": (cut, 9),
    "pad": (pad, 9),
    "resize": (resize, 9),
    "tile": (tile, 6),
    "gather": (gather, 6),
    "block": (block, 2),
    "dilated": (dilated, 4),
    "network": (network, 8),
}
