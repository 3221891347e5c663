"""Graphs for rules: TFLite ones by the benchmark's builder, ONNX ones by the onnx helper."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

from edgesdk_converters.lint.check import check
from edgesdk_converters.lint.graph import Graph
from edgesdk_converters.lint.read import read_graph
from edgesdk_converters.lint.report import LintReport
from lint_graphs.build import Builder

from edgesdk.targets.profiles import load_profile

ELEMENTS = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "bool": 9, "float16": 10, "float64": 11}
OnnxNode = tuple[str, list[str], list[str], dict[str, Any]]


@pytest.fixture
def build() -> Builder:
    """A TFLite graph that is being built."""
    return Builder()


@pytest.fixture
def read(tmp_path: Path) -> Callable[[bytes], Graph]:
    """Read a TFLite file from its bytes."""

    def reader(content: bytes) -> Graph:
        path = tmp_path / "model.tflite"
        path.write_bytes(content)
        return read_graph(path)

    return reader


@pytest.fixture
def lint_tflite(read: Callable[[bytes], Graph]) -> Callable[[bytes, str], LintReport]:
    """Lint a TFLite file for a target."""
    return lambda content, target: check(read(content), load_profile(target))


@pytest.fixture
def onnx_file(tmp_path: Path) -> Callable[..., Path]:
    """Write an ONNX file from nodes, inputs, constants and outputs."""

    def write(
        nodes: list[OnnxNode],
        inputs: dict[str, tuple[str, list[Any]]],
        constants: dict[str, np.ndarray] | None = None,
        *,
        outputs: dict[str, tuple[str, list[Any]]] | None = None,
        opset: int = 17,
        ir: int = 8,
        domains: dict[str, int] | None = None,
    ) -> Path:
        last = outputs or {nodes[-1][2][0]: ("float32", [])}
        graph = helper.make_graph(
            [
                helper.make_node(op, given, made, domain=words.pop("domain", ""), name=f"n{index}", **words)
                for index, (op, given, made, words) in enumerate(nodes)
            ],
            "g",
            [helper.make_tensor_value_info(name, ELEMENTS[kind], shape) for name, (kind, shape) in inputs.items()],
            [
                helper.make_tensor_value_info(name, ELEMENTS[kind], shape or None)
                for name, (kind, shape) in last.items()
            ],
            [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()],
        )
        opsets = [helper.make_opsetid(name, version) for name, version in {"": opset, **(domains or {})}.items()]
        path = tmp_path / "model.onnx"
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=ir), path)
        return path

    return write


@pytest.fixture
def lint_onnx(onnx_file: Callable[..., Path]) -> Callable[..., LintReport]:
    """Lint an ONNX graph for a target."""
    return lambda target, *parts, **words: check(read_graph(onnx_file(*parts, **words)), load_profile(target))
