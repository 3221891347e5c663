"""What int8 quantization leaves in float: the lint of the float file says it beforehand, as the converter does it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from collections import Counter

import numpy as np
import pytest
from edgesdk_converters.lint.check import check
from edgesdk_converters.lint.left_float import _REWRITES, QUANTIZED
from edgesdk_converters.lint.read import read_graph
from edgesdk_converters.lint.rules import vela_u55, vela_u85
from lint_graphs.build import Builder

from edgesdk.targets.profiles import load_profile

TARGETS = ("ethos-u55-128", "ethos-u85-256")
SHAPE = (1, 4, 4, 8)
ONE = "ABS CEIL COS ELU EXP FLOOR GELU HARD_SWISH L2_NORMALIZATION LEAKY_RELU LOG LOGISTIC LOG_SOFTMAX NEG RELU RELU6"
ONE = f"{ONE} ROUND RELU_N1_TO_1 RSQRT SIGN SIN SOFTMAX SQRT SQUARE TANH"
TWO = "ADD DIV FLOOR_DIV FLOOR_MOD MAXIMUM MINIMUM MUL POW SQUARED_DIFFERENCE SUB"
AXES = "MEAN REDUCE_MAX REDUCE_MIN REDUCE_PROD SUM"
WIDEN = {"DEPTH_TO_SPACE": {"blockSize": 2}, "SPACE_TO_DEPTH": {"blockSize": 2}}
OPS = [*ONE.split(), *TWO.split(), *AXES.split(), "EXPAND_DIMS", "PRELU", "SQUEEZE", "TILE", "CONV_2D", *WIDEN]
QUANTIZE = """
import json, sys
from pathlib import Path
import numpy as np
from edgesdk_converters.passes import quantize_tflite as ours
from edgesdk_converters.recipes import RECIPES
from litert_quantizer import quantizer
for path in map(Path, sys.argv[1:]):
    content = path.read_bytes()
    layers = ours.read_layers(content)
    tool = quantizer.Quantizer(content)
    ours._configure(tool, RECIPES["int8"], layers)
    names = {name for layer in layers for name in layer.outputs}
    print(path, flush=True)
    made = tool.quantize(ours._statistics({name: (-1.0, 1.0) for name in names}, layers))
    path.with_suffix(".int8.tflite").write_bytes(bytes(made.quantized_model))
"""


def real(build: Builder, shape: tuple[int, ...], data=None) -> int:
    return build.tensor(shape, "float32", data=data, scale=None)


def apply(build: Builder, op: str, x: int) -> int:
    """Put an operator behind a tensor of SHAPE; return what it writes."""
    if op in AXES.split():
        y = real(build, (1, 1, 1, 8))
        build.op(op, [x, build.ints([1, 2])], [y], keepDims=True)
    elif op in {"EXPAND_DIMS", "SQUEEZE"}:
        y = real(build, (1, *SHAPE) if op == "EXPAND_DIMS" else SHAPE[1:])
        build.op(op, [x, build.ints([0])] if op == "EXPAND_DIMS" else [x], [y])
    elif op == "TILE":
        y = real(build, (1, 8, 4, 8))
        build.op(op, [x, build.ints([1, 2, 1, 1])], [y])
    elif op in WIDEN:
        y = real(build, (1, 8, 8, 2) if op == "DEPTH_TO_SPACE" else (1, 2, 2, 32))
        build.op(op, [x], [y], **WIDEN[op])
    else:
        y = real(build, SHAPE)
        others = [real(build, SHAPE, np.full(SHAPE, 0.5))] if op in TWO.split() else []
        if op == "PRELU":
            others = [real(build, (1, 1, 8), np.full((1, 1, 8), 0.1))]
        if op == "CONV_2D":
            others = [real(build, (8, 1, 1, 8), np.ones((8, 1, 1, 8))), real(build, (8,), np.zeros(8))]
        build.op(op, [x, *others], [y], **({"strideH": 1, "strideW": 1} if op == "CONV_2D" else {}))
    return y


def chain(*ops: str) -> bytes:
    """Return a float file of operators between two that are quantized."""
    build = Builder()
    x = build.input(SHAPE, "float32", scale=None)
    x = apply(build, "TANH", x)
    for op in ops:
        x = apply(build, op, x)
    y = real(build, build._graph.tensors[x].shape)
    build.op("TANH", [x], [y])
    return build.bytes([y])


@pytest.fixture(scope="module")
def quantized(tmp_path_factory):
    """Quantize float files by the real tool, all in one child; return both files of each by name."""
    folder = tmp_path_factory.mktemp("left")
    chains = {op: chain(op) for op in OPS} | {
        "ABS-NEG": chain("ABS", "NEG"),
        "ABS-MUL-ABS": chain("ABS", "MUL", "ABS"),
        "MINIMUM-CONV": chain("CONV_2D", "MINIMUM", "CONV_2D", "SQUARE"),
    }
    files = {name: folder / f"{name}.tflite" for name in chains}
    for name, path in files.items():
        path.write_bytes(chains[name])
    command = [sys.executable, "-c", textwrap.dedent(QUANTIZE), *map(str, files.values())]
    said = subprocess.run(command, check=False, capture_output=True, text=True)
    assert said.returncode == 0, said.stdout[-100:] + said.stderr[-1000:]
    return {name: (path, path.with_suffix(".int8.tflite")) for name, path in files.items()}


def floats_of(path) -> Counter:
    nodes = read_graph(path).nodes
    return Counter(
        node.op for node in nodes if any(each.dtype == "float32" and not each.constant for each in node.outputs)
    )


@pytest.mark.parametrize("op", OPS)
def test_the_table_is_what_the_converter_does(quantized, op):
    """An operator of the table becomes int8, one that is not in it stays float32: seen in the real tool's file."""
    assert (floats_of(quantized[op][1])[op] == 0) == (op in QUANTIZED)


def test_the_table_is_the_tools_own():
    """The table holds what the installed tool registers for static int8 and nothing else; the operators are many."""
    code = """
        import json
        from ai_edge_litert import schema_py_generated as schema
        from litert_quantizer import algorithm_manager, qtyping
        from litert_quantizer.utils import tfl_flatbuffer_utils as tool
        from litert_quantizer import default_policy
        names = {value: key for key, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
        sides = [qtyping.TensorQuantizationConfig(8, symmetric=side) for side in (False, True)]
        how = qtyping.OpQuantizationConfig(*sides, compute_precision=qtyping.ComputePrecision.INTEGER)
        policy = default_policy.DEFAULT_CONFIG_CHECK_POLICY
        print(json.dumps([names[code] for code, op in tool.TFL_OP_CODE_TO_NAME.items() if how in policy.get(op, [])]))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert set(json.loads(said.splitlines()[-1])) == QUANTIZED


@pytest.mark.parametrize("target", TARGETS)
def test_the_lint_of_the_float_file_announces_what_the_int8_file_has(quantized, target):
    """Of every chain: the same operators off the accelerator, with the same words, before and after quantization."""
    for name, paths in quantized.items():
        before, after = (check(read_graph(path), load_profile(target)) for path in paths)
        off = [Counter((each.op, each.rule, each.rewrite) for each in report.findings) for report in (before, after)]
        assert off[0] == off[1], name
        assert (before.ops_off, before.macs_off) == (after.ops_off, after.macs_off), name
        assert before.assumed
        assert not after.assumed


@pytest.mark.parametrize("target", TARGETS)
def test_nobody_is_told_to_quantize_what_is_quantized(quantized, target):
    """The advice for what stays float is another operator, never the recipe that left it there."""
    for paths in quantized.values():
        for path in paths:
            for finding in check(read_graph(path), load_profile(target)).findings:
                assert "recipe int8" not in finding.rewrite, finding


def test_a_negative_in_a_layer_norm_of_keras_has_a_cure_that_a_keras_user_can_follow(tmp_path):
    """Its NEG of a mean is no operator that anybody wrote; any other NEG is one, which a product replaces."""
    for before, words in (("MEAN", "keras.ops"), ("TANH", "Multiply by -1.")):
        build = Builder()
        x = apply(build, before, build.input(SHAPE, "float32", scale=None))
        y = real(build, build._graph.tensors[x].shape)
        build.op("NEG", [x], [y])
        z = apply(build, "TANH", y) if before == "TANH" else y
        path = tmp_path / f"{before}.tflite"
        path.write_bytes(build.bytes([z]))
        report = check(read_graph(path), load_profile("ethos-u55-128"))
        assert {each.op for each in report.findings} >= {"NEG", "DEQUANTIZE"}
        assert all(words in each.rewrite for each in report.findings)


def test_rewrites_name_operators_that_are_quantized_and_run():
    """What is offered instead is in the table, and an operator of both families."""
    named = {word for text in _REWRITES.values() for word in re.findall(r"[A-Z][A-Z0-9_]{2,}", text)}
    assert named
    assert named <= QUANTIZED
    assert named <= vela_u55.OPS
    assert named <= vela_u85.OPS
