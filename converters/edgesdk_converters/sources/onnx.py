"""ONNX files: read, made to fit the contract, converted to an operator set that targets read, and pinned to it.

Traps: onnx writes its newest IR and operator set unless it is told otherwise; its version converter changes graphs
without checking what they compute, so the outcome is run beside the original.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from edgesdk.contract import Contract, TensorSpec
from edgesdk.errors import ConfigError, ReleaseError, TargetError
from edgesdk_converters.data.binding import order_by_name
from edgesdk_converters.running.isolation import Call
from edgesdk_converters.sources.agreement import check_agreement
from edgesdk_converters.sources.settled import DEFAULT_DOMAIN, settle

if TYPE_CHECKING:
    import onnx

INTEGER = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"})
"""Operators of ONNX that a quantized model has."""
SHOWN = 3


def pin(call: Call) -> dict[str, Any]:
    """Child action: write ``model.onnx``, the source as its targets and the contract want it.

    Functions are inlined, constants become initializers, sizes that the contract fixes are fixed, what compilers do not
    take is written out (`settled`) if ``params["flat"]`` says so, the operator set is within ``params["min_opset"]``
    and ``max_opset``, the IR version at most ``max_ir``, and every node has a name.

    Raises:
        TargetError: ``opset-ceiling`` if it cannot be converted to operators that those targets know.
        ConfigError: ``model-format`` if it is no valid ONNX file or quantized already, ``contract-mismatch`` if its
            inputs do not fit.
    """
    import onnx  # noqa: PLC0415 - only in the child

    source, limits = call.inputs["source"], call.params
    contract = msgspec.convert(limits["contract"], Contract)
    model = _load(source)
    _check_float(model, source.name)
    before = opset_of(model)
    model = _tidied(model)
    fix_sizes(model, contract)
    plain = call.out.parent / "plain.onnx"
    onnx.save(model, plain)
    wanted = max(min(before, limits["max_opset"]), limits["min_opset"])
    check_opset({"": wanted}, limits["max_opset"], "an artifact of this recipe")
    if limits.get("flat"):
        model = _settled(model, plain, contract)
    if wanted != before:
        model = in_opset(model, wanted, source.name, limits["max_opset"])
    pin_ir(model, limits["max_ir"])
    _name_nodes(model)
    path = call.out / "model.onnx"
    onnx.save(model, path)
    if wanted != before:
        _check_converted(plain, path, contract, f"{source.name} in opset {wanted} instead of {before}")
    return {"opset": opset_of(model), "ir": model.ir_version, "source_opset": before}


def _settled(model: onnx.ModelProto, plain: Path, contract: Contract) -> onnx.ModelProto:
    """Return the model as compilers want it; as it is, which is `plain` too, where that would answer differently."""
    import onnx  # noqa: PLC0415 - only in the child

    made, path = settle(model, contract, plain.parent), plain.with_name("settled.onnx")
    if made is None:
        return model
    drop_unused_domains(made)
    onnx.save(made, path)
    try:
        check_agreement(plain, path, contract, what="the model without what compilers do not take")
    except ReleaseError:
        return model
    return made


def opset_of(model: onnx.ModelProto) -> int:
    """Return the operator set of the default domain."""
    return max((item.version for item in model.opset_import if item.domain in DEFAULT_DOMAIN), default=0)


def _load(path: Path) -> onnx.ModelProto:
    import onnx  # noqa: PLC0415 - only in the child

    try:
        onnx.checker.check_model(str(path))
        return onnx.load(path)
    except Exception as error:
        raise ConfigError("model-format", f"{path.name} is no valid ONNX file: {error}") from error


def refuse_quantized(path: Path) -> None:
    """Refuse a file of integers before anything is planned; one that is none by its bytes is not even parsed.

    Raises:
        ConfigError: ``model-format``.
    """
    content = path.read_bytes()
    if any(word.encode() in content for word in INTEGER):
        import onnx  # noqa: PLC0415 - a quarter of a second

        try:
            model = onnx.load_from_string(content)
        except Exception:  # noqa: BLE001 - what is damaged is told by the step that reads it
            return
        _check_float(model, path.name)


def _check_float(model: onnx.ModelProto, name: str) -> None:
    quantized = [node.name or node.output[0] for node in model.graph.node if node.op_type in INTEGER]
    if quantized:
        message = f"{name} is quantized already: {', '.join(quantized[:SHOWN])}"
        raise ConfigError("model-format", message, hint="Give the float model that it was made from.")


def _tidied(model: onnx.ModelProto) -> onnx.ModelProto:
    """Inline functions, make initializers of constants, and take initializers out of the inputs."""
    import onnx  # noqa: PLC0415 - only in the child
    import onnx.inliner  # noqa: PLC0415

    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    graph = model.graph
    constants = {node.output[0]: tensor for node in graph.node if (tensor := _constant(node)) is not None}
    given = {output.name for output in graph.output}
    kept = [node for node in graph.node if not node.output or node.output[0] not in constants.keys() - given]
    graph.initializer.extend(tensor for name, tensor in constants.items() if name not in given)
    del graph.node[:]
    graph.node.extend(kept)
    stored = {tensor.name for tensor in graph.initializer}
    inputs = [entry for entry in graph.input if entry.name not in stored]
    del graph.input[:]
    graph.input.extend(inputs)
    drop_unused_domains(model)
    return model


def _name_nodes(model: onnx.ModelProto) -> None:
    """Call nodes without a name by what they write: tools leave nodes in float by names, and "" would mean many."""
    for node in model.graph.node:
        node.name = node.name or next(filter(None, node.output), "")


def _constant(node: onnx.NodeProto) -> onnx.TensorProto | None:
    import onnx  # noqa: PLC0415 - only in the child

    if node.op_type != "Constant" or node.domain not in DEFAULT_DOMAIN:
        return None
    [attribute] = node.attribute
    value = onnx.helper.get_attribute_value(attribute)
    if attribute.name == "value":
        tensor = onnx.TensorProto()
        tensor.CopyFrom(value)
    elif attribute.name in {"value_float", "value_floats"}:
        tensor = _tensor(value, onnx.TensorProto.FLOAT, onnx)
    elif attribute.name in {"value_int", "value_ints"}:
        tensor = _tensor(value, onnx.TensorProto.INT64, onnx)
    else:
        return None
    tensor.name = node.output[0]
    return tensor


def _tensor(value: Any, kind: int, onnx: Any) -> Any:
    values = list(value) if isinstance(value, list) else [value]
    return onnx.helper.make_tensor("", kind, [len(values)] if isinstance(value, list) else [], values)


def drop_unused_domains(model: onnx.ModelProto) -> None:
    """Remove operator sets that no operator uses: an old runtime refuses the newer ones among them."""
    used = {node.domain for node in model.graph.node} | {"", "ai.onnx"}
    kept = [item for item in model.opset_import if item.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(kept)


def fix_sizes(model: onnx.ModelProto, contract: Contract) -> None:
    """Give inputs the sizes that the contract fixes; the batch is of one.

    Raises:
        ConfigError: ``contract-mismatch`` if an input has another rank or size.
    """
    entries = _given(model)
    specs = order_by_name(contract.inputs, [entry.name for entry in entries], what="inputs")
    changed = False
    for entry, spec in zip(entries, specs, strict=True):
        shape = entry.type.tensor_type.shape
        sizes = [1 if index == 0 and isinstance(size, str) else size for index, size in enumerate(spec.shape)]
        # Paddle's exporter writes an open size as -1.
        _check_sizes(spec, [size.dim_value if size.dim_value > 0 else None for size in shape.dim], sizes)
        for dimension, size in zip(shape.dim, sizes, strict=True):
            if isinstance(size, int) and dimension.dim_value <= 0:
                dimension.dim_value = size  # which clears the symbol
                changed = True
    if changed:
        _forget_sizes(model)


def fix_batch(model: onnx.ModelProto) -> None:
    """Give inputs whose first size is open a batch of one, as `fix_sizes` does where a contract leaves it open."""
    for entry in _given(model):
        sizes = entry.type.tensor_type.shape.dim
        if sizes and sizes[0].dim_value <= 0:
            sizes[0].dim_value = 1  # which clears the symbol
    _forget_sizes(model)


def _given(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs that a caller gives: old files list initializers among them."""
    stored = {tensor.name for tensor in model.graph.initializer}
    return [entry for entry in model.graph.input if entry.name not in stored]


def _forget_sizes(model: onnx.ModelProto) -> None:
    """Drop the sizes that followed from the symbols, and infer them anew."""
    import onnx  # noqa: PLC0415 - only in the child

    del model.graph.value_info[:]
    for output in model.graph.output:
        for dimension in output.type.tensor_type.shape.dim:
            if dimension.dim_param or dimension.dim_value < 0:
                dimension.Clear()
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    model.CopyFrom(inferred)


def _check_sizes(spec: TensorSpec, has: list[int | None], wanted: list[int | str]) -> None:
    fits = len(has) == len(wanted) and all(
        have is None or isinstance(want, str) or have == want for have, want in zip(has, wanted, strict=True)
    )
    if not fits:
        shown = tuple(size or "?" for size in has)
        message = f"input {spec.name!r}: the contract expects shape {spec.shape}, the ONNX model takes {shown}"
        raise ConfigError("contract-mismatch", message)


def in_opset(model: onnx.ModelProto, opset: int, name: str, max_opset: int) -> onnx.ModelProto:
    """Return the model in another operator set, valid but not yet compared with the original.

    onnx's converter knows few ways down. Where it knows none the file is only called by the other number: most versions
    of an operator differ in the types that they allow. What does not hold then is seen by the checker or by running it.

    Raises:
        TargetError: ``opset-ceiling`` if it has operators that the set has not.
    """
    import onnx  # noqa: PLC0415 - only in the child
    import onnx.version_converter  # noqa: PLC0415

    before = opset_of(model)
    try:
        try:
            made = onnx.version_converter.convert_version(model, opset)
        except (RuntimeError, ValueError):
            made = _relabelled(model, opset)
        onnx.checker.check_model(made, full_check=True)
    except Exception as error:
        limit = "expected at most" if before > max_opset else "and the recipe needs"
        message = f"{name} uses opset {before}, {limit} {opset}, and cannot be converted: {error}"
        hint = f"Export it again with opset_version={opset}, or choose another recipe."
        raise TargetError("opset-ceiling", message, hint=hint) from error
    made.ir_version = max(made.ir_version, onnx.helper.OP_SET_ID_VERSION_MAP.get(("ai.onnx", opset), 0))
    return made


def _relabelled(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    import onnx  # noqa: PLC0415 - only in the child

    made = onnx.ModelProto()
    made.CopyFrom(model)
    for item in made.opset_import:
        if item.domain in DEFAULT_DOMAIN:
            item.version = opset
    return made


def _check_converted(plain: Path, made: Path, contract: Contract, what: str) -> None:
    try:
        check_agreement(plain, made, contract, what=what)
    except ReleaseError as error:
        raise TargetError("opset-ceiling", error.message, hint="Export it again with that opset_version.") from error


def check_opset(opsets: dict[str, int], max_opset: int, name: str) -> None:
    """Refuse an operator set above the ceiling.

    Raises:
        TargetError: ``opset-ceiling``.
    """
    opset = opsets.get("", opsets.get("ai.onnx", 0))
    if opset > max_opset:
        raise TargetError(
            "opset-ceiling",
            f"{name} uses opset {opset}, expected at most {max_opset}",
            hint=f"Export it again with opset_version={max_opset} or lower, or use another recipe.",
        )


def pin_ir(model: onnx.ModelProto, max_ir: int) -> None:
    """Lower the IR version to the ceiling, which is lossless unless the file uses what came later.

    Raises:
        TargetError: ``opset-ceiling`` if it uses what only a later IR has.
    """
    import onnx  # noqa: PLC0415 - only in the child

    if model.ir_version <= max_ir:
        return
    model.ir_version = max_ir
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise TargetError("opset-ceiling", f"the file needs a newer IR than {max_ir}: {error}") from error
