"""What Rockchip's toolkit takes together, as rknn-toolkit2 2.5.0 built it for rk3588: GELUs by Erf, layer norms."""

from __future__ import annotations

import math

import numpy as np
import pytest

X = {"x": ("float32", [1, 16, 32])}
CONSTANTS = {
    "half": np.asarray(0.5, np.float32),
    "one": np.asarray(1, np.float32),
    "root": np.asarray(math.sqrt(2), np.float32),
    "slope": np.asarray(math.sqrt(0.5), np.float32),
    "scale": np.ones(32, np.float32),
}
DIVIDED, MULTIPLIED = ("Div", "x", "root"), ("Mul", "x", "slope")
KNOWN = {
    "pytorch": (DIVIDED, ("Add", "erf", "one"), ("Mul", "x", "gate"), ("Mul", "2", "half")),
    "half last, before it": (DIVIDED, ("Add", "erf", "one"), ("Mul", "x", "gate"), ("Mul", "half", "2")),
    "half of the gate": (DIVIDED, ("Add", "erf", "one"), ("Mul", "gate", "half"), ("Mul", "x", "2")),
    "half of the gate, before x": (DIVIDED, ("Add", "erf", "one"), ("Mul", "gate", "half"), ("Mul", "2", "x")),
    "half of x": (DIVIDED, ("Add", "erf", "one"), ("Mul", "halved", "gate"), None),
}
UNKNOWN = {
    "a product inside": (MULTIPLIED, ("Add", "erf", "one"), ("Mul", "x", "gate"), ("Mul", "2", "half")),
    "one first": (DIVIDED, ("Add", "one", "erf"), ("Mul", "x", "gate"), ("Mul", "2", "half")),
    "the gate first": (DIVIDED, ("Add", "erf", "one"), ("Mul", "gate", "x"), ("Mul", "2", "half")),
    "one first, half of the gate": (DIVIDED, ("Add", "one", "erf"), ("Mul", "half", "gate"), ("Mul", "2", "x")),
    "the gate before half of x": (DIVIDED, ("Add", "erf", "one"), ("Mul", "gate", "halved"), None),
    "one first, half of x": (DIVIDED, ("Add", "one", "erf"), ("Mul", "halved", "gate"), None),
}


@pytest.fixture
def off(lint_onnx):
    """Return the operators that are off the NPU."""

    def lint(nodes, **words):
        used = {name for _op, given, _made, _options in nodes for name in given}
        report = lint_onnx(
            "rk3588", nodes, X, {name: each for name, each in CONSTANTS.items() if name in used}, **words
        )
        return [(each.op, each.rule) for each in report.findings if each.effect != "slow"]

    return lint


def gelu(inner, add, first, second):
    nodes = [(inner[0], list(inner[1:]), ["inner"], {}), ("Erf", ["inner"], ["erf"], {})]
    if "halved" in first:
        nodes.append(("Mul", ["x", "half"], ["halved"], {}))
    nodes.append(("Add", list(add[1:]), ["gate"], {}))
    nodes.append(("Mul", list(first[1:]), ["2" if second else "y"], {}))
    return nodes if second is None else [*nodes, ("Mul", list(second[1:]), ["y"], {})]


@pytest.mark.parametrize("order", KNOWN)
def test_the_erf_of_a_gelu_that_the_toolkit_knows_is_on_the_npu(off, order):
    """It became a part of ConvExGelu in the build."""
    assert off(gelu(*KNOWN[order])) == []


@pytest.mark.parametrize("order", UNKNOWN)
def test_the_erf_of_any_other_order_stays_on_the_cpu(off, order):
    """The toolkit compares the order of factors and terms too, and left the Erf to the CPU."""
    assert off(gelu(*UNKNOWN[order])) == [("Erf", "supported-op")]


def test_an_erf_that_another_operator_reads_is_no_part_of_a_gelu(off):
    """Neither is one whose value callers get."""
    nodes = gelu(*KNOWN["pytorch"])
    assert off([*nodes[:-1], ("Mul", ["2", "half"], ["z"], {}), ("Add", ["z", "erf"], ["y"], {})])
    given = {name: ("float32", [1, 16, 32]) for name in ("erf", "y")}
    assert off(nodes, outputs=given) == [("Erf", "supported-op")]


def test_a_layer_norm_needs_its_attributes_written(off):
    """PyTorch writes axis and epsilon; without either the toolkit's rule ended the build with a KeyError."""
    for words in ({}, {"axis": -1}, {"epsilon": 1e-5}):
        assert off([("LayerNormalization", ["x", "scale"], ["y"], words)]) == [
            ("LayerNormalization", "written-attributes")
        ]
    assert off([("LayerNormalization", ["x", "scale"], ["y"], {"axis": -1, "epsilon": 1e-5})]) == []
