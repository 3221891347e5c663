"""Layer norm, attention and GELU for Ethos-U: the lint of the ONNX file says what its TFLite file has and Vela takes.

The operators of each graph were counted in the int8 file that `edge convert` makes of it (onnx2tf 1.29.24), and the
places in what Vela 5.2 built of that for ethos-u55-128.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from edgesdk_converters.lint.assume import as_target_sees
from edgesdk_converters.lint.check import check
from edgesdk_converters.lint.read import read_graph
from edgesdk_converters.lint.rules import find_rules
from edgesdk_converters.lint.source import read_model

from edgesdk.targets.profiles import load_profile

TARGET = load_profile("ethos-u55-128")
X = {"x": ("float32", [1, 16, 32])}
WIDE = np.linspace(0.5, 1.5, 32, dtype=np.float32)
CONSTANTS = {
    "w": np.ones((32, 32), np.float32),
    "b": WIDE,
    "scale": WIDE,
    "bias": WIDE,
    "epsilon": np.asarray(1e-5, np.float32),
    "zero": np.asarray(0, np.float32),
    "one": np.asarray(1, np.float32),
    "two": np.asarray(2, np.float32),
    "two_1": np.asarray([2], np.float32),
    "four": np.asarray(4, np.float32),
}
FIRST = [("MatMul", ["x", "w"], ["m"], {}), ("Add", ["m", "b"], ["a"], {})]
MEAN = ("ReduceMean", ["a"], ["mean"], {"axes": [-1]})
APART = ("Sub", ["a", "mean"], ["apart"], {})
SAFE = [
    ("ReduceMean", ["squares"], ["variance"], {"axes": [-1]}),
    ("Add", ["variance", "epsilon"], ["safe"], {}),
    ("Sqrt", ["safe"], ["root"], {}),
]
LAST = [("Mul", ["normal", "scale"], ["scaled"], {}), ("Add", ["scaled", "bias"], ["y"], {})]
RECIPROCAL = [("Reciprocal", ["root"], ["slope"], {}), ("Mul", ["apart", "slope"], ["normal"], {})]
SQUARED = ("Mul", ["apart", "apart"], ["squares"], {})
DIVIDED = ("Div", ["apart", "root"], ["normal"], {})
WRITTEN = {
    "pytorch": [MEAN, APART, ("Pow", ["apart", "two"], ["squares"], {}), *SAFE, DIVIDED, *LAST],
    "paddle": [MEAN, APART, ("Pow", ["apart", "two_1"], ["squares"], {}), *SAFE, DIVIDED, *LAST],
    "tensorflow": [MEAN, APART, SQUARED, *SAFE, *RECIPROCAL, *LAST],
    "jax": [
        *(MEAN, ("Mul", ["a", "a"], ["whole"], {}), ("ReduceMean", ["whole"], ["moment"], {"axes": [-1]})),
        *(("Mul", ["mean", "mean"], ["part"], {}), ("Sub", ["moment", "part"], ["rest"], {})),
        *(("Max", ["rest", "zero"], ["variance"], {}), APART, *SAFE[1:]),
        *(("Reciprocal", ["root"], ["slope"], {}), ("Mul", ["slope", "scale"], ["normal"], {})),
        *(("Mul", ["apart", "normal"], ["scaled"], {}), ("Add", ["scaled", "bias"], ["y"], {})),
    ],
}
NORM = {"FULLY_CONNECTED": 1, "MEAN": 2, "SUB": 1, "MUL": 3, "ADD": 2, "RSQRT": 1}
COUNTED = dict.fromkeys(("pytorch", "paddle", "tensorflow"), NORM) | {"jax": {**NORM, "MUL": 4, "SUB": 2}}
WHOLE = {**NORM, "SQUARED_DIFFERENCE": 1}


@pytest.fixture
def seen(onnx_file):
    """Count the operators that the lint sees, those off the NPU with a star, in a graph behind a dense layer."""

    def count(nodes, inputs=X, constants=CONSTANTS, **words) -> Counter[str]:
        used = {name for _op, given, _made, _options in nodes for name in given}
        path = onnx_file(nodes, inputs, {name: each for name, each in constants.items() if name in used}, **words)
        graph = read_graph(path)
        nodes = as_target_sees(graph, find_rules(TARGET, graph.format)).nodes
        report = check(graph, TARGET)
        off = {each.node for each in report.findings}
        assert not report.refused
        assert report.ops == len(nodes)
        return Counter(node.op + ("*" if node.name in off else "") for node in nodes)

    return count


@pytest.mark.parametrize("exporter", WRITTEN)
def test_a_layer_norm_that_was_written_out_runs_whole(seen, exporter):
    """No POW, SQRT, DIV or Reciprocal is left of it, a bias is in its dense layer, a clip at 0 in what it follows."""
    assert seen([*FIRST, *WRITTEN[exporter]]) == COUNTED[exporter]


def test_a_layer_norm_of_one_operator_becomes_ten(seen):
    """Opset 17's own is the ten of tf.nn.batch_normalization, with and without a product before it."""
    norm = ("LayerNormalization", ["a", "scale", "bias"], ["y"], {"axis": -1})
    assert seen([*FIRST, norm]) == WHOLE
    alone = ("LayerNormalization", ["x", "scale", "bias"], ["y"], {})
    assert seen([alone]) == Counter(WHOLE) - Counter({"FULLY_CONNECTED": 1})


def test_means_over_the_channels_of_a_picture_stay_on_the_cpu(seen):
    """Four axes, the last of them the channels: Ethos-U55 has no mean over depth, and Vela left both to the CPU."""
    norm = ("LayerNormalization", ["a", "scale", "bias"], ["y"], {"axis": -1})
    found = seen([*FIRST, norm], {"x": ("float32", [1, 4, 8, 32])})
    assert found == Counter({**WHOLE, "MEAN": 0, "MEAN*": 2}) + Counter()


def test_an_instance_norm_runs_whole(seen):
    """Over height and width of a picture it is nine operators, and the NPU takes all of them."""
    nodes = [("Conv", ["x", "k"], ["a"], {}), ("InstanceNormalization", ["a", "gain", "gain"], ["y"], {})]
    constants = {"k": np.ones((8, 3, 3, 3), np.float32), "gain": np.linspace(0.5, 1.5, 8, dtype=np.float32)}
    found = seen(nodes, {"x": ("float32", [1, 3, 8, 8])}, constants)
    assert found == {"CONV_2D": 1, "MEAN": 2, "SQUARED_DIFFERENCE": 1, "ADD": 2, "RSQRT": 1, "SUB": 1, "MUL": 2}


def test_channels_are_last_only_in_feature_maps(onnx_file):
    """Through Transposes to a norm and back as in ConvNeXt; and where a model of sequences is settled to Reshapes."""
    picture = [
        *(("Conv", ["x", "k"], ["a"], {}), ("Transpose", ["a"], ["t"], {"perm": [0, 2, 3, 1]})),
        *(("Relu", ["t"], ["r"], {}), ("Transpose", ["r"], ["back"], {"perm": [0, 3, 1, 2]})),
        *(("Add", ["back", "a"], ["sum"], {}), ("Conv", ["sum", "k"], ["y"], {})),
    ]
    path = onnx_file(picture, {"x": ("float32", [1, 5, 9, 7])}, {"k": np.ones((5, 5, 1, 1), np.float32)})
    found = as_target_sees(read_graph(path), find_rules(TARGET, "onnx")).nodes
    shapes = {node.name: (node.present[0].shape, node.outputs[0].shape) for node in found}
    assert shapes["n2"] == ((1, 9, 7, 5),) * 2
    assert shapes["n4"] == ((1, 9, 7, 5),) * 2
    assert shapes["n5"] == ((1, 9, 7, 5),) * 2
    norm = [*FIRST, MEAN, APART, SQUARED, *SAFE, ("Reciprocal", ["root"], ["slope"], {})]
    norm += [("Mul", ["slope", "scale"], ["slant"], {}), ("Mul", ["mean", "slant"], ["y"], {})]
    used = {name: CONSTANTS[name] for name in ("w", "b", "epsilon", "scale")}
    path = onnx_file(norm, X, used, outputs={"y": ("float32", [1, 16, 32])})
    report = check(read_model(path, TARGET), TARGET)
    assert (report.refused, report.ops_off) == (False, 0)


def test_a_root_mean_square_norm_runs_whole(seen):
    """One divided by a root is one RSQRT, whether a division or a Reciprocal was written."""
    square = ("Pow", ["a", "two"], ["squares"], {})
    end = [("Mul", ["a", "slope"], ["normal"], {}), ("Mul", ["normal", "scale"], ["y"], {})]
    expected = {"FULLY_CONNECTED": 1, "MUL": 3, "MEAN": 1, "ADD": 1, "RSQRT": 1}
    for inverse in (("Div", ["one", "root"], ["slope"], {}), ("Reciprocal", ["root"], ["slope"], {})):
        assert seen([*FIRST, square, *SAFE, inverse, *end]) == expected


def test_attention_divides_by_a_product(seen):
    """A division by a constant is a product; the same by what is computed stays one, on the CPU."""
    start = [*FIRST, ("Transpose", ["a"], ["t"], {"perm": [0, 2, 1]}), ("MatMul", ["a", "t"], ["scores"], {})]
    softmax = ("Softmax", ["scaled"], ["y"], {"axis": -1})
    counted = {"FULLY_CONNECTED": 1, "TRANSPOSE": 1, "BATCH_MATMUL": 1, "SOFTMAX": 1}
    by_number = [*start, ("Div", ["scores", "four"], ["scaled"], {}), softmax]
    assert seen(by_number) == {**counted, "MUL": 1}
    computed = [*start, ("Sigmoid", ["scores"], ["gate"], {}), ("Div", ["scores", "gate"], ["scaled"], {}), softmax]
    assert seen(computed) == {**counted, "LOGISTIC": 1, "DIV*": 1}


@pytest.mark.parametrize(
    ("power", "made"),
    [
        (3.0, {"MUL": 2}),
        (0.5, {"SQRT*": 1}),
        (-0.5, {"RSQRT": 1}),
        (-1.0, {"POW*": 1, "DEQUANTIZE*": 1, "QUANTIZE*": 1}),
    ],
)
def test_powers_become_what_the_converter_makes_of_them(seen, power, made):
    """Products, roots, or a POW that stays float on its way to the CPU and back."""
    nodes = [*FIRST, ("Pow", ["a", "power"], ["p"], {}), ("Tanh", ["p"], ["y"], {})]
    found = seen(nodes, constants={**CONSTANTS, "power": np.asarray(power, np.float32)})
    assert found == {"FULLY_CONNECTED": 1, "TANH": 1, **made}


def test_a_root_that_more_than_a_division_reads_stays(seen):
    """The division has its own reciprocal root then; the root itself runs on the CPU."""
    nodes = [
        *FIRST,
        ("Sqrt", ["a"], ["root"], {}),
        ("Div", ["a", "root"], ["q"], {}),
        ("Add", ["q", "root"], ["y"], {}),
    ]
    assert seen(nodes) == {"FULLY_CONNECTED": 1, "SQRT*": 1, "RSQRT": 1, "MUL": 1, "ADD": 1}


def test_a_negative_that_is_only_added_is_subtracted(seen):
    """One that is multiplied, as in Keras's layer norm, stays a NEG in float, with its way to the CPU and back."""
    negative = ("Neg", ["a"], ["n"], {})
    assert seen([*FIRST, negative, ("Add", ["n", "x"], ["y"], {})]) == {"FULLY_CONNECTED": 1, "SUB": 1}
    found = seen([*FIRST, negative, ("Mul", ["n", "x"], ["y"], {})])
    assert found == {"FULLY_CONNECTED": 1, "MUL": 1, "NEG*": 1, "DEQUANTIZE*": 1, "QUANTIZE*": 1}


def test_what_is_given_out_is_not_merged_away(onnx_file):
    """A product, a root and a negative that callers get keep their operators and their names."""
    nodes = [
        *(("MatMul", ["x", "w"], ["m"], {}), ("Add", ["m", "b"], ["a"], {}), ("Sqrt", ["a"], ["root"], {})),
        *(("Div", ["a", "root"], ["q"], {}), ("Neg", ["q"], ["n"], {}), ("Add", ["n", "a"], ["y"], {})),
    ]
    given = {name: ("float32", [1, 16, 32]) for name in ("m", "root", "n", "y")}
    graph = read_graph(onnx_file(nodes, X, {name: CONSTANTS[name] for name in "wb"}, outputs=given))
    found = as_target_sees(graph, find_rules(TARGET, graph.format))
    assert {tensor.name for tensor in found.outputs} <= {each.name for node in found.nodes for each in node.outputs}
    assert Counter(node.op for node in found.nodes) >= Counter(("SQRT", "NEG", "ADD", "ADD", "FULLY_CONNECTED"))
