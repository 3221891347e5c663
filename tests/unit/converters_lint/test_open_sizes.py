"""Open sizes of an ONNX file: the lint judges the sizes that `edge convert` will give it, and says so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from edgesdk_converters.lint.check import check
from edgesdk_converters.lint.graph import Graph, GraphFormat, Node
from edgesdk_converters.lint.read import read_graph
from edgesdk_converters.lint.report import LintReport
from edgesdk_converters.lint.rules import find_rules
from edgesdk_converters.lint.source import BATCH_OF_ONE, BY_CONTRACT, SETTLED, read_model
from edgesdk_converters.lint.tensor import Tensor

from edgesdk.errors import ConfigError
from edgesdk.targets.profiles import load_profile

TARGETS = ("jetson-orin-gpu", "qualcomm-htp", "rk3588", "ethos-u55-128")
CONTRACT = """
version = "1.0"
task = "embedding"
inputs = [{{ name = "x", shape = {shape}, dtype = "float32" }}]
outputs = [{{ name = "y", shape = ["n", 4], dtype = "float32" }}]
"""


@pytest.fixture
def flattening(onnx_file: Callable[..., Path]) -> Callable[..., Path]:
    """Write a network that asks for its batch on the way, as PyTorch's exporter does, and flattens by it."""

    def write(*shape: int | str) -> Path:
        nodes = [
            ("Conv", ["x", "kernel"], ["features"], {"pads": [1, 1, 1, 1]}),
            ("Relu", ["features"], ["active"], {}),
            ("Shape", ["x"], ["sizes"], {}),
            ("Gather", ["sizes", "first"], ["batch"], {}),
            ("Concat", ["batch", "rest"], ["flat"], {"axis": 0}),
            ("Reshape", ["active", "flat"], ["row"], {}),
            ("Gemm", ["row", "weights"], ["y"], {}),
        ]
        constants = {
            "kernel": np.ones((2, 3, 3, 3), np.float32),
            "first": np.array([0]),
            "rest": np.array([-1]),
            "weights": np.ones((128, 4), np.float32),
        }
        return onnx_file(nodes, {"x": ("float32", [*shape])}, constants, outputs={"y": ("float32", [shape[0], 4])})

    return write


def _linted(path: Path, target: str, contract: Path | None = None) -> LintReport:
    profile = load_profile(target)
    return check(read_model(path, profile, contract=contract), profile)


def _verdict(report: LintReport) -> tuple[object, ...]:
    found = [(each.op, each.rule, each.effect, each.found) for each in report.findings]
    return report.refused, report.ops, report.ops_off, report.macs, report.macs_off, found


@pytest.mark.parametrize("target", TARGETS)
def test_an_open_batch_is_judged_as_one(flattening, target):
    """The verdict is that of the file with a batch of 1, which is what a vendor's tool gets; a note says so."""
    fixed = _verdict(_linted(flattening(1, 3, 8, 8), target))
    path = flattening("batch", 3, 8, 8)
    opened = _linted(path, target)
    assert _verdict(opened) == fixed
    assert opened.assumed[0] == BATCH_OF_ONE
    as_it_stands = check(read_graph(path), load_profile(target))
    assert target == "ethos-u55-128" or _verdict(as_it_stands) != fixed, "the trap"


def test_other_open_sizes_are_the_contracts(flattening, tmp_path):
    """Without a contract they stay open, which the note says how to change; with it they are those of a release."""
    contract = tmp_path / "contract.toml"
    contract.write_text(CONTRACT.format(shape='["n", 3, 8, 8]'))
    fixed = _verdict(_linted(flattening(1, 3, 8, 8), "rk3588"))
    path = flattening("batch", 3, "height", 8)
    alone, told = _linted(path, "rk3588"), _linted(path, "rk3588", contract)
    assert alone.refused
    assert "--contract fixes the other sizes (`edge contract draft` writes a first one)" in alone.assumed[0]
    assert (_verdict(told), told.assumed[0]) == (fixed, BY_CONTRACT)


def test_a_contract_of_other_sizes_is_refused_as_in_a_conversion(flattening, tmp_path):
    """What `edge convert` would refuse is not linted as if it were something else."""
    contract = tmp_path / "contract.toml"
    contract.write_text(CONTRACT.format(shape='["n", 1, 8, 8]'))
    with pytest.raises(ConfigError, match="the contract expects shape") as caught:
        _linted(flattening("batch", 3, "height", 8), "rk3588", contract)
    assert caught.value.code == "contract-mismatch"


@pytest.fixture
def computing(onnx_file) -> Path:
    """Write a network that computes a size on the way, in a form that ONNX's own inference does not follow."""
    nodes = [
        ("Conv", ["x", "kernel"], ["a"], {}),
        ("Shape", ["a"], ["sizes"], {}),
        ("Cast", ["sizes"], ["floats"], {"to": 1}),
        ("Mul", ["floats", "mask"], ["masked"], {}),
        ("Cast", ["masked"], ["whole"], {"to": 7}),
        ("Slice", ["whole", "zero", "one"], ["batch"], {}),
        ("Concat", ["batch", "rest"], ["flat"], {"axis": 0}),
        ("Reshape", ["a", "flat"], ["row"], {}),
        ("Gemm", ["row", "weights"], ["y"], {}),
    ]
    constants = {
        "kernel": np.ones((2, 3, 3, 3), np.float32),
        "mask": np.ones(4, np.float32),
        **{name: np.array([value]) for name, value in (("zero", 0), ("one", 1), ("rest", -1))},
        "weights": np.ones((72, 4), np.float32),
    }
    return onnx_file(nodes, {"x": ("float32", ["n", 3, 8, 8])}, constants, outputs={"y": ("float32", ["n", 4])})


def test_sizes_that_are_computed_are_folded_as_in_a_conversion(computing):
    """For Ethos-U they are constants in the TFLite file: three operators are left, and all run on the NPU."""
    report = _linted(computing, "ethos-u55-128")
    assert (report.ops, report.ops_off, report.refused) == (3, 0, False)
    assert SETTLED in report.assumed
    assert check(read_graph(computing), load_profile("ethos-u55-128")).ops_off, "the trap"


def test_rockchips_toolkit_folds_computed_sizes_itself(computing):
    """It built such models whole (PP-OCR), which the lint called refused for sizes that are not known."""
    report = _linted(computing, "rk3588")
    assert (report.ops_off, report.refused, SETTLED in report.assumed) == (0, False, True)
    assert check(read_graph(computing), load_profile("rk3588")).refused, "the trap"


@pytest.mark.parametrize(("opset", "op", "refused"), [(11, "Relu", False), (20, "Relu", False), (20, "Gelu", True)])
def test_an_operator_set_is_that_of_the_file_that_a_tool_gets(onnx_file, opset, op, refused):
    """`edge convert` writes one that the target reads, where it has the operators: there is no Gelu before 20."""
    path = onnx_file([(op, ["x"], ["y"], {})], {"x": ("float32", [1, 4])}, opset=opset, ir=9)
    assert check(read_graph(path), load_profile("rk3588")).refused, "the trap"
    report = _linted(path, "rk3588")
    assert (report.refused, SETTLED in report.assumed) == (refused, not refused)
    assert refused == any(each.rule == "opset" for each in report.findings)


def test_what_a_conversion_writes_otherwise_is_linted_so(onnx_file):
    """A Reciprocal of a root becomes a division for Rockchip's toolkit, which has it; a file without is untouched."""
    nodes = [
        ("Relu", ["x"], ["a"], {}),
        ("Sqrt", ["a"], ["root"], {}),
        ("Reciprocal", ["root"], ["slope"], {}),
        ("Mul", ["x", "slope"], ["y"], {}),
    ]
    path = onnx_file(nodes, {"x": ("float32", [1, 4, 8, 8])}, outputs={"y": ("float32", [1, 4, 8, 8])})
    assert check(read_graph(path), load_profile("rk3588")).ops_off == 1, "the trap"
    report = _linted(path, "rk3588")
    assert (report.ops_off, SETTLED in report.assumed) == (0, True)
    assert SETTLED not in _linted(onnx_file(nodes[:2], {"x": ("float32", [1, 4])}), "rk3588").assumed


def test_a_file_that_cannot_be_settled_is_linted_as_it_is(onnx_file):
    """An operator of a domain of one's own stops onnxruntime; the lint still names what is off."""
    nodes = [
        ("Reciprocal", ["x"], ["a"], {}),
        ("Mine", ["a"], ["y"], {"domain": "my.own"}),
    ]
    path = onnx_file(nodes, {"x": ("float32", [1, 4])}, domains={"my.own": 1})
    report = _linted(path, "rk3588")
    assert {each.op for each in report.findings} >= {"Reciprocal", "Mine"}
    assert SETTLED not in report.assumed


def test_a_quantized_file_is_linted_as_it_stands(onnx_file):
    """`edge convert` does not take it, so nobody fixes its batch."""
    nodes = [
        ("QuantizeLinear", ["x", "scale", "zero"], ["q"], {}),
        ("DequantizeLinear", ["q", "scale", "zero"], ["d"], {}),
        ("Relu", ["d"], ["y"], {}),
    ]
    constants = {"scale": np.array(0.1, np.float32), "zero": np.array(0, np.int8)}
    assert _linted(onnx_file(nodes, {"x": ("float32", ["n", 4])}, constants), "rk3588").refused


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("shape", [None, (), (None, None), (1, 0, 3)], ids=str)
def test_no_rule_fails_where_sizes_are_not_known(target: str, shape: tuple[int | None, ...] | None) -> None:
    """Every operator that a target's rules know, and ONNX's own, with values of unknown rank and sizes."""
    profile = load_profile(target)
    graph_format: GraphFormat = "tflite" if target == TARGETS[-1] else "onnx"
    kinds = {(graph_format, kind) for kind in find_rules(profile, graph_format).ops or ()}
    kinds |= {("onnx", schema.name) for schema in onnx.defs.get_all_schemas() if not schema.domain}
    values = {name: Tensor(name=name, dtype="float32", shape=shape) for name in ("a", "b", "c", "y")}
    for one, kind in sorted(kinds):
        node = Node(name="n", op=kind, inputs=tuple(values[name] for name in "abc"), outputs=(values["y"],))
        opsets = {"": 17} if one == "onnx" else {}
        given = Graph(format=one, nodes=(node,), inputs=node.present, outputs=node.outputs, opsets=opsets, ir_version=8)
        report = check(given, profile)
        assert report.ops_off <= report.ops, kind
