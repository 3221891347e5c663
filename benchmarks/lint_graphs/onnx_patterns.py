"""ONNX graphs of a norm or a GELU between two convolutions, written out as exporters do it, for compilers that fuse."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

Part = tuple[str, list[str], str, dict[str, Any]]
"""Operator, what it reads, what it writes, attributes; ``a`` is given, ``b`` is wanted."""
NUMBERS = {
    "half": 0.5,
    "one": 1.0,
    "two": 2.0,
    "root_two": math.sqrt(2),
    "slope": math.sqrt(0.5),
    "epsilon": 1e-5,
}
CONSTANTS = {name: np.asarray(value, np.float32) for name, value in NUMBERS.items()} | {
    "scale": np.linspace(0.5, 1.5, 8, dtype=np.float32),
    "bias": np.linspace(-1, 1, 8, dtype=np.float32),
}


def gelus() -> dict[str, list[Part]]:
    """Return exact GELUs: a division or a product inside, terms and factors in each order, the half in each place."""
    made: dict[str, list[Part]] = {}
    for inner, add, mul, half in itertools.product(("div", "mul"), (0, 1), (0, 1), ("last", "gate", "source")):
        first: Part = ("Div", ["a", "root_two"], "i", {}) if inner == "div" else ("Mul", ["a", "slope"], "i", {})
        parts = [first, ("Erf", ["i"], "e", {}), ("Add", _turned(["e", "one"], add), "g", {})]
        if half == "last":
            parts += [("Mul", _turned(["a", "g"], mul), "p", {}), ("Mul", ["p", "half"], "b", {})]
        elif half == "gate":
            parts += [("Mul", ["g", "half"], "p", {}), ("Mul", _turned(["a", "p"], mul), "b", {})]
        else:
            parts += [("Mul", ["a", "half"], "p", {}), ("Mul", _turned(["p", "g"], mul), "b", {})]
        made[f"gelu-{inner}-add{add}-mul{mul}-half-{half}"] = parts
    return made


def norms() -> dict[str, list[Part]]:
    """Return layer norms over the last axis, as one operator with and without attributes, and written out."""
    written = {"axis": -1, "epsilon": 1e-5}
    made: dict[str, list[Part]] = {}
    for names in ((), ("axis",), ("epsilon",), ("axis", "epsilon")):
        for given in (["scale"], ["scale", "bias"]):
            words = {name: written[name] for name in names}
            made[f"norm-{len(given)}-{'-'.join(names)}"] = [("LayerNormalization", ["a", *given], "b", words)]
    last = {"axes": [-1]}
    for square in ("Pow", "Mul"):
        made[f"norm-out-{square}"] = [
            ("ReduceMean", ["a"], "m", last),
            ("Sub", ["a", "m"], "d", {}),
            (square, ["d", "two" if square == "Pow" else "d"], "q", {}),
            ("ReduceMean", ["q"], "v", last),
            ("Add", ["v", "epsilon"], "s", {}),
            ("Sqrt", ["s"], "r", {}),
            ("Div", ["d", "r"], "n", {}),
            ("Mul", ["n", "scale"], "c", {}),
            ("Add", ["c", "bias"], "b", {}),
        ]
    made["norm-instance"] = [("InstanceNormalization", ["a", "scale", "bias"], "b", {})]
    return made


def write(folder: Path) -> None:
    """Write every graph; the operators in question are called ``probe`` and a number."""
    for name, parts in (gelus() | norms()).items():
        used = {each for _op, given, _made, _words in parts for each in given} & CONSTANTS.keys()
        constants = {word: CONSTANTS[word] for word in sorted(used)}
        random = np.random.default_rng(0)
        constants |= {
            word: random.normal(size=(8, inner, 3, 3)).astype(np.float32) for word, inner in (("w", 3), ("l", 8))
        }
        nodes = [helper.make_node("Conv", ["x", "w"], ["a"], name="first", pads=[1, 1, 1, 1])]
        for index, (op, given, output, words) in enumerate(parts):
            nodes.append(helper.make_node(op, given, [output], name=f"probe{index}", **words))
        nodes.append(helper.make_node("Conv", ["b", "l"], ["y"], name="last", pads=[1, 1, 1, 1]))
        values = [helper.make_tensor_value_info(word, 1, [1, size, 8, 8]) for word, size in (("x", 3), ("y", 8))]
        stored = [numpy_helper.from_array(array, word) for word, array in constants.items()]
        graph = helper.make_graph(nodes, "g", values[:1], values[1:], stored)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.save(onnx.shape_inference.infer_shapes(model), folder / f"{name}.onnx")


def _turned(names: list[str], turn: int) -> list[str]:
    return names[::-1] if turn else names
