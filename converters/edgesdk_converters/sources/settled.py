"""ONNX as compilers want it: no input of one value only, no If, no recurrent layer, softmax whole, every size known.

Traps: rknn-toolkit2's loader takes an input out that changes nothing (a sampling rate times zero) and then complains
about one input too many; an If hides the sizes of what comes after it; HTP's compiler ends at an LSTM with a failed
allocation; TFLite has no open sizes, which a Paddle model computes on the way (Shape, Slice, Concat, Reshape).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgesdk.contract import Contract, TensorSpec
from edgesdk_converters.data.binding import order_by_name
from edgesdk_converters.passes.gather_onnx import gather, widen_sigmoids
from edgesdk_converters.passes.gelu_onnx import order_gelus
from edgesdk_converters.passes.unroll_onnx import unroll

if TYPE_CHECKING:
    import onnx

DEFAULT_DOMAIN = frozenset({"", "ai.onnx"})
FIXED = "/fixed"
UNTAKEN = frozenset({"If", "LSTM", "GRU", "Exp", "Reciprocal"})
"""Operators that some compiler does not take; a model with none of them is left as it is."""


def settle(
    model: onnx.ModelProto, contract: Contract | None, scratch: Path, *, whole: bool = False
) -> onnx.ModelProto | None:
    """Return the model without what compilers do not take; None if it has none of that, or keeps some of it.

    What it computes stays the same, but for the order of float sums; its inputs and outputs keep their names. An input
    that the contract fixes to one value stays an input, which nothing reads.

    Args:
        model: With the sizes of its inputs that the contract fixes.
        contract: What its inputs and outputs mean; None where nobody has said it yet.
        scratch: A folder for files that are no result.
        whole: For TFLite: whether constants are folded also where none of that was found, hard sigmoids written with
            its RELU6, and GELUs as it fuses them.
    """
    import onnx  # noqa: PLC0415 - only in the child

    made = onnx.ModelProto()
    made.CopyFrom(model)
    fixed = 0 if contract is None else fix_values(made, contract)
    named = any(node.op_type in UNTAKEN for node in model.graph.node)
    if not (whole or fixed or named):
        return None
    flat = flatten(made, scratch)
    if flat is None:
        return None
    infer_sizes(flat, contract)
    if unroll(flat) + gather(flat) + (widen_sigmoids(flat) + order_gelus(flat) if whole else 0):
        infer_sizes(flat, contract)
    return flat


def branches(model: onnx.ModelProto) -> bool:
    """Say whether a model has an If."""
    return any(node.op_type == "If" for node in model.graph.node)


def fix_values(model: onnx.ModelProto, contract: Contract) -> int:
    """Let a constant be read in place of each input that the contract fixes to one value; return how many are."""
    import onnx  # noqa: PLC0415 - only in the child

    entries = list(model.graph.input)
    specs = order_by_name(contract.inputs, [entry.name for entry in entries], what="inputs")
    named: dict[str, str] = {}
    for entry, spec in zip(entries, specs, strict=True):
        kind, sizes = entry.type.tensor_type.elem_type, [size.dim_value for size in entry.type.tensor_type.shape.dim]
        value = _only_value(spec)
        if value is None or not all(sizes):
            continue
        values = np.full(sizes, value, onnx.helper.tensor_dtype_to_np_dtype(kind))
        named[entry.name] = entry.name + FIXED
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, named[entry.name]))
    _rename_read(model.graph, named)
    return len(named)


def _only_value(spec: TensorSpec) -> float | None:
    """Return the value that an input always has, as the model gets it; None if it may have others."""
    if spec.range is None or spec.range[0] != spec.range[1] or spec.normalisation is not None:
        return None
    return spec.range[0]


def _rename_read(graph: onnx.GraphProto, named: dict[str, str]) -> None:
    for node in graph.node:
        for place, name in enumerate(node.input):
            node.input[place] = named.get(name, name)
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _rename_read(inner, named)


def flatten(model: onnx.ModelProto, scratch: Path) -> onnx.ModelProto | None:
    """Return the model without the Ifs whose branch is known, as onnxruntime folds them; None if it cannot be had so.

    Its basic optimizations keep to ONNX's own operators, and come to the same on every machine.
    """
    import onnx  # noqa: PLC0415 - only in the child
    import onnxruntime  # noqa: PLC0415

    settings = onnxruntime.SessionOptions()
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    settings.optimized_model_filepath = str(scratch / "flat.onnx")
    settings.log_severity_level = 4
    onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    made = onnx.load(scratch / "flat.onnx")
    if branches(made) or any(node.domain not in DEFAULT_DOMAIN for node in made.graph.node):
        return None
    for node in made.graph.node:  # written out where it says nothing, an old operator set does not know it
        kept = [each for each in node.attribute if (each.name, each.i) != ("layout", 0)]
        del node.attribute[:]
        node.attribute.extend(kept)
    return made


def infer_sizes(model: onnx.ModelProto, contract: Contract | None) -> None:
    """Infer the sizes of every value anew, in place; outputs whose sizes do not follow get those of the contract."""
    import onnx  # noqa: PLC0415 - only in the child

    for output in model.graph.output:
        for size in output.type.tensor_type.shape.dim:
            if size.dim_value <= 0:
                size.Clear()
    del model.graph.value_info[:]
    model.CopyFrom(onnx.shape_inference.infer_shapes(model, data_prop=True))
    if contract is None:
        return
    specs = order_by_name(contract.outputs, [entry.name for entry in model.graph.output], what="outputs")
    for output, spec in zip(model.graph.output, specs, strict=True):
        dimensions = output.type.tensor_type.shape.dim
        if len(dimensions) != len(spec.shape):
            continue
        for place, (dimension, wanted) in enumerate(zip(dimensions, spec.shape, strict=True)):
            if dimension.dim_value <= 0 and (isinstance(wanted, int) or place == 0):
                dimension.dim_value = wanted if isinstance(wanted, int) else 1
