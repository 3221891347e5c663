"""What is inside an operator that is off is off too: bodies of loops, branches and calls."""

from __future__ import annotations

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from edgesdk_converters.lint.bodies import UNROLL
from edgesdk_converters.lint.check import check
from edgesdk_converters.lint.graph import Graph, Node
from edgesdk_converters.lint.read import read_graph
from lint_graphs.build import Builder
from onnx import TensorProto, helper

from edgesdk.errors import TargetError
from edgesdk.targets.profiles import load_profile

U55 = "ethos-u55-128"
DENSE = 4 * 4
INSIDE = "the operators inside it are off with it: "


def dense(build: Builder, x: int) -> int:
    weights = build.tensor([4, 4], data=np.ones((4, 4)))
    y = build.tensor([1, 4])
    build.op("FULLY_CONNECTED", [x, weights, build.tensor([4], "int32", data=[1] * 4, scale=0.0025)], [y])
    return y


def packed(build: Builder, outputs: list[int]) -> schema.ModelT:
    return schema.ModelT.InitFromPackedBuf(build.bytes(outputs), 0)


def looped(*, caller: str = "WHILE", left_float: bool = False, **calls: int) -> bytes:
    """Write a file whose main graph has a dense layer and a caller; subgraph 1 has two, subgraph 2 calls 1."""
    build = Builder()
    hidden = dense(build, build.input([1, 4]))
    y = build.tensor([1, 4])
    if left_float:
        real = [build.tensor([1, 4], "float32", scale=None) for _ in range(2)]
        build.op("DEQUANTIZE", [hidden], real[:1])
        build.op(caller, real[:1], real[1:], **calls)
        build.op("QUANTIZE", real[1:], [y])
    else:
        build.op(caller, [hidden], [y], **calls)
    model = packed(build, [y])
    for name, layers, again in (("body", 2, False), ("deep", 1, True)):
        build = Builder()
        last = build.input([1, 4])
        for _ in range(layers):
            last = dense(build, last)
        if again:
            build.op("CALL", [last], [build.tensor([1, 4])], subgraph=1)
        part = packed(build, [last])
        part.subgraphs[0].name = name
        for operator in part.subgraphs[0].operators:
            code = part.operatorCodes[operator.opcodeIndex]
            operator.opcodeIndex = len(model.operatorCodes)
            model.operatorCodes.append(code)
        for tensor in part.subgraphs[0].tensors:
            content = part.buffers[tensor.buffer] if tensor.buffer else None
            tensor.buffer = len(model.buffers) if content is not None else 0
            model.buffers += [content] if content is not None else []
        model.subgraphs.append(part.subgraphs[0])
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_the_body_of_a_loop_that_is_off_is_off_and_said_once(lint_tflite):
    """Ethos-U runs no WHILE: both dense layers of its body are off, in operators, MACs and one finding."""
    report = lint_tflite(looped(condSubgraphIndex=1, bodySubgraphIndex=1), U55)
    (loop,) = [finding for finding in report.findings if finding.op == "WHILE"]
    assert INSIDE + "2; they are counted once" in loop.found
    assert "unroll=True" in loop.rewrite
    assert loop.macs == 2 * DENSE
    assert not [finding for finding in report.findings if finding.node.startswith("body/")]
    assert report.macs == 4 * DENSE  # those of the main graph, of the body, and of a subgraph that nothing calls
    assert report.macs_off == 2 * DENSE
    assert report.share("macs") == 0.5


def test_what_stands_beside_a_loop_is_told_how_to_be_rid_of_the_loop(lint_tflite):
    """Conversions around a loop in float, and the refusal of all of it: each says to unroll, not that it goes along."""
    report = lint_tflite(looped(left_float=True, condSubgraphIndex=1, bodySubgraphIndex=1), U55)
    beside = [finding for finding in report.findings if finding.op in {"QUANTIZE", "DEQUANTIZE"}]
    assert len(beside) == 2
    assert all(f"It goes with the WHILE. {UNROLL}" == finding.rewrite for finding in beside)
    with pytest.raises(TargetError, match="above all WHILE") as caught:
        report.check(0.1)
    assert caught.value.hint == UNROLL


@pytest.mark.parametrize(
    ("caller", "calls", "inside"),
    [
        ("IF", {"thenSubgraphIndex": 1, "elseSubgraphIndex": 2}, 4),
        ("CALL", {"subgraph": 1}, 2),
        ("CALL", {"subgraph": 2}, 4),
        ("CALL_ONCE", {"initSubgraphIndex": 2}, 4),
    ],
)
def test_branches_and_calls_take_along_what_they_hold(lint_tflite, caller, calls, inside):
    """Each node inside counts once, also through a call within; only loops speak of rounds."""
    report = lint_tflite(looped(caller=caller, **calls), U55)
    (found,) = [finding.found for finding in report.findings if finding.op == caller and "/" not in finding.node]
    assert found.endswith(f"{INSIDE}{inside}")


def test_a_loop_that_runs_keeps_its_body(lint_tflite):
    """A CPU runs WHILE: nothing is off."""
    report = lint_tflite(looped(condSubgraphIndex=1, bodySubgraphIndex=1), "linux-arm64-cpu")
    assert (report.ops_off, report.macs_off) == (0, 0)


def test_onnx_loops_take_their_bodies_along(onnx_file):
    """A Loop that Rockchip's NPU does not run has its MatMul off with it."""
    shape = ("float32", [4, 4])
    real = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 4])  # noqa: E731 - one line
    flag = lambda name: helper.make_tensor_value_info(name, TensorProto.BOOL, [])  # noqa: E731 - one line
    body = helper.make_graph(
        [helper.make_node("MatMul", ["s", "w"], ["t"], name="inner"), helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [helper.make_tensor_value_info("i", TensorProto.INT64, []), flag("go"), real("s")],
        [flag("on"), real("t")],
    )
    constants = {"w": np.ones((4, 4), np.float32), "m": np.asarray(3), "c": np.asarray(True)}
    nodes = [("MatMul", ["x", "w"], ["z"], {}), ("Loop", ["m", "c", "z"], ["y"], {"body": body})]
    report = check(read_graph(onnx_file(nodes, {"x": shape}, constants, outputs={"y": shape})), load_profile("rk3588"))
    (loop,) = report.findings
    assert f"{INSIDE}1; they are counted once" in loop.found
    assert (report.ops, report.ops_off, report.macs, report.macs_off) == (3, 2, 128, 64)


def test_a_graph_that_calls_itself_ends():
    """Damaged files may call in a circle; the lint still answers."""
    nodes = tuple(
        Node(name=name, op="WHILE", inputs=(), outputs=(), callers=(other,)) for name, other in (("a", "b"), ("b", "a"))
    )
    report = check(Graph(format="tflite", nodes=nodes, inputs=(), outputs=()), load_profile(U55))
    assert report.ops_off == 2
