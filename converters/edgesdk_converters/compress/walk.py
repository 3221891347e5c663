"""Which channels of a model depend on each other: one walk over its graph. Only for children: imports Keras.

Every tensor is described by one channel number for each place of its last axis. A convolution makes new channels, an
activation hands them on, an addition ties two tensors' channels, Flatten repeats them. What a rule here does not know
(a recurrent layer, an attention, a layer of one's own) keeps all channels that it reads and all that it makes: it is
called by the smaller model as it was. So an unknown layer costs compression, never correctness.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import layers

from edgesdk_converters.compress.graph import nodes
from edgesdk_converters.compress.slots import Channels, Slots

KINDS: dict[type, str] = {
    layers.Dense: "dense",
    **dict.fromkeys((layers.Conv1D, layers.Conv2D, layers.Conv3D), "conv"),
    **dict.fromkeys((layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), "transpose"),
    **dict.fromkeys((layers.SeparableConv1D, layers.SeparableConv2D), "separable"),
    **dict.fromkeys((layers.DepthwiseConv1D, layers.DepthwiseConv2D), "depthwise"),
    layers.BatchNormalization: "norm",
    **dict.fromkeys((layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU), "apply"),
    **dict.fromkeys((layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D), "pad"),
    **dict.fromkeys((layers.Add, layers.Subtract, layers.Average, layers.Maximum, layers.Minimum), "merge"),
    layers.Multiply: "merge",
    layers.Concatenate: "concat",
    **dict.fromkeys((layers.Flatten, layers.Reshape), "reshape"),
    **dict.fromkeys(
        (
            *(layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.SpatialDropout3D),
            *(layers.GaussianNoise, layers.GaussianDropout, layers.ActivityRegularization, layers.Identity),
            *(layers.MaxPooling1D, layers.MaxPooling2D, layers.MaxPooling3D),
            *(layers.AveragePooling1D, layers.AveragePooling2D, layers.AveragePooling3D),
            *(layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D, layers.GlobalMaxPooling3D),
            *(layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalAveragePooling3D),
            *(layers.UpSampling1D, layers.UpSampling2D, layers.UpSampling3D),
            *(layers.Cropping1D, layers.Cropping2D, layers.Cropping3D),
        ),
        "same",
    ),
}
"""Layers that a rule knows, by exact type: a subclass may do anything."""

ELEMENTWISE = frozenset(
    (
        "celu",
        "elu",
        "exponential",
        "gelu",
        "hard_sigmoid",
        "hard_silu",
        "hard_tanh",
        "leaky_relu",
        "linear",
        "mish",
        "relu",
        "relu6",
        "selu",
        "sigmoid",
        "silu",
        "soft_shrink",
        "softplus",
        "softsign",
        "squareplus",
        "tanh",
        "tanh_shrink",
    )
)
MAKERS = frozenset({"dense", "conv", "transpose", "separable"})
"""Kinds that read channels and make new ones."""
_SIZED = MAKERS | {"depthwise", "norm", "reshape"}
"""Kinds whose layers hold sizes of channels, which all their calls share."""
_AS_FUNCTIONS = {layers.ReLU: "relu", layers.LeakyReLU: "leaky_relu", layers.ELU: "elu", layers.Softmax: "softmax"}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One call of one layer.

    Attributes:
        node: The call, as Keras knows it.
        kind: Its rule.
        inputs: Channel numbers of each tensor that it is given.
        outputs: Channel numbers of each tensor that it gives.
        shared: Whether the layer is called more than once.
        again: Whether an earlier step calls the same layer.
    """

    node: Any
    kind: str
    inputs: tuple[Slots, ...]
    outputs: tuple[Slots, ...]
    shared: bool
    again: bool

    @property
    def layer(self) -> Any:
        """The layer that is called."""
        return self.node.operation


@dataclass(frozen=True, kw_only=True)
class Walked:
    """A flat model whose channels are known.

    Attributes:
        model: The model.
        steps: Its calls, in an order in which they can run.
        channels: The channels and what ties them.
        barriers: Why a layer keeps its channels, by name.
    """

    model: Any
    steps: tuple[Step, ...]
    channels: Channels
    barriers: dict[str, str]


def walk(model: Any) -> Walked:
    """Walk over a flat functional model."""
    walker = _Walker(model)
    for node in nodes(model):
        walker.visit(node)
    return Walked(model=model, steps=tuple(walker.steps), channels=walker.close(model), barriers=walker.barriers)


def reshaped(slots: Slots, node: Any) -> Slots | None:
    """Return what a reshaping call does to places of the last axis; None where it would mix channels."""
    before, after = node.input_tensors[0].shape, node.outputs[0].shape
    if before[-1] == after[-1]:
        return slots
    if None in before[1:] or None in after[1:]:
        return None
    rows = np.broadcast_to(slots, before[1:]).reshape(-1, after[-1])
    same: bool = (rows == rows[0]).all()
    return rows[0].copy() if same else None


def activation_name(activation: Any) -> str:
    """Return the name of an activation, which is a function or, as Keras allows, a layer."""
    if type(activation) is layers.Activation:
        return activation_name(activation.activation)
    own = getattr(activation, "__name__", type(activation).__name__)
    return _AS_FUNCTIONS.get(type(activation), str(own))


class _Walker:
    def __init__(self, model: Any) -> None:
        self.steps: list[Step] = []
        self.barriers: dict[str, str] = {}
        self._channels = Channels()
        self._known = {id(tensor): self._channels.new(_width(tensor)) for tensor in model.inputs}
        self._calls = Counter(id(node.operation) for node in nodes(model))
        self._first: dict[int, Step] = {}
        for slots in self._known.values():
            self._channels.pin(slots, "it is an input of the model")

    def close(self, model: Any) -> Channels:
        """Pin what leaves the model."""
        for tensor in model.outputs:
            self._channels.pin(self._known[id(tensor)], "it is an output of the model")
        return self._channels

    def visit(self, node: Any) -> None:
        inputs = tuple(self._known[id(tensor)] for tensor in node.input_tensors)
        why = _why_not(node)
        kind = "barrier" if why else KINDS[type(node.operation)]
        outputs = None if why else self._made(kind, node, inputs)
        if outputs is None:
            kind, outputs = "barrier", self._barrier(node, inputs, why or "it mixes channels")
        layer = id(node.operation)
        shared, again = self._calls[layer] > 1, layer in self._first
        step = Step(node=node, kind=kind, inputs=inputs, outputs=outputs, shared=shared, again=again)
        self._tie_calls(step)
        self._known |= {id(tensor): slots for tensor, slots in zip(node.outputs, outputs, strict=True)}
        self.steps.append(step)

    def _tie_calls(self, step: Step) -> None:
        """A layer that is called twice has one set of weights and sizes: its calls keep the same channels."""
        first = self._first.setdefault(id(step.layer), step)
        if first is step or not {first.kind, step.kind} & _SIZED:
            return
        for before, now in zip(first.inputs + first.outputs, step.inputs + step.outputs, strict=True):
            if first.kind == step.kind and len(before) == len(now):
                self._channels.tie(before, now)
            else:  # one Reshape for tensors of different shapes
                self._channels.pin(np.concatenate((before, now)), f"{step.layer.name}: its calls differ")

    def _barrier(self, node: Any, inputs: tuple[Slots, ...], why: str) -> tuple[Slots, ...]:
        layer = node.operation
        self.barriers[layer.name] = why
        outputs = tuple(self._channels.new(_width(tensor)) for tensor in node.outputs)
        for slots in (*inputs, *outputs):
            self._channels.pin(slots, f"{layer.name} ({type(layer).__name__}): {why}")
        return outputs

    def _made(self, kind: str, node: Any, inputs: tuple[Slots, ...]) -> tuple[Slots, ...] | None:
        layer = node.operation
        if kind in MAKERS:
            made = self._channels.new(_width(node.outputs[0]))
            if (name := activation_name(layer.activation)) not in ELEMENTWISE:
                self._channels.pin(made, f"{layer.name}: its {name} looks at all channels")
            return (made,)
        if kind == "depthwise":
            return (np.repeat(inputs[0], layer.depth_multiplier),)
        if kind == "merge":
            return self._merged(node, inputs)
        if kind == "concat":
            return self._concatenated(node, inputs)
        slots = reshaped(inputs[0], node) if kind == "reshape" else inputs[0]
        return None if slots is None else (slots,)

    def _merged(self, node: Any, inputs: tuple[Slots, ...]) -> tuple[Slots, ...] | None:
        if len({len(tensor.shape) for tensor in node.input_tensors}) > 1:
            return None
        width = _width(node.outputs[0])
        whole = [slots for slots in inputs if len(slots) == width]
        for slots in inputs:
            if len(slots) == width:
                self._channels.tie(whole[0], slots)
            else:  # one value for all channels
                self._channels.pin(slots, f"{node.operation.name} spreads it over all channels")
        return (whole[0],)

    def _concatenated(self, node: Any, inputs: tuple[Slots, ...]) -> tuple[Slots, ...]:
        if node.operation.axis in {-1, len(node.outputs[0].shape) - 1}:
            return (np.concatenate(inputs),)
        for slots in inputs[1:]:
            self._channels.tie(inputs[0], slots)
        return (inputs[0],)


def _why_not(node: Any) -> str | None:
    """Return why no rule is sound for a call; None if its kind's rule is."""
    layer = node.operation
    kind = KINDS.get(type(layer))
    function = getattr(layer, "activation", None)
    activation = "linear" if function is None else activation_name(function)
    last = {-1, len(node.outputs[0].shape) - 1}
    softmax = isinstance(layer, layers.Softmax)
    reasons = {
        "a softmax looks at all channels": softmax,
        f"channels are not followed through {type(layer).__name__}": kind is None,
        "its channels come first": getattr(layer, "data_format", None) == "channels_first",
        "its convolution is grouped": getattr(layer, "groups", 1) != 1,
        "it normalises another axis than the last": kind == "norm" and layer.axis not in last,
        "its weights are adapted or quantized": bool(
            getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None)
        ),
        f"its {activation} has weights of its own": bool(getattr(function, "weights", None)),
        f"its {activation} looks at all channels": kind in {"apply", "depthwise"} and activation not in ELEMENTWISE,
    }
    return next((why for why, holds in reasons.items() if holds), None)


def _width(tensor: Any) -> int:
    """Return the size of a tensor's last axis; 0 where it is unknown or there is none (it cannot be pruned then)."""
    return int(tensor.shape[-1] or 0) if tensor.shape else 0
