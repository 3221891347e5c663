"""The lint inside a conversion: a step before the vendor's tool, which refuses as asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from edgesdk_converters.lint.check import notes
from edgesdk_converters.lint.read import read_graph
from edgesdk_converters.lint.step import lint
from edgesdk_converters.running.isolation import Call
from lint_graphs.build import Builder

from edgesdk.errors import TargetError
from edgesdk.targets.profiles import load_profile


@pytest.fixture
def call(tmp_path: Path):
    """A call of the step on a sine after an activation, for Ethos-U55."""
    build = Builder()
    x, y, z = build.input([1, 8]), build.tensor([1, 8]), build.tensor([1, 8])
    build.op("RELU", [x], [y])
    build.op("SIN", [y], [z])
    (tmp_path / "model.tflite").write_bytes(build.bytes([z]))

    def make(**params: Any) -> Call:
        words = {"target": msgspec.to_builtins(load_profile("ethos-u55-128")), "most": None, "by": "macs"}
        words |= {"final": False, **params}
        inputs = {"artifact": tmp_path / "model.tflite"}
        return Call(inputs=inputs, params=words, out=tmp_path, progress=lambda _done, _total: None)

    return make


def test_the_step_answers_the_report(call):
    """Without a limit a fallback is only reported, as plain data."""
    found = lint(call())
    assert (found["ops"], found["ops_off"]) == (2, 1)
    assert found["findings"][0]["op"] == "SIN"


def test_a_limit_refuses_before_anything_is_compiled(call):
    """Half of the operators are beside the NPU: 0.5 is allowed, less is not."""
    assert lint(call(most=0.5))["ops_off"] == 1
    with pytest.raises(TargetError) as caught:
        lint(call(most=0.4))
    assert caught.value.code == "fallback-share"


def test_a_share_of_operators_is_another_than_of_their_work(tmp_path: Path, call):
    """A sine after a dense layer: none of the work is beside the NPU, and half of the operators."""
    build = Builder()
    x, y, z = build.input([1, 8]), build.tensor([1, 4]), build.tensor([1, 4])
    build.op("FULLY_CONNECTED", [x, build.tensor([4, 8], data=np.ones((4, 8)))], [y])
    build.op("SIN", [y], [z])
    words = call(most=0.4)
    (tmp_path / "model.tflite").write_bytes(build.bytes([z]))
    assert lint(words)["ops_off"] == 1
    with pytest.raises(TargetError, match="ops"):
        lint(call(most=0.4, by="ops"))


def test_a_file_that_the_target_would_refuse_stops_only_where_no_compiler_follows(tmp_path: Path, call):
    """Vela itself is asked, and has the last word; TensorRT is on the device, so the lint has it."""
    build = Builder()
    x, y = build.input([1, 8], "bool", scale=None), build.tensor([1, 8], "bool", scale=None)
    build.op("LOGICAL_NOT", [x], [y])
    words = call()
    (tmp_path / "model.tflite").write_bytes(build.bytes([y]))
    assert lint(words)["refused"]
    with pytest.raises(TargetError, match="takes no file like this"):
        lint(call(final=True))


@pytest.mark.parametrize("op", ["Relu", "QuantizeLinear"])
def test_what_the_figures_do_not_say_is_a_note(op: str, onnx_file):
    """Rules are a forecast, the profile has its own words, and a quantized file is no source of a conversion."""
    scale = {} if op == "Relu" else {"scale": np.array(0.1, np.float32), "zero": np.array(0, np.int8)}
    kind = "float32" if op == "Relu" else "int8"
    path = onnx_file([(op, ["x", *scale], ["y"], {})], {"x": ("float32", [1, 4])}, scale, outputs={"y": (kind, [1, 4])})
    graph, profile = read_graph(path), load_profile("rk3588")
    said = " ".join(notes(graph, profile))
    assert "a forecast by rules from the operator list of rknn-toolkit2" in said
    assert "Nothing was measured on hardware" in said
    assert ("quantized already" in said) == (op == "QuantizeLinear")
    assert ("quantized already" in " ".join(notes(graph, load_profile("linux-arm64-cpu")))) == (op == "QuantizeLinear")
    assert bool(notes(graph, load_profile("linux-arm64-cpu"))) == (op == "QuantizeLinear")
