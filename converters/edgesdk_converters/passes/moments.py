"""What layers read of the calibration data: sums of products of their inputs, by which their weights are rounded."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.passes.rounding import Floats, Rounded, round_layer
from edgesdk_converters.running.isolation import Progress

SAMPLES = 64
POSITIONS = 256
"""Of one sample that count, drawn once per layer: neighbours say the same."""
JUDGES = 4
"""Every so many samples judge what the others taught."""
MOST_INPUTS = 4608
"""Of one output (512 channels of 3 x 3): larger moments take too much memory, and such weights are rounded as usual."""
MEMORY = 512 << 20
"""Bytes of moments at once: the data is run again for more layers."""

Tensors = Mapping[str, NDArray[Any]]
Run = Callable[[Tensors], Tensors]


@dataclass(frozen=True, kw_only=True)
class Window:
    """How a convolution goes over its input, by dimension.

    Attributes:
        pads: Zeros before and after; ``upper`` or ``lower``: as many as keep the size (over the stride), the odd one at
            the end or the beginning.
        last: Whether the channels are the last dimension, not the second.
    """

    kernel: Sequence[int]
    strides: Sequence[int]
    dilations: Sequence[int]
    pads: Sequence[tuple[int, int]] | str
    last: bool = False


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Weights that are rounded, and what they are multiplied by.

    Attributes:
        name: Of what uses them first.
        reads: The tensors, and how a convolution goes over each; None for a matrix product.
        weights: [groups, channels, inputs of each].
        biased: Whether there is a bias that may change: of one user, and its own.
        whole: Whether all channels have one scale.
    """

    name: str
    reads: tuple[tuple[str, Window | None], ...]
    weights: Floats
    biased: bool
    whole: bool = False

    @property
    def size(self) -> int:
        """Bytes of its moments, of both kinds of samples."""
        groups, _channels, inputs = self.weights.shape
        return 2 * 8 * groups * (inputs + 1) ** 2


def round_layers(
    layers: Sequence[Layer], run: Run, rows: Callable[[], Iterable[Tensors]], most: int, progress: Progress
) -> Iterator[tuple[Layer, Rounded]]:
    """Yield each layer with its rounded weights.

    Args:
        layers: Those of a file, of at most `MOST_INPUTS` inputs each.
        run: Gives the tensors that layers read for a sample.
        rows: Gives the samples anew: once for each part of the layers whose moments fit into `MEMORY`.
        most: Largest whole number.
        progress: Is told how many layers are done.
    """
    done = 0
    for part in in_parts(layers):
        teaching, judging = _moments(part, run, rows())
        for layer in part:
            progress(done, len(layers))
            moments = teaching[layer.name], judging[layer.name]
            yield layer, round_layer(layer.weights, *moments, most, whole=layer.whole)
            done += 1


def in_parts(layers: Sequence[Layer]) -> Iterator[list[Layer]]:
    """Yield the layers in parts whose moments fit into `MEMORY`, or that are one layer."""
    part: list[Layer] = []
    for layer in layers:
        if part and sum(each.size for each in part) + layer.size > MEMORY:
            yield part
            part = []
        part.append(layer)
    if part:
        yield part


def columns_of(layer: Layer, window: Window | None, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what is multiplied by the weights, [groups, inputs (+ 1 for the bias), positions]."""
    if window is None:
        found = values.reshape(-1, layer.weights.shape[2]).T[None]
    else:
        found = _patches(layer, window, np.moveaxis(values, -1, 1) if window.last else values)
    if found.shape[2] > POSITIONS:
        random = np.random.default_rng(zlib.crc32(layer.name.encode()))
        found = found[:, :, np.sort(random.choice(found.shape[2], POSITIONS, replace=False))]
    if layer.biased:
        found = np.concatenate([found, np.ones((len(found), 1, found.shape[2]), found.dtype)], axis=1)
    return np.ascontiguousarray(found)


def _moments(layers: Sequence[Layer], run: Run, rows: Iterable[Tensors]) -> tuple[dict[str, Floats], dict[str, Floats]]:
    """Return the sums of products of what each layer reads, of the samples that teach and of those that judge."""
    sums: tuple[dict[str, Floats], dict[str, Floats]] = ({}, {})
    for at, row in enumerate(rows):
        read = run(row)
        mine = sums[at % JUDGES == JUDGES - 1]
        for layer in layers:
            for tensor, window in layer.reads:
                columns = columns_of(layer, window, read[tensor])
                products = (columns @ columns.transpose(0, 2, 1)).astype(np.float64)
                mine[layer.name] = mine.get(layer.name, 0.0) + products
    teaching, judging = sums
    return teaching, judging or teaching  # too few to divide: who taught judges


def _patches(layer: Layer, window: Window, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what a convolution sees, [groups, inputs, positions]; `values` are [N, channels, *sizes]."""
    reach = [(k - 1) * d + 1 for k, d in zip(window.kernel, window.dilations, strict=True)]
    seen = np.pad(values, [(0, 0), (0, 0), *_padding(window, values.shape[2:], reach)])
    for axis, far in enumerate(reach, start=2):
        seen = np.lib.stride_tricks.sliding_window_view(seen, far, axis=axis)
    steps = [slice(None, None, step) for step in (*window.strides, *window.dilations)]
    seen = seen[(slice(None), slice(None), *steps)]
    groups, _channels, inputs = layer.weights.shape
    patches = seen.reshape(len(values), groups, values.shape[1] // groups, -1, int(np.prod(window.kernel)))
    return np.asarray(patches.transpose(1, 2, 4, 0, 3).reshape(groups, inputs, -1))


def _padding(window: Window, sizes: Sequence[int], reach: Sequence[int]) -> list[tuple[int, int]]:
    """Return zeros before and after, by dimension."""
    if not isinstance(window.pads, str):
        return list(window.pads)
    wanted = [
        max(0, (-(-size // step) - 1) * step + far - size)
        for size, far, step in zip(sizes, reach, window.strides, strict=True)
    ]
    halves = [(each // 2, each - each // 2) for each in wanted]
    return halves if window.pads == "upper" else [(after, before) for before, after in halves]
