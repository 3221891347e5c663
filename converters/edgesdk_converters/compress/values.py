"""What is known of channels without running the model: which are constant, and what they are. Only for children.

Two questions are answered by one propagation:

- *as it is*: channels whose value follows from the weights alone (a filter of zeros gives its activation of the bias);
- *if removed*: what the readers of a channel would see if everything that makes it were zero.

`NaN` stands for "depends on the input". Both hold for inference: dropout and noise hand values on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk_converters.compress.walk import ELEMENTWISE, MAKERS, Step, Walked, activation_name, reshaped

Values = NDArray[np.float64]


def constants(walked: Walked) -> dict[int, Values]:
    """Return the constant or NaN for each channel of each tensor (by identity), with the weights as they are."""
    return _propagate(walked, {**dict.fromkeys(MAKERS, _made), "depthwise": _depthwise, "norm": _normalised})


def if_removed(walked: Walked) -> dict[int, Values]:
    """Return what each tensor would hold if all channels that are not pinned were zeroed where they are made."""
    channels, pinned = walked.channels, set(walked.channels.pinned())

    def stays(step: Step) -> NDArray[np.bool_]:
        return np.isin(channels.roots(step.outputs[0]), list(pinned))

    def made(step: Step, _inputs: list[Values]) -> Values:
        zero = activated(step.layer.activation, np.zeros(len(step.outputs[0])))
        return np.where(stays(step), np.nan, zero)

    def depthwise(step: Step, inputs: list[Values]) -> Values:
        return np.where(np.repeat(inputs[0], step.layer.depth_multiplier) == 0, made(step, inputs), np.nan)

    def normalised(step: Step, inputs: list[Values]) -> Values:
        # Its beta, gamma and mean are zeroed with the channel.
        return np.where(stays(step) | ((inputs[0] != 0) & (not step.layer.scale)), np.nan, 0.0)

    return _propagate(walked, {**dict.fromkeys(MAKERS, made), "depthwise": depthwise, "norm": normalised})


def activated(function: Callable[[Any], Any], values: Values) -> Values:
    """Apply an elementwise function to constants, and leave what is no constant."""
    known = np.isfinite(values)
    result = np.full(len(values), np.nan)
    if known.any():
        result[known] = np.asarray(function(values[known][None].astype(np.float32)))[0]
    return result


def weight(layer: Any, name: str) -> NDArray[Any] | None:
    """Return a layer's weight by attribute; None where the layer has none."""
    variable = getattr(layer, name, None)
    return None if variable is None else np.asarray(variable)


def _propagate(walked: Walked, rules: dict[str, Callable[[Step, list[Values]], Values]]) -> dict[int, Values]:
    known: dict[int, Values] = {id(each): np.full(int(each.shape[-1] or 0), np.nan) for each in walked.model.inputs}
    for step in walked.steps:
        inputs = [known[id(tensor)] for tensor in step.node.input_tensors]
        if step.kind == "barrier":
            results = [np.full(len(slots), np.nan) for slots in step.outputs]
        else:
            results = [rules.get(step.kind, _SIMPLE.get(step.kind, _same))(step, inputs)]
        known |= {id(tensor): values for tensor, values in zip(step.node.outputs, results, strict=True)}
    return known


def reads(step: Step) -> NDArray[np.bool_]:
    """Return for each input channel of a maker whether any of its weights for it is not zero."""
    if step.kind == "separable":
        weights = np.moveaxis(np.asarray(step.layer.depthwise_kernel), -2, 0)
    else:
        weights = np.moveaxis(np.asarray(step.layer.kernel), -1 if step.kind == "transpose" else -2, 0)
    return np.asarray(weights.reshape(len(weights), -1).any(axis=1))


def folds(step: Step) -> bool:
    """Say whether a constant that a maker reads can become part of its bias; zero padding would show at the border."""
    return not step.shared and (step.kind == "dense" or (step.kind == "conv" and step.layer.padding == "valid"))


def bias_of(step: Step, values: Values) -> NDArray[np.float64]:
    """Return what constant input channels (`values`, 0 for all others) add to each output of a dense or convolution."""
    kernel = np.asarray(step.layer.kernel, dtype=np.float64)
    return np.asarray(values @ kernel.reshape(-1, *kernel.shape[-2:]).sum(axis=0))


def _made(step: Step, inputs: list[Values]) -> Values:
    layer, values = step.layer, inputs[0]
    if activation_name(layer.activation) not in ELEMENTWISE:
        return np.full(len(step.outputs[0]), np.nan)
    bias = weight(layer, "bias")
    total = np.zeros(len(step.outputs[0])) if bias is None else bias.astype(np.float64)
    usable = np.isfinite(values) if folds(step) else values == 0
    if step.kind in {"dense", "conv"}:
        total = total + bias_of(step, np.where(usable, values, 0.0))
    live = _mixes(step)[~usable].any(axis=0)
    return activated(layer.activation, np.where(live, np.nan, total))


def _mixes(step: Step) -> NDArray[np.bool_]:
    """Return [inputs, outputs]: whether an output channel of a maker depends on an input channel."""
    layer = step.layer
    if step.kind == "separable":
        depthwise, pointwise = np.asarray(layer.depthwise_kernel), np.asarray(layer.pointwise_kernel)
        lanes = depthwise.reshape(-1, *depthwise.shape[-2:]).any(axis=0)
        taken = (pointwise.reshape(-1, pointwise.shape[-1]) != 0).reshape(*lanes.shape, -1)
        return np.asarray((taken & lanes[..., None]).any(axis=1))
    kernel = np.asarray(layer.kernel)
    mixed = (kernel != 0).reshape(-1, *kernel.shape[-2:]).any(axis=0)
    return np.asarray(mixed.T if step.kind == "transpose" else mixed)


def _depthwise(step: Step, inputs: list[Values]) -> Values:
    layer = step.layer
    values = np.repeat(inputs[0], layer.depth_multiplier)
    kernel = np.asarray(layer.kernel, dtype=np.float64).reshape(-1, len(values))
    bias = weight(layer, "bias")
    total = np.zeros(len(values)) if bias is None else bias.astype(np.float64)
    if layer.padding == "valid":
        total = total + np.where(np.isfinite(values), values, np.nan) * kernel.sum(axis=0)
    else:
        total = np.where(values == 0, total, np.nan)
    dead = ~kernel.any(axis=0)
    still = np.zeros(len(values)) if bias is None else bias.astype(np.float64)
    return activated(layer.activation, np.where(dead, still, total))


def _normalised(step: Step, inputs: list[Values]) -> Values:
    layer = step.layer
    gamma, beta = weight(layer, "gamma"), weight(layer, "beta")
    scale = np.ones(len(inputs[0])) if gamma is None else gamma.astype(np.float64)
    shift = np.zeros(len(inputs[0])) if beta is None else beta.astype(np.float64)
    spread = np.sqrt(np.asarray(layer.moving_variance, dtype=np.float64) + layer.epsilon)
    moved = scale * (inputs[0] - np.asarray(layer.moving_mean, dtype=np.float64)) / spread + shift
    return np.asarray(np.where(scale == 0, shift, moved))


def _same(_step: Step, inputs: list[Values]) -> Values:
    return inputs[0]


def _applied(step: Step, inputs: list[Values]) -> Values:
    return activated(step.layer, inputs[0])


def _padded(_step: Step, inputs: list[Values]) -> Values:
    return np.where(inputs[0] == 0, 0.0, np.nan)


def _reshaped(step: Step, inputs: list[Values]) -> Values:
    places = reshaped(np.arange(len(inputs[0])), step.node)
    assert places is not None, "a reshape that mixes channels is a barrier"
    return inputs[0][places]


def _concatenated(step: Step, inputs: list[Values]) -> Values:
    if len(step.outputs[0]) == sum(map(len, inputs)) and len(inputs) > 1:
        return np.concatenate(inputs)
    first, *others = inputs
    return np.where(np.all([first == other for other in others], axis=0), first, np.nan) if others else first


def _merged(step: Step, inputs: list[Values]) -> Values:
    width = len(step.outputs[0])
    parts = np.stack([np.broadcast_to(values, width) for values in inputs])
    kind = type(step.layer).__name__
    if kind == "Multiply":
        return np.where((parts == 0).any(axis=0), 0.0, parts.prod(axis=0))
    if kind == "Subtract":
        return np.asarray(parts[0] - parts[1])
    reduced = {"Add": parts.sum(0), "Average": parts.mean(0), "Maximum": parts.max(0), "Minimum": parts.min(0)}
    return np.asarray(reduced[kind])


_SIMPLE = {
    "apply": _applied,
    "pad": _padded,
    "reshape": _reshaped,
    "concat": _concatenated,
    "merge": _merged,
}
