"""What to zero: the least weights, or the least channels. Only for children.

Both answer with masks for variables, of which a schedule asks more and more while the model is trained on. The amount
at a share p of the schedule is ``amount * (1 - (1 - p)**3)`` (Zhu & Gupta 2017, "To prune, or not to prune").

What is compared across layers is the LAMP score, the square of a weight (or of a channel's norm) over the sum of the
squares of those in its layer that are not smaller (Lee et al. 2021, "Layer-adaptive sparsity for the magnitude-based
pruning"): each layer's largest scores 1, so none is emptied.
"""

from __future__ import annotations

import math
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import ReleaseError
from edgesdk_converters.compress.shrink import prunable
from edgesdk_converters.compress.slots import Channels
from edgesdk_converters.compress.values import weight
from edgesdk_converters.compress.walk import MAKERS, Step, walk

Spread = Literal["layer", "model"]
Masks = dict[int, NDArray[np.bool_]]
"""What stays, by the variable's place in ``model.variables``."""
_MASKED = MAKERS | {"depthwise", "norm"}
_TINY = 1e-30


class Pruner(Protocol):
    """Decides what to zero in a model, by the weights that it has at the moment."""

    kept: dict[str, str]
    lasting: bool
    """Whether the masks hold for as long as the model is trained."""

    def masks(self, amount: float) -> Masks:
        """Return the masks that zero the share `amount` (0..1) of what can be pruned."""
        ...


def scheduled(amount: float, share: float) -> float:
    """Return how much of `amount` is pruned at a share (0..1) of the schedule."""
    return amount * (1 - (1 - min(1.0, share)) ** 3)


class WeightPruner:
    """Zeroes single weights of kernels, the smallest first.

    Args:
        model: Any built Keras model.
        spread: ``layer``: the same share of each kernel; ``model``: the least of all by LAMP score.

    Raises:
        ReleaseError: ``prune-unsupported`` if the model has no kernel.
    """

    lasting = True

    def __init__(self, model: Any, *, spread: Spread) -> None:
        self.kept: dict[str, str] = {}
        self._spread = spread
        trainable = {id(variable) for variable in model.trainable_variables}
        self._kernels = {
            place: variable
            for place, variable in enumerate(model.variables)
            if id(variable) in trainable and "kernel" in variable.name and len(variable.shape) > 1
        }
        if not self._kernels:
            raise ReleaseError("prune-unsupported", f"{model.name!r} has no trainable kernel")

    def masks(self, amount: float) -> Masks:
        """Return masks of the kernels."""
        sizes = {place: np.abs(np.asarray(variable)) for place, variable in self._kernels.items()}
        gone = _least([values.ravel() for values in sizes.values()], amount, self._spread)
        return {place: ~lost.reshape(values.shape) for (place, values), lost in zip(sizes.items(), gone, strict=True)}


class ChannelPruner:
    """Zeroes whole channels where they are made, the weakest first; `shrink` then removes them.

    A channel's strength is the L1 norm of its filter, times ``|gamma| / sqrt(variance)`` of a batch normalisation that
    reads nothing else (which is the norm of the folded filter), relative to its layer's mean; channels that are tied,
    as by an addition, have the mean of their strengths.

    Args:
        model: A flat functional model.
        spread: ``layer``: the same share of each layer's channels; ``model``: the weakest of all by LAMP score.

    Raises:
        ReleaseError: ``prune-unsupported`` naming the layers in the way, if no channel can be removed.
    """

    lasting = False

    def __init__(self, model: Any, *, spread: Spread) -> None:
        self._spread = spread
        self._walked = walk(model)
        self._free, self.kept = prunable(self._walked)
        self._steps = [step for step in self._walked.steps if step.kind in _MASKED and not step.again]
        self._places = {id(variable): place for place, variable in enumerate(model.variables)}
        if not self._free:
            found = "; ".join(f"{layer}: {why}" for layer, why in self.kept.items()) or "it has no such layer"
            raise ReleaseError("prune-unsupported", f"{model.name!r} has no channel that can be removed: {found}")
        self._families = self._find_families()

    def masks(self, amount: float) -> Masks:
        """Return masks of everything that makes the weakest channels."""
        strengths = self._strengths()
        each = [np.array([strengths[root] for root in family]) for family in self._families]
        gone = {
            root
            for family, lost in zip(self._families, _least(each, amount, self._spread), strict=True)
            for root, is_lost in zip(family, lost.tolist(), strict=True)
            if is_lost
        }
        found: Masks = {}
        for step in self._steps:
            stays = ~np.isin(self._roots(step), list(gone))
            for variable in _made_by(step):
                found[self._places[id(variable)]] = _spread_out(step, variable, stays)
        return found

    def _roots(self, step: Step) -> NDArray[np.int64]:
        return self._walked.channels.roots(step.outputs[0])

    def _find_families(self) -> list[list[int]]:
        """Return the channels that can be removed, in groups: those of one layer, and of layers tied to it."""
        order = {root: place for place, root in enumerate(sorted(self._free))}
        groups = Channels()
        every = groups.new(len(order))
        for step in self._steps:
            places = [order[root] for root in self._roots(step).tolist() if root in order]
            if step.kind in MAKERS and places:
                groups.tie(np.full(len(places), places[0]), np.array(places))
        family = groups.roots(every)
        return [[root for root, place in order.items() if family[place] == group] for group in np.unique(family)]

    def _strengths(self) -> dict[int, float]:
        found: dict[int, list[float]] = {}
        scales = _gammas(self._steps)
        for step in self._steps:
            if step.kind == "norm":
                continue
            norms = _norms(step) * scales.get(id(step.node.outputs[0]), 1.0)
            mean = max(float(norms.mean()), _TINY)
            for root, norm in zip(self._roots(step).tolist(), norms.tolist(), strict=True):
                found.setdefault(root, []).append(norm / mean)
        return {root: math.fsum(parts) / len(parts) for root, parts in found.items()}


def _least(sizes: list[NDArray[Any]], amount: float, spread: Spread) -> list[NDArray[np.bool_]]:
    """Return for each group which of its members go; the largest of each group stays."""
    if spread == "layer":
        return [_first(values, int(amount * len(values))) for values in sizes]
    scores = [_lamp(values) for values in sizes]
    whole = _first(np.concatenate(scores), int(amount * sum(map(len, scores))))
    parts = np.split(whole, np.cumsum([len(values) for values in scores])[:-1])
    for part, values in zip(parts, sizes, strict=True):
        part[np.argmax(values)] = False
    return parts


def _first(values: NDArray[Any], count: int) -> NDArray[np.bool_]:
    gone = np.zeros(len(values), dtype=np.bool_)
    gone[np.argsort(values, kind="stable")[: min(count, len(values) - 1)]] = True
    return gone


def _lamp(sizes: NDArray[Any]) -> NDArray[np.float64]:
    order = np.argsort(sizes, kind="stable")
    squares = sizes[order].astype(np.float64) ** 2
    scores = np.empty(len(sizes))
    scores[order] = squares / np.maximum(np.cumsum(squares[::-1])[::-1], _TINY)
    return scores


def _norms(step: Step) -> NDArray[np.float64]:
    """Return the L1 norm of what makes each output channel."""
    layer = step.layer
    if step.kind == "depthwise":
        kernel = np.asarray(layer.kernel, dtype=np.float64).reshape(-1, len(step.outputs[0])).T
    else:
        kernel = np.asarray(layer.pointwise_kernel if step.kind == "separable" else layer.kernel, dtype=np.float64)
        kernel = np.moveaxis(kernel, -2 if step.kind == "transpose" else -1, 0)
    return np.asarray(np.abs(kernel).reshape(len(step.outputs[0]), -1).sum(axis=1))


def _gammas(steps: list[Step]) -> dict[int, NDArray[np.float64]]:
    """Return what a batch normalisation multiplies a tensor's channels by, by the tensor that it reads."""
    found = {}
    for step in steps:
        gamma = weight(step.layer, "gamma") if step.kind == "norm" else None
        if gamma is not None:
            spread = np.sqrt(np.asarray(step.layer.moving_variance, dtype=np.float64) + step.layer.epsilon)
            found[id(step.node.input_tensors[0])] = np.abs(gamma.astype(np.float64)) / spread
    return found


def _made_by(step: Step) -> list[Any]:
    names = {
        "norm": ("gamma", "beta", "moving_mean"),
        "separable": ("pointwise_kernel", "bias"),
    }.get(step.kind, ("kernel", "bias"))
    return [found for name in names if (found := getattr(step.layer, name, None)) is not None]


def _spread_out(step: Step, variable: Any, stays: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask of a variable's shape from the mask of the output channels that it makes."""
    shape = tuple(variable.shape)
    if len(shape) == 1:
        return stays
    if step.kind == "depthwise":
        return np.broadcast_to(stays.reshape(shape[-2:]), shape)
    return np.broadcast_to(stays[:, None] if step.kind == "transpose" else stays, shape)
