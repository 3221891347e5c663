"""What x86 processors without VNNI make of an int8 ONNX model, computed on any processor.

There, ONNX Runtime multiplies unsigned activations with signed weights by the instruction `vpmaddubsw`: two
neighbouring products are added into 16 bits *with saturation*. A pair can reach 2 * 255 * 127 = 64,770, the limit is
32,767, so a model that is right on one machine can be silently wrong on an older one. This module evaluates the model
in numpy with and without that saturation; everything else is onnx's reference implementation.

Order of the products, as onnxruntime lays them out: for a convolution kernel position by kernel position, and the
channels of the group within it; for Gemm and MatMul the rows of the weight. Neighbours 0 and 1, 2 and 3 … form pairs.
Depthwise convolutions and unsigned weights use 16-bit multiplications and do not saturate. A layer runs in integers
only where onnxruntime fuses it: between DequantizeLinear and QuantizeLinear.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgesdk_converters import ALPHA, MAX_DROP
from edgesdk_converters.evaluate.gate import GateVerdict, Outcome, accuracy_gate
from edgesdk_converters.evaluate.integer_ops import (
    FLOAT_OPS,
    UnsupportedOperatorError,
    convolution_operands,
    fold_convolution,
    paired_products,
    reference_operator,
)

FIX = (
    "convert with 7-bit weights (reduce_range=True), or run it with the session option session.x64quantprecision=1; "
    "ARM and processors with VNNI are not concerned"
)
_NOT_EMULATED = frozenset(
    {"ConvInteger", "ConvTranspose", "DynamicQuantizeLinear", "MatMulInteger", "QLinearConv", "QLinearMatMul"}
)

Array = NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class NotMeasured:
    """The emulator cannot speak for this model; that is no pass.

    Attributes:
        reason: Which operator or property it does not know.
    """

    reason: str


@dataclass(frozen=True, kw_only=True)
class LayerSaturation:
    """How often one layer saturated.

    Attributes:
        name: The node's name, or its first output where it has none.
        pairs: Pair sums computed.
        saturated: Pair sums that did not fit into 16 bits.
    """

    name: str
    pairs: int
    saturated: int

    @property
    def share(self) -> float:
        """Saturated pair sums as a fraction of all."""
        return self.saturated / self.pairs if self.pairs else 0.0


@dataclass(frozen=True, kw_only=True)
class Emulation:
    """The first output of the model on all samples, [N, ...], computed both ways.

    Attributes:
        exact: As on ARM, on x86 with VNNI, or with exact arithmetic asked for.
        saturating: As on x86 without VNNI.
        layers: The integer layers, in the order of the graph.
    """

    exact: NDArray[np.floating[Any]]
    saturating: NDArray[np.floating[Any]]
    layers: tuple[LayerSaturation, ...]


@dataclass(frozen=True, kw_only=True)
class SaturationVerdict:
    """The gate's word on processors without VNNI, and why.

    Attributes:
        gate: The paired comparison of the saturating against the exact evaluation.
        layers: The integer layers.
        cause: What saturates and what to do about it; None when the gate does not refuse.
    """

    gate: GateVerdict
    layers: tuple[LayerSaturation, ...]
    cause: str | None


def saturation_gate(
    model: onnx.ModelProto,
    x: NDArray[np.float32],
    truth: NDArray[np.integer[Any]],
    *,
    max_drop: float = MAX_DROP,
    alpha: float = ALPHA,
) -> SaturationVerdict | NotMeasured:
    """Judge what saturation does to the accuracy of an int8 ONNX classifier with one input.

    Args:
        model: With QuantizeLinear/DequantizeLinear pairs.
        x: Model inputs [N, ...], as the artifact takes them (normalised).
        truth: int [N], the right class of each.
        max_drop: Largest acceptable loss of accuracy, fraction of samples.
        alpha: Error rate of the paired tests.
    """
    result = emulate(model, x)
    if isinstance(result, NotMeasured):
        return result
    gate = accuracy_gate(result.exact, result.saturating, truth, max_drop=max_drop, alpha=alpha)
    cause = _cause(gate, result.layers) if gate.outcome is Outcome.REFUSE else None
    return SaturationVerdict(gate=gate, layers=result.layers, cause=cause)


def emulate(model: onnx.ModelProto, x: NDArray[np.float32]) -> Emulation | NotMeasured:
    """Evaluate `model` on `x` [N, ...] one sample at a time, with and without saturation."""
    inputs = [value.name for value in model.graph.input if value.name not in _initializers(model)]
    if len(inputs) != 1:
        return NotMeasured(reason=f"expected a model with one input, got {len(inputs)}")
    unknown = sorted({node.op_type for node in model.graph.node} & _NOT_EMULATED)
    if unknown:
        return NotMeasured(reason=f"operators {', '.join(unknown)} are not emulated")
    try:
        exact, saturating = _Evaluator(model, saturate=False), _Evaluator(model, saturate=True)
        outputs = [(exact.run({inputs[0]: row[None]}), saturating.run({inputs[0]: row[None]})) for row in x]
    except UnsupportedOperatorError as error:
        return NotMeasured(reason=str(error))
    return Emulation(
        exact=np.concatenate([pair[0] for pair in outputs]),
        saturating=np.concatenate([pair[1] for pair in outputs]),
        layers=saturating.layers(),
    )


def _cause(gate: GateVerdict, layers: tuple[LayerSaturation, ...]) -> str:
    worst = sorted((layer for layer in layers if layer.saturated), key=lambda layer: -layer.share)
    where = ", ".join(f"{layer.name} ({layer.share:.2%} of pair sums)" for layer in worst[:3])
    return (
        f"accuracy {gate.source_value:.4f} becomes {gate.value:.4f} on x86 processors without VNNI: "
        f"16-bit saturation in {where or 'no layer'}; fix: {FIX}"
    )


class _Evaluator:
    """Runs a graph node by node; integer layers by `paired_products`."""

    def __init__(self, model: onnx.ModelProto, *, saturate: bool) -> None:
        self._saturate = saturate
        self._constants = _initializers(model)
        self._nodes = list(model.graph.node)
        self._output = model.graph.output[0].name
        self._opsets = {entry.domain: entry.version for entry in model.opset_import}
        self._producer = {name: node for node in self._nodes for name in node.output}
        self._consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in self._nodes:
            for name in node.input:
                self._consumers.setdefault(name, []).append(node)
        self._counts: dict[str, list[int]] = {}
        self._steps = [self._step(node) for node in self._nodes]

    def run(self, inputs: Mapping[str, Array]) -> NDArray[np.floating[Any]]:
        values: dict[str, Array] = {**self._constants, **inputs}
        for node, step in zip(self._nodes, self._steps, strict=True):
            values.update(zip(node.output, step(values), strict=False))
        return np.asarray(values[self._output])

    def layers(self) -> tuple[LayerSaturation, ...]:
        return tuple(
            LayerSaturation(name=name, pairs=pairs, saturated=saturated)
            for name, (pairs, saturated) in self._counts.items()
        )

    def _step(self, node: onnx.NodeProto) -> Callable[[dict[str, Array]], tuple[Array, ...]]:
        if self._runs_in_integers(node):
            name = node.name or node.output[0]
            self._counts[name] = [0, 0]
            attributes = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
            return lambda values: (self._integer_layer(node, name, attributes, values),)
        fast = FLOAT_OPS.get(node.op_type)
        if fast is not None and node.domain == "" and fast.knows(node):
            return lambda values: (fast(node, values),)
        return reference_operator(node, self._opsets)

    def _runs_in_integers(self, node: onnx.NodeProto) -> bool:
        if node.op_type not in {"Conv", "Gemm", "MatMul"}:
            return False
        sources = [self._producer.get(name) for name in node.input[:2]]
        if any(source is None or source.op_type != "DequantizeLinear" for source in sources):
            return False
        weight = self._constants.get(sources[1].input[0]) if sources[1] is not None else None
        if weight is None or weight.dtype != np.int8:
            return False
        return node.op_type != "Conv" or self._is_quantized_after(node.output[0])

    def _is_quantized_after(self, name: str) -> bool:
        following = self._consumers.get(name, [])
        if len(following) == 1 and following[0].op_type == "Relu":
            following = self._consumers.get(following[0].output[0], [])
        return bool(following) and all(node.op_type == "QuantizeLinear" for node in following)

    def _integer_layer(
        self, node: onnx.NodeProto, name: str, attributes: Mapping[str, object], values: dict[str, Array]
    ) -> Array:
        x, x_scale, x_zero = self._quantized(node.input[0], values)
        weight, weight_scale, weight_zero = self._quantized(node.input[1], values)
        if np.any(weight_zero):
            raise UnsupportedOperatorError(f"{name}: weights with a zero point other than 0 are not emulated")
        activations = x.astype(np.int32)
        zero = int(np.ravel(x_zero)[0])
        if x.dtype == np.int8:  # onnxruntime moves signed activations to the unsigned range
            activations, zero = activations + 128, zero + 128
        if node.op_type == "Conv":
            groups = convolution_operands(activations, weight, zero, attributes)
        else:
            groups = iter([_matrix_operands(node, attributes, activations, weight)])
        parts = []
        for rows, columns, depthwise in groups:
            sums, saturated, pairs = paired_products(rows, columns, saturate=self._saturate and not depthwise)
            self._counts[name][0] += pairs
            self._counts[name][1] += saturated
            parts.append(sums - zero * columns.sum(axis=0, dtype=np.int64))
        total = np.concatenate(parts, axis=-1) * (np.float64(x_scale.item()) * weight_scale.astype(np.float64))
        for bias in node.input[2:3]:
            total = total + np.ravel(values[bias]).astype(np.float64)
        shaped = fold_convolution(total, x, weight, attributes) if node.op_type == "Conv" else total
        return np.asarray(shaped, dtype=np.float32)

    def _quantized(self, name: str, values: dict[str, Array]) -> tuple[Array, Array, Array]:
        source = self._producer[name]
        tensor, scale, *zero = (values[entry] for entry in source.input)
        return tensor, scale, zero[0] if zero else np.zeros(1, tensor.dtype)


def _matrix_operands(
    node: onnx.NodeProto, attributes: Mapping[str, object], activations: NDArray[np.int32], weight: Array
) -> tuple[NDArray[np.int32], NDArray[np.int32], bool]:
    if (weight.ndim, activations.ndim) != (2, 2):
        raise UnsupportedOperatorError(f"{node.op_type} on more than two dimensions is not emulated")
    if attributes.get("transA") or attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0:
        raise UnsupportedOperatorError("Gemm with transA, alpha or beta is not emulated")
    columns = weight.T if attributes.get("transB") else weight
    return activations, columns.astype(np.int32), False


def _initializers(model: onnx.ModelProto) -> dict[str, Array]:
    return {entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer}
