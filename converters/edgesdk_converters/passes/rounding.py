"""Weights rounded by what their layer reads, not one by one.

An error that the inputs hardly show is cheap, and weights that are rounded later make good what earlier ones spoiled;
a bias takes the rest. The method is optimal brain quantization in GPTQ's order (Frantar & Alistarh 2022,
arXiv:2208.11580; Frantar et al. 2022, arXiv:2210.17323): for a layer with weights w and inputs x the loss is
``E[((w - q) x)²] = (w - q) M (w - q)ᵀ`` with the second moments ``M = E[x xᵀ]``. A constant input of 1 stands for the
bias, which is not rounded.

What is learned from few samples may be wrong on others. So the samples are divided: most of them teach, the others
judge each channel, and the damping that serves them best is taken; where rounding to the nearest serves better, that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DAMPINGS = (0.01, 0.1, 1.0)
"""Added to the diagonal of the moments, as a part of its mean: GPTQ's own, and more for fewer samples."""
BLOCK = 64
"""So many columns are rounded before the others hear of it, for speed; the result is the same but for rounding."""
SMALLEST = 1e-12
"""Scale of a channel of zeros."""


@dataclass(frozen=True, kw_only=True)
class Rounded:
    """A layer's weights on their grid, and what its bias gets.

    Attributes:
        weights: As they were given, [groups, channels, inputs]: whole multiples of the channel's scale.
        bias: To be added, [groups, channels]; zeros where nobody may.
        nearest: Loss on the judging samples if every weight is rounded to the nearest.
        loss: The loss now.
    """

    weights: Floats
    bias: Floats
    nearest: float
    loss: float


def scales_of(weights: Floats, most: int, *, whole: bool = False) -> Floats:
    """Return the scale of each channel, [groups, channels]: ``S = max|w| / most``, as the quantizers take it.

    Args:
        weights: [groups, channels, inputs].
        most: Largest whole number.
        whole: Whether all channels have the largest of these scales.
    """
    largest = np.abs(weights).max(axis=2)
    return np.asarray(np.maximum(np.full_like(largest, largest.max()) if whole else largest, SMALLEST) / most)


def round_layer(weights: Floats, teaching: Floats, judging: Floats, most: int, *, whole: bool = False) -> Rounded:
    """Round the weights of a layer to whole multiples of each channel's scale.

    The largest weight of a scale stays what it is, so that whoever takes the scale from the weights finds the same.

    Args:
        weights: [groups, channels, inputs].
        teaching: Sums of products of the inputs, [groups, inputs + 1, inputs + 1], the last input being 1; without it,
            [groups, inputs, inputs], the bias stays as it is.
        judging: The same of other samples.
        most: Largest whole number.
        whole: Whether all channels have one scale.
    """
    scales = scales_of(weights, most, whole=whole)
    plain = np.clip(np.rint(weights / scales[:, :, None]), -most, most) * scales[:, :, None]
    best, bias = plain, np.zeros(weights.shape[:2])
    if not (np.isfinite(teaching).all() and np.isfinite(judging).all()):
        # A mask's infinity, or what overflows, teaches nothing.
        return Rounded(weights=best, bias=bias, nearest=0.0, loss=0.0)
    least = nearest = _losses(plain - weights, bias, judging)
    for damping in DAMPINGS:
        try:
            tried, change = _compensated(weights, teaching, scales, most, damping)
        except np.linalg.LinAlgError:
            continue
        loss = _losses(tried - weights, change, judging)
        better = loss < least
        best = np.where(better[:, :, None], tried, best)
        bias, least = np.where(better, change, bias), np.where(better, loss, least)
    return Rounded(weights=best, bias=bias, nearest=float(nearest.sum()), loss=float(least.sum()))


def _losses(errors: Floats, bias: Floats, moments: Floats) -> Floats:
    """Return ``e M eᵀ`` of each channel, [groups, channels]."""
    if moments.shape[1] > errors.shape[2]:
        errors = np.concatenate([errors, bias[:, :, None]], axis=2)
    return np.asarray(((errors @ moments) * errors).sum(axis=2))


def _compensated(weights: Floats, moments: Floats, scales: Floats, most: int, damping: float) -> tuple[Floats, Floats]:
    """Round input by input, the strongest first, and change what is not rounded yet by each error.

    Returns:
        The rounded weights and the change of the bias.
    """
    groups, channels, inputs = weights.shape
    whole = moments.shape[1]
    strength = np.einsum("gii->gi", moments)
    order = np.argsort(-strength[:, :inputs], axis=1, kind="stable")
    every = np.concatenate([order, np.full((groups, whole - inputs), inputs, order.dtype)], axis=1)
    factor = _factor(moments, every, damping * strength[:, :inputs].mean(axis=1))
    left = np.concatenate([weights, np.zeros((groups, channels, whole - inputs))], axis=2)
    left = np.take_along_axis(left, every[:, None, :], axis=2)
    ends = np.rint(left[:, :, :inputs] / scales[:, :, None])
    numbers = np.zeros((groups, channels, inputs))
    for start in range(0, inputs, BLOCK):
        end = min(start + BLOCK, inputs)
        errors = np.zeros((groups, channels, end - start))
        for at in range(start, end):
            found = np.clip(np.rint(left[:, :, at] / scales), -most, most)
            numbers[:, :, at] = np.where(np.abs(ends[:, :, at]) >= most, ends[:, :, at], found)
            error = (left[:, :, at] - numbers[:, :, at] * scales) / factor[:, None, at, at]
            left[:, :, at + 1 : end] -= error[:, :, None] * factor[:, None, at, at + 1 : end]
            errors[:, :, at - start] = error
        left[:, :, end:] -= errors @ factor[:, start:end, end:]
    back = np.argsort(order, axis=1)
    rounded = np.take_along_axis(numbers, back[:, None, :], axis=2) * scales[:, :, None]
    return rounded, left[:, :, inputs] if whole > inputs else np.zeros((groups, channels))


def _factor(moments: Floats, order: NDArray[np.int64], damping: Floats) -> Floats:
    """Return the upper Cholesky factor of the inverse of the damped moments, in an order of the inputs."""
    groups, whole = order.shape
    damped = moments[np.arange(groups)[:, None, None], order[:, :, None], order[:, None, :]]
    damped[:, np.arange(whole), np.arange(whole)] += damping[:, None] + SMALLEST
    factor: Floats = np.linalg.cholesky(np.linalg.inv(damped)).transpose(0, 2, 1)
    return factor
