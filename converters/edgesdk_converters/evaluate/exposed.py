"""Files that answer every intermediate tensor too, by name, as float32: TFLite and ONNX. Used in a child only.

TFLite keeps all tensors when it is asked to and no delegate is applied; a quantized tensor says its scale. ONNX answers
what is named as an output of the graph; a QDQ file holds each tensor once before and once after its rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.contract import Binding, Bindings, Contract
from edgesdk.runtime import describe_artifact
from edgesdk.runtime.codec import Coder, encoder
from edgesdk_converters.data.binding import bind
from edgesdk_converters.recipes import Format

Tensors = dict[str, NDArray[Any]]
_AFTER = ("_DequantizeLinear_Output", "_quantized", "")
"""What quantizers append to a tensor's name when they round it; the rounded one is what the next layer takes."""
_FLOAT_KINDS = {1, 10}  # onnx.TensorProto.FLOAT, FLOAT16


@dataclass(frozen=True, kw_only=True)
class Node:
    """One operator of a graph.

    Attributes:
        name: Its output tensor.
        op: Its kind.
        inputs: The tensors that it takes, constants among them.
    """

    name: str
    op: str
    inputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Exposed:
    """A loaded file.

    Attributes:
        nodes: Operators in the order in which they run.
        inputs: The graph's own inputs, by contract tensor.
        outputs: Its outputs, by contract tensor.
        run: Takes one sample by contract names, gives the float tensors by name.
    """

    nodes: tuple[Node, ...]
    inputs: dict[str, str]
    outputs: dict[str, str]
    run: Callable[[Tensors], Tensors]


def expose(path: Path, artifact_format: Format, contract: Contract) -> Exposed:
    """Open a file so that it answers its intermediate tensors.

    Raises:
        EdgeError: If it cannot be loaded, or does not fit the contract.
    """
    if artifact_format == "tflite":
        raw = describe_artifact(path, "tflite", options={"package": "ai-edge-litert"})
        return _tflite(path, contract, bind(contract, *raw))
    raw = describe_artifact(path, "onnxruntime")
    return _onnx(path, contract, bind(contract, *raw))


def counterparts(source: Exposed, artifact: Exposed) -> dict[str, str]:
    """Return how the artifact names the float file's inputs and outputs: converters rename them."""
    both = ((source.inputs, artifact.inputs), (source.outputs, artifact.outputs))
    return {name: theirs[tensor] for ours, theirs in both for tensor, name in ours.items()}


def counterpart(name: str, tensors: Tensors, renamed: Mapping[str, str]) -> NDArray[Any] | None:
    """Return what an artifact's tensors hold for a tensor of the float file; None if names cannot be mapped."""
    known = renamed.get(name, name)
    return next((tensors[known + ending] for ending in _AFTER if known + ending in tensors), None)


def _by_tensor(bindings: Iterable[Binding]) -> dict[str, str]:
    return {each.tensor: each.artifact_name for each in bindings}


def _coders(contract: Contract, bindings: Bindings) -> list[tuple[str, str, Coder]]:
    specs = {spec.name: spec for spec in contract.inputs}
    return [(each.artifact_name, each.tensor, encoder(specs[each.tensor], each)) for each in bindings.inputs]


def _tflite(path: Path, contract: Contract, bindings: Bindings) -> Exposed:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType  # noqa: PLC0415 - only in the child

    interpreter = Interpreter(
        model_path=str(path),
        num_threads=1,
        experimental_preserve_all_tensors=True,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    inputs, coders = interpreter.get_input_details(), _coders(contract, bindings)
    nodes = [
        Node(
            name=str(details[output]["name"]),
            op=str(operator["op_name"]),
            inputs=tuple(str(details[index]["name"]) for index in operator["inputs"] if index in details),
        )
        for operator in interpreter._get_ops_details()  # noqa: SLF001 - there is no public way to ask
        for output in operator["outputs"]
    ]
    produced = {node.name for node in nodes} | {str(detail["name"]) for detail in inputs}
    wanted = [detail for detail in details.values() if detail["name"] in produced and _readable(detail)]

    def run(sample: Tensors) -> Tensors:
        for detail, (_name, tensor, code) in zip(inputs, coders, strict=True):
            values = code(sample[tensor])
            if values.shape != tuple(detail["shape"]):
                interpreter.resize_tensor_input(detail["index"], values.shape)
                interpreter.allocate_tensors()
            interpreter.set_tensor(detail["index"], values)
        interpreter.invoke()
        return {str(detail["name"]): _dequantized(interpreter.get_tensor(detail["index"]), detail) for detail in wanted}

    named = (_by_tensor(bindings.inputs), _by_tensor(bindings.outputs))
    return Exposed(nodes=tuple(nodes), inputs=named[0], outputs=named[1], run=run)


def _readable(detail: dict[str, Any]) -> bool:
    scales = detail["quantization_parameters"]["scales"]
    kind = np.dtype(detail["dtype"]).kind
    return kind == "f" or (kind in "iu" and len(scales) == 1)


def _dequantized(values: NDArray[Any], detail: dict[str, Any]) -> NDArray[Any]:
    parameters = detail["quantization_parameters"]
    if values.dtype.kind == "f" or len(parameters["scales"]) != 1:
        return values
    return (values.astype(np.float32) - np.float32(parameters["zero_points"][0])) * np.float32(parameters["scales"][0])


def _onnx(path: Path, contract: Contract, bindings: Bindings) -> Exposed:
    import onnx  # noqa: PLC0415 - only in the child
    import onnxruntime  # noqa: PLC0415 - only in the child

    graph = onnx.shape_inference.infer_shapes(onnx.load(path))
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph.graph.value_info}
    outputs = [value.name for value in graph.graph.output]
    constants = {each.name for each in graph.graph.initializer}
    nodes = tuple(
        Node(name=output, op=node.op_type, inputs=tuple(name for name in node.input if name))
        for node in graph.graph.node
        for output in node.output
        if output
    )
    fixed = _constants(nodes, constants)
    wanted = [node.name for node in nodes if kinds.get(node.name) in _FLOAT_KINDS and node.name not in fixed]
    added = [name for name in wanted if name not in outputs]
    graph.graph.output.extend(onnx.helper.make_tensor_value_info(name, kinds[name], None) for name in added)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    options.add_session_config_entry("session.x64quantprecision", "1")  # what saturates is found elsewhere
    session = onnxruntime.InferenceSession(graph.SerializeToString(), options, providers=["CPUExecutionProvider"])
    answered, coders = [*outputs, *added], _coders(contract, bindings)

    def run(sample: Tensors) -> Tensors:
        feeds = {name: code(sample[tensor]) for name, tensor, code in coders}
        values = dict(zip(answered, session.run(answered, feeds), strict=True))
        return {**{name: value for name, value in feeds.items() if value.dtype.kind == "f"}, **values}

    named = (_by_tensor(bindings.inputs), _by_tensor(bindings.outputs))
    return Exposed(nodes=nodes, inputs=named[0], outputs=named[1], run=run)


def _constants(nodes: tuple[Node, ...], initializers: set[str]) -> set[str]:
    """Return the tensors that depend on no input: dequantized weights, and what is folded from constants."""
    fixed = set(initializers)
    for node in nodes:
        if all(name in fixed for name in node.inputs):
            fixed.add(node.name)
    return fixed
