"""ONNX files: read, compared with the target's ceiling, and pinned to it."""

from __future__ import annotations

from typing import Any

from edgesdk.errors import ConfigError, TargetError
from edgesdk_converters.isolation import Call

TOOLS = ("onnx",)


def pin(call: Call) -> dict[str, Any]:
    """Child action: write ``model.onnx``, the source with an IR version that the target's oldest runtime reads.

    Raises:
        TargetError: ``opset-ceiling`` if its operator set is newer than that runtime knows.
        ConfigError: ``model-format`` if it is no valid ONNX file.
    """
    import onnx  # noqa: PLC0415 - only in the child

    source = call.inputs["source"]
    try:
        graph = onnx.load(source)
        onnx.checker.check_model(graph)
    except Exception as error:
        raise ConfigError("model-format", f"{source.name} is no valid ONNX file: {error}") from error
    check_opset({item.domain: item.version for item in graph.opset_import}, call.params["max_opset"], source.name)
    pin_ir(graph, call.params["max_ir"])
    onnx.save(graph, call.out / "model.onnx")
    return {"opset": {item.domain or "ai.onnx": item.version for item in graph.opset_import}, "ir": graph.ir_version}


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
            hint=f"Export it again with opset_version={max_opset} or lower.",
        )


def pin_ir(graph: Any, max_ir: int) -> None:
    """Lower the IR version to the ceiling, which is lossless unless the file uses what came later.

    Raises:
        TargetError: ``opset-ceiling`` if it uses model-local functions or sparse types of a later IR.
    """
    import onnx  # noqa: PLC0415 - only in the child

    if graph.ir_version <= max_ir:
        return
    graph.ir_version = max_ir
    try:
        onnx.checker.check_model(graph)
    except onnx.checker.ValidationError as error:
        raise TargetError("opset-ceiling", f"the file needs a newer IR than {max_ir}: {error}") from error
