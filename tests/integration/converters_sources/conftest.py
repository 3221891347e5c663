"""Small graphs with two outputs, one of which has channels, and what reads them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from edgesdk_converters.running.isolation import Task, run_child
from onnx import TensorProto, helper, numpy_helper

from edgesdk.contract import Contract, TensorSpec

Act = Callable[..., tuple[Path, Any]]


@pytest.fixture(scope="session")
def contract() -> dict[str, Any]:
    """Channels first, as the ONNX graph has it."""
    described = Contract(
        version="1.0",
        task="other",
        inputs=(TensorSpec(name="x", shape=(1, 3, 10, 12)),),
        outputs=(TensorSpec(name="scores", shape=(1, 5)), TensorSpec(name="features", shape=(1, 8, 10, 12))),
    )
    return msgspec.to_builtins(described)


@pytest.fixture
def graph() -> Callable[..., onnx.ModelProto]:
    """Make a convolution with two outputs; its batch is open, its weights come from where one says."""

    def make(
        *, opset: int = 17, ir: int = 8, constants: bool = False, sizes: tuple = ("N", 3, 10, 12)
    ) -> onnx.ModelProto:
        random = np.random.default_rng(0)
        arrays = {"w": (8, 3, 3, 3), "b": (8,), "w2": (8, 5), "b2": (5,)}
        weights = [
            numpy_helper.from_array(random.normal(size=shape).astype(np.float32) / 3, name)
            for name, shape in arrays.items()
        ]
        nodes = [
            helper.make_node("Conv", ["x", "w", "b"], ["c"], name="conv", kernel_shape=[3, 3], pads=[1] * 4),
            helper.make_node("Relu", ["c"], ["features"], name="relu"),
            helper.make_node("GlobalAveragePool", ["features"], ["g"], name="pool"),
            helper.make_node("Flatten", ["g"], ["f"], name="flatten"),
            helper.make_node("Gemm", ["f", "w2", "b2"], ["scores"], name="dense"),
        ]
        stored = weights
        if constants:
            nodes = [helper.make_node("Constant", [], [each.name], value=each) for each in weights] + nodes
            stored = []
        outputs = [("scores", [sizes[0], 5]), ("features", [sizes[0], 8, *sizes[2:]])]
        made = helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, sizes)],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs],
            stored,
        )
        return helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)

    return make


@pytest.fixture(scope="session")
def limits() -> dict[str, int]:
    """What ONNX files may need."""
    return {"min_opset": 0, "max_opset": 21, "max_ir": 10, "opset": 17}


@pytest.fixture
def act(tmp_path: Path, limits: dict[str, int], contract: dict[str, Any]) -> Act:
    """Run one action of a source in a child; return its folder and answer."""

    def run(action: str, source: Path, *, timeout_s: float = 120, **params: Any) -> tuple[Path, Any]:
        out = tmp_path / f"step-{len(list(tmp_path.iterdir()))}" / "out"
        out.mkdir(parents=True)
        asked = {**limits, "contract": contract, **params}
        task = Task(action=f"edgesdk_converters.sources.{action}", inputs={"source": source}, params=asked)
        return out, run_child(task, out, log=out.with_suffix(".log"), timeout_s=timeout_s)

    return run
