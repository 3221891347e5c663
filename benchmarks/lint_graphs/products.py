"""Families of operators that multiply: convolutions, matrix products, pools, the LSTM."""

from __future__ import annotations

from typing import Any

import numpy as np

from lint_graphs.draw import ANY, ORDINARY, Draw, same, valid

SAME, VALID = 0, 1
NO_ACTIVATION = (0, 0, 0, 1, 3, 3, 4)  # none, relu, relu6, tanh


def _weights(draw: Draw, shape: tuple[int, ...], activation: str, axis: int, *, limit: bool = False) -> int:
    dtype = "int8"
    odd = draw.rng.random()
    if activation == "float32":
        return draw.build.tensor(shape, "float32", data=draw.rng.normal(size=shape), scale=None)
    if activation == "uint8" or odd < 0.05:
        dtype = "uint8"
    elif odd < 0.09:
        dtype = "int16"
    per_axis = dtype == "int8" and draw.chance(0.6)
    words: dict[str, Any] = {"scale": draw.scale(), "zero_point": 0 if dtype != "uint8" else draw.int(100, 150)}
    if per_axis:
        words = {"scale": draw.rng.uniform(0.002, 0.1, shape[axis]), "zero_point": 0, "axis": axis}
    if draw.chance(0.02):
        words = {"scale": None}
    if draw.chance(0.06):
        return draw.build.input(shape, dtype, **words)
    if limit:
        top = {"int8": 127, "uint8": 255, "int16": 127}[dtype]
        data = np.full(shape, top if draw.chance(0.5) else 3)
        return draw.build.tensor(shape, dtype, data=data, **words)
    return draw.constant(shape, dtype, **words)


def _bias(draw: Draw, channels: int, activation: str) -> list[int]:
    if activation == "float32":
        return [draw.build.tensor([channels], "float32", data=np.zeros(channels), scale=None)]
    odd = draw.rng.random()
    if odd < 0.06:
        return []
    words = {"scale": draw.scale() / 10}
    if odd < 0.09:
        return [draw.build.input([channels], "int32", **words)]
    if odd < 0.12:
        return [draw.build.tensor([channels, 1], "int32", data=np.zeros((channels, 1)), **words)]
    if odd < 0.15:
        return [draw.build.tensor([channels], "int16", data=np.zeros(channels), **words)]
    if activation == "int16" or odd < 0.2:
        top = draw.one([1 << 20, (1 << 40) - 1, 1 << 40, 1 << 41, (1 << 48) - 1, 1 << 48])
        data = np.full(channels, top if draw.chance(0.5) else 5)
        return [draw.build.tensor([channels], "int64", data=data, **words)]
    return [draw.build.tensor([channels], "int32", data=draw.rng.integers(-999, 999, channels), **words)]


def _window(draw: Draw, kernel: int, *, dilations: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Draw (size, stride, dilation, padding) along one axis, so that a VALID window fits."""
    stride, dilation = draw.one([1, 1, 1, 2, 2, 3, 4, 5]), draw.one(dilations)
    size = draw.int((kernel - 1) * dilation + 1, (kernel - 1) * dilation + 1 + 20)
    return size, stride, dilation, draw.one([SAME, VALID])


def _out(size: int, kernel: int, stride: int, dilation: int, padding: int) -> int:
    return same(size, stride) if padding == SAME else valid(size, kernel, stride, dilation)


def conv_2d(draw: Draw) -> bytes:
    dtype = draw.dtype((*ORDINARY, "float32", "int32"))
    height, width = draw.one([1, 1, 3, 3, 5, 7, 11, 64]), draw.one([1, 3, 3, 3, 5, 9, 70])
    dilations = (1, 1, 1, 1, 2, 3, 4) if height * width < 60 else (1,)
    ih, sh, dh, padding = _window(draw, height, dilations=dilations)
    iw, sw, dw, _ = _window(draw, width, dilations=dilations)
    big = draw.chance(0.06)
    groups = draw.one([1, 1, 1, 1, 2, 4])
    depth = groups * draw.int(1, 8)
    if big:
        height, width, groups, depth = 3, 3, 1, draw.one([3600, 7000, 8000])
        ih, iw, sh, sw, dh, dw = 3, 3, 1, 1, 1, 1
    channels = groups * draw.int(1, 8) if not big else 2
    if draw.chance(0.02):
        depth += 1
    batch = draw.one([1, 1, 1, 2])
    x = draw.input([batch, ih, iw, depth], dtype)
    weights = _weights(draw, (channels, height, width, max(1, depth // groups)), dtype, 0, limit=big)
    bias = _bias(draw, channels, dtype)
    shape = [batch, _out(ih, height, sh, dh, padding), _out(iw, width, sw, dw, padding), channels]
    y = draw.output(shape, dtype if not draw.chance(0.03) else draw.dtype(ORDINARY))
    draw.build.op(
        "CONV_2D", [x, weights, *bias], [y], padding=padding, strideH=sh, strideW=sw, dilationHFactor=dh,
        dilationWFactor=dw, fusedActivationFunction=draw.one(NO_ACTIVATION),
    )  # fmt: skip
    return draw.finish([y])


def depthwise_conv_2d(draw: Draw) -> bytes:
    dtype = draw.dtype((*ORDINARY, "float32"))
    height, width = draw.one([1, 3, 3, 5, 9]), draw.one([1, 3, 3, 5, 9])
    ih, sh, dh, padding = _window(draw, height, dilations=(1, 1, 1, 2, 3))
    iw, sw, dw, _ = _window(draw, width, dilations=(1, 1, 1, 2, 3))
    depth, multiplier = draw.int(1, 16), draw.one([1, 1, 1, 2, 3])
    if draw.chance(0.15):
        depth = 1
    channels = depth * multiplier
    x = draw.input([1, ih, iw, depth], dtype)
    weights = _weights(draw, (1, height, width, channels), dtype, 3)
    shape = [1, _out(ih, height, sh, dh, padding), _out(iw, width, sw, dw, padding), channels]
    y = draw.output(shape, dtype)
    draw.build.op(
        "DEPTHWISE_CONV_2D", [x, weights, *_bias(draw, channels, dtype)], [y], padding=padding, strideH=sh, strideW=sw,
        dilationHFactor=dh, dilationWFactor=dw, depthMultiplier=multiplier if not draw.chance(0.02) else 5,
        fusedActivationFunction=draw.one(NO_ACTIVATION),
    )  # fmt: skip
    return draw.finish([y])


def transpose_conv(draw: Draw) -> bytes:
    dtype = draw.dtype(ORDINARY)
    height, width = draw.one([1, 2, 3, 3, 4]), draw.one([1, 2, 3, 3, 4])
    sh, sw = draw.one([(1, 1), (2, 2), (2, 2), (2, 2), (2, 1), (1, 2), (3, 3)])
    ih, iw = draw.one([1, draw.int(1, 12), draw.int(2, 12)]), draw.one([1, draw.int(1, 12), draw.int(2, 12)])
    if draw.chance(0.3):
        (ih, height) = (1, 1) if (sw, sh) == (2, 1) else (ih, height)
        (iw, width) = (1, 1) if (sw, sh) == (1, 2) else (iw, width)
    padding = draw.one([SAME, VALID])
    depth, channels = draw.int(1, 8), draw.int(1, 8)
    oh = ih * sh if padding == SAME else ih * sh + max(height - sh, 0)
    ow = iw * sw if padding == SAME else iw * sw + max(width - sw, 0)
    if draw.chance(0.12):
        oh += 1
    shape = [1, oh, ow, channels]
    x = draw.input([1, ih, iw, depth], dtype)
    weights = _weights(draw, (channels, height, width, depth), dtype, 0)
    size = draw.build.ints(shape) if not draw.chance(0.05) else draw.build.input([4], "int32", scale=None)
    y = draw.output(shape, dtype)
    draw.build.op(
        "TRANSPOSE_CONV", [size, weights, x, *_bias(draw, channels, dtype)], [y], padding=padding, strideH=sh,
        strideW=sw,
    )  # fmt: skip
    return draw.finish([y])


def fully_connected(draw: Draw) -> bytes:
    dtype = draw.dtype((*ORDINARY, "float32", "int32"))
    depth, channels = draw.int(1, 64), draw.int(1, 32)
    big = draw.chance(0.08)
    if big:
        depth, channels = draw.one([32768, 65536, 65537, 70000]), 2
    keep = draw.chance(0.25)
    leading = draw.one([(1,), (1,), (4,), (2, 3), (1, 2, 3)])
    x = draw.input([*leading, depth], dtype)
    shape = (channels, depth) if not draw.chance(0.06) else draw.one([(channels, 1, 1, depth), (channels, 1, depth)])
    if draw.chance(0.03) and depth % 2 == 0:
        shape = (channels, 2, depth // 2)
    weights = _weights(draw, shape, dtype, 0, limit=big)
    rows = int(np.prod(leading))
    y = draw.output([*leading, channels] if keep and not draw.chance(0.1) else [rows, channels], dtype)
    draw.build.op(
        "FULLY_CONNECTED", [x, weights, *_bias(draw, channels, dtype)], [y], keepNumDims=keep,
        fusedActivationFunction=draw.one(NO_ACTIVATION),
    )  # fmt: skip
    return draw.finish([y])


def batch_matmul(draw: Draw) -> bytes:
    dtype = draw.dtype((*ORDINARY, "float32", "int32"))
    m, k, n = draw.int(1, 20), draw.int(1, 20), draw.int(1, 20)
    if draw.chance(0.08):
        m, k, n = 1, draw.one([65535, 65536, 65537]), 2
    elif draw.chance(0.08):
        m, k, n = 1, 2, draw.one([65535, 65536, 65537])
    rank = draw.one([2, 3, 3, 4, 4, 5])
    batch = [draw.int(1, 3) for _ in range(rank - 2)]
    other = [size if not draw.chance(0.2) else 1 for size in batch]
    adj_x, adj_y = draw.chance(0.2), draw.chance(0.3)
    left = [*batch, k, m] if adj_x else [*batch, m, k]
    right = [*other, n, k] if adj_y else [*other, k, n]
    a = draw.input(left, dtype)
    b = draw.input(right, dtype) if draw.chance(0.7) else draw.constant(right, dtype)
    y = draw.output([*batch, m, n], dtype)
    draw.build.op("BATCH_MATMUL", [a, b], [y], adjX=adj_x, adjY=adj_y)
    return draw.finish([y])


def pool(draw: Draw) -> bytes:
    op = draw.one(["AVERAGE_POOL_2D", "AVERAGE_POOL_2D", "MAX_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D"])
    dtype = draw.dtype()
    height, width = draw.one([1, 2, 2, 3, 7, 8, 9, 16]), draw.one([1, 2, 2, 3, 7, 8, 9, 16])
    if draw.chance(0.12):
        height, width = draw.one([(255, 2), (256, 1), (257, 1), (256, 256), (256, 257), (2, 300)])
    ih, sh, _, padding = _window(draw, height, dilations=(1,))
    iw, sw, _, _ = _window(draw, width, dilations=(1,))
    depth = draw.int(1, 8)
    batch = draw.one([1, 1, 1, 2])
    words = draw.quantization(dtype)
    x = draw.input([batch, ih, iw, depth], dtype, **words)
    shape = [batch, _out(ih, height, sh, 1, padding), _out(iw, width, sw, 1, padding), depth]
    y = draw.output(shape, dtype if not draw.chance(0.03) else "int8", **(words if draw.chance(0.8) else {}))
    draw.build.op(
        op, [x], [y], padding=padding, strideH=sh, strideW=sw, filterHeight=height, filterWidth=width,
        fusedActivationFunction=draw.one([0, 0, 1, 3]),
    )  # fmt: skip
    return draw.finish([y])


def lstm(draw: Draw) -> bytes:
    """An integer LSTM: 24 inputs, 5 intermediates, two states; now and then with a variant that no NPU has."""
    dtype = draw.dtype(("int8", "int8", "int8", "int16", "uint8", "float32"))
    time, features, cells = draw.int(1, 4), draw.int(1, 8), draw.int(1, 8)
    time_major = draw.chance(0.3)
    shape = [time, 1, features] if time_major else [1, time, features]
    x = draw.input(shape, dtype, **({"scale": None} if dtype == "float32" else {"scale": 0.1}))
    weight_type = "float32" if dtype == "float32" else "int8"
    bias_type = "float32" if dtype == "float32" else "int32"
    gate = [draw.constant([cells, features], weight_type, scale=0.01) for _ in range(4)]
    loop = [draw.constant([cells, cells], weight_type, scale=0.01) for _ in range(4)]
    bias = [draw.build.tensor([cells], bias_type, data=np.zeros(cells), scale=0.001) for _ in range(4)]
    odd = draw.rng.random()
    peephole, projection, norm = [-1] * 3, [-1, -1], [-1] * 4
    if odd < 0.12:
        peephole = [draw.constant([cells], "int16", scale=0.01) for _ in range(3)]
    elif odd < 0.24:
        projection = [draw.constant([cells, cells], weight_type, scale=0.01), -1]
    elif odd < 0.36:
        norm = [draw.constant([cells], "int16", scale=0.01) for _ in range(4)]
    elif odd < 0.46:
        gate[0] = loop[0] = bias[0] = -1
    state = [
        draw.build.tensor([1, cells], dtype, scale=0.01, variable=True),
        draw.build.tensor([1, cells], "float32" if dtype == "float32" else "int16", scale=2**-11, variable=True),
    ]
    between = [draw.build.tensor([0], "int16", scale=2**-12) for _ in range(4)]
    between.append(draw.build.tensor([0], "int8", scale=0.01))
    y = draw.output([*shape[:2], cells], dtype, **({"scale": None} if dtype == "float32" else {"scale": 0.01}))
    inputs = [x, *gate, *loop, *peephole, *bias, *projection, *state, *norm]
    draw.build.op(
        "UNIDIRECTIONAL_SEQUENCE_LSTM", inputs if not draw.chance(0.04) else inputs[:20], [y], timeMajor=time_major,
        cellClip=10.0, fusedActivationFunction=4, intermediates=between,
    )  # fmt: skip
    return draw.finish([y])


FAMILIES = {
    "conv_2d": (conv_2d, 14),
    "depthwise_conv_2d": (depthwise_conv_2d, 9),
    "transpose_conv": (transpose_conv, 7),
    "fully_connected": (fully_connected, 9),
    "batch_matmul": (batch_matmul, 7),
    "pool": (pool, 10),
    "lstm": (lstm, 5),
}
assert ANY
