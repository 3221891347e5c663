"""Remove channels from a model: a smaller dense one is built from the weights that are kept. Only for children.

A channel that no answer depends on is removed without loss: nothing reads it, or it is constant, and its constant is
zero or becomes part of a bias. Pruning by channels first makes channels so (zeroed where they are made, for as long as
a schedule takes) and then removes them here, so there is one way to remove a channel, and one check that it is sound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import ReleaseError
from edgesdk_converters.compress.graph import functional, rebuild
from edgesdk_converters.compress.slots import Slots
from edgesdk_converters.compress.values import Values, bias_of, constants, folds, if_removed, reads, weight
from edgesdk_converters.compress.walk import MAKERS, Step, Walked, walk

TOLERANCE = 1e-5
"""Largest difference of answers that a lossless removal may make, relative to the largest answer (or 1): float32
additions in another order."""
PROBES = 32


@dataclass(frozen=True, kw_only=True)
class Shrunk:
    """A model without the channels that nothing depends on.

    Attributes:
        model: The smaller model.
        removed: Channels removed, by the layer that made them.
        largest_difference: Between its answers and those of the model that it was made of, absolute.
    """

    model: Any
    removed: dict[str, int]
    largest_difference: float


def shrink(model: Any, probe: list[NDArray[Any]] | None = None) -> Shrunk:
    """Remove from a flat model every channel that no answer depends on.

    Args:
        model: A flat functional model.
        probe: Inputs on which the answers are compared; random ones where None.

    Raises:
        ReleaseError: ``compression-unequal`` if the smaller model answers differently.
    """
    small, removed = model, dict[str, int]()
    while gone := removable(walked := walk(small)):
        for step in _makers(walked):
            lost = int(np.isin(walked.channels.roots(step.outputs[0]), list(gone)).sum())
            if lost and not step.again:
                removed[step.layer.name] = removed.get(step.layer.name, 0) + lost
        small = without(walked, gone)
    difference = compare(model, small, probe or random_inputs(model)) if removed else 0.0
    return Shrunk(model=small, removed=removed, largest_difference=difference)


def removable(walked: Walked) -> set[int]:
    """Return the roots of all channels that no answer depends on; each layer keeps at least one."""
    known = constants(walked)
    needed = set(walked.channels.pinned())
    for step in _makers(walked):
        values = known[id(step.node.input_tensors[0])]
        harmless = np.isfinite(values) if folds(step) else values == 0
        used = reads(step) & ~harmless
        needed |= set(walked.channels.roots(step.inputs[0][used]).tolist())
    return _but_one_each(walked, needed)


def prunable(walked: Walked) -> tuple[set[int], dict[str, str]]:
    """Return the roots of the channels that may be zeroed and then removed, and why other layers keep theirs, by name.

    A channel is kept where its zeroing would leave a constant behind that cannot become part of a bias: a sigmoid of
    zero before a padded convolution.
    """
    known, channels = if_removed(walked), walked.channels
    for step in _makers(walked):
        values = known[id(step.node.input_tensors[0])]
        stuck = ~(np.isfinite(values) if folds(step) else values == 0)
        channels.pin(
            step.inputs[0][stuck], f"{step.layer.name} would still read a constant of it that no bias can hold"
        )
    reasons = channels.pinned()
    free, kept = set[int](), dict[str, str]()
    for step in _makers(walked):
        for root in channels.roots(step.outputs[0]).tolist():
            if root in reasons:
                kept[step.layer.name] = reasons[root]
            else:
                free.add(root)
    return free, kept


def without(walked: Walked, gone: set[int]) -> Any:
    """Return the model without channels whose roots are `gone`; constants that they held become part of biases."""
    known = constants(walked)
    steps = {id(step.layer): step for step in walked.steps}
    extra = {id(step.layer): _folded(walked, step, known, gone) for step in _makers(walked) if folds(step)}

    def kept(slots: Slots) -> NDArray[np.bool_]:
        return ~np.isin(walked.channels.roots(slots), list(gone))

    def make(layer: Any) -> Any:
        return type(layer).from_config(_config(steps[id(layer)], kept, extra.get(id(layer))))

    def fill(new: Any, old: Any) -> None:
        step = steps[id(old)]
        inputs, outputs = kept(step.inputs[0]), kept(step.outputs[0])
        if step.kind in _WEIGHTS:
            for name, values in _WEIGHTS[step.kind](step, inputs, outputs, extra.get(id(old))).items():
                getattr(new, name).assign(values)
        else:
            new.set_weights(old.get_weights())

    return rebuild(walked.model, make, fill)


def compare(before: Any, after: Any, probe: list[NDArray[Any]]) -> float:
    """Return the largest difference between two models' answers.

    Raises:
        ReleaseError: ``compression-unequal`` if it is more than rounding.
    """
    expected, got = answers(before, probe), answers(after, probe)
    difference = max(float(np.max(np.abs(a - b))) for a, b in zip(expected, got, strict=True))
    largest = max(1.0, *(float(np.max(np.abs(each))) for each in expected))
    if not difference <= TOLERANCE * largest:
        message = f"{after.name!r} answers differently after a lossless removal: by {difference:g}, expected at most"
        raise ReleaseError("compression-unequal", f"{message} {TOLERANCE * largest:g}")
    return difference


def answers(model: Any, inputs: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """Return a model's outputs, in its order."""
    return [np.asarray(each) for each in keras.tree.flatten(model(packed(model, inputs), training=False))]


def packed(model: Any, inputs: list[Any]) -> Any:
    """Return a list of inputs as the model takes them: alone, as a list, or as a dictionary."""
    return keras.tree.pack_sequence_as(functional(model)._inputs_struct, inputs)  # noqa: SLF001 - no public way


def _makers(walked: Walked) -> list[Step]:
    return [step for step in walked.steps if step.kind in MAKERS]


def _but_one_each(walked: Walked, needed: set[int]) -> set[int]:
    """Return the roots that are not needed, less one for every layer that would be left with no channel."""
    gone: set[int] = set()
    for step in _makers(walked):
        gone |= set(walked.channels.roots(step.outputs[0]).tolist()) - needed
    for step in _makers(walked):
        roots = walked.channels.roots(step.outputs[0]).tolist()
        if set(roots) <= gone:
            gone.discard(roots[0])
    return gone


def _folded(walked: Walked, step: Step, known: dict[int, Values], gone: set[int]) -> NDArray[np.float64] | None:
    values = known[id(step.node.input_tensors[0])]
    lost = np.isin(walked.channels.roots(step.inputs[0]), list(gone)) & np.isfinite(values) & (values != 0)
    return bias_of(step, np.where(lost, values, 0.0)) if lost.any() else None


def _config(step: Step, kept: Callable[[Slots], NDArray[np.bool_]], extra: NDArray[np.float64] | None) -> Any:
    config = step.layer.get_config()
    count = int(kept(step.outputs[0]).sum())
    if step.kind == "dense":
        config["units"] = count
    elif step.kind in MAKERS:
        config["filters"] = count
    elif step.kind == "reshape" and "target_shape" in config and config["target_shape"][-1] != -1:
        config["target_shape"] = (*config["target_shape"][:-1], count)
    if extra is not None:
        config["use_bias"] = True
    return config


Weights = dict[str, NDArray[Any]]


def _dense(step: Step, inputs: NDArray[np.bool_], outputs: NDArray[np.bool_], extra: Any) -> Weights:
    kernel = np.asarray(step.layer.kernel)[..., inputs, :][..., outputs]
    return {"kernel": kernel, **_bias(step, outputs, extra)}


def _transpose(step: Step, inputs: NDArray[np.bool_], outputs: NDArray[np.bool_], extra: Any) -> Weights:
    kernel = np.asarray(step.layer.kernel)[..., outputs, :][..., inputs]
    return {"kernel": kernel, **_bias(step, outputs, extra)}


def _separable(step: Step, inputs: NDArray[np.bool_], outputs: NDArray[np.bool_], extra: Any) -> Weights:
    lanes = np.repeat(inputs, step.layer.depth_multiplier)
    return {
        "depthwise_kernel": np.asarray(step.layer.depthwise_kernel)[..., inputs, :],
        "pointwise_kernel": np.asarray(step.layer.pointwise_kernel)[..., lanes, :][..., outputs],
        **_bias(step, outputs, extra),
    }


def _depthwise(step: Step, inputs: NDArray[np.bool_], outputs: NDArray[np.bool_], extra: Any) -> Weights:
    return {"kernel": np.asarray(step.layer.kernel)[..., inputs, :], **_bias(step, outputs, extra)}


def _bias(step: Step, outputs: NDArray[np.bool_], extra: NDArray[np.float64] | None) -> Weights:
    bias = weight(step.layer, "bias")
    if bias is None and extra is None:
        return {}
    whole = (0.0 if bias is None else bias.astype(np.float64)) + (0.0 if extra is None else extra)
    return {"bias": np.broadcast_to(whole, len(outputs))[outputs].astype(np.float32)}


def _norm(step: Step, _inputs: NDArray[np.bool_], outputs: NDArray[np.bool_], _extra: Any) -> Weights:
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    found = {name: weight(step.layer, name) for name in names}
    return {name: values[outputs] for name, values in found.items() if values is not None}


_WEIGHTS: dict[str, Callable[[Step, NDArray[np.bool_], NDArray[np.bool_], Any], Weights]] = {
    "dense": _dense,
    "conv": _dense,
    "transpose": _transpose,
    "separable": _separable,
    "depthwise": _depthwise,
    "norm": _norm,
}


def random_inputs(model: Any) -> list[NDArray[Any]]:
    """Return a batch of standard normal inputs for a model."""
    random = np.random.default_rng(0)
    shapes = [[PROBES, *(size or PROBES for size in tensor.shape[1:])] for tensor in model.inputs]
    drawn = [random.normal(size=shape) for shape in shapes]
    return [each.astype(tensor.dtype) for each, tensor in zip(drawn, model.inputs, strict=True)]
