"""The lint inside a conversion: a step before the vendor's tool, which refuses as asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from edgesdk_converters.isolation import Call
from edgesdk_converters.lint.step import lint
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
        words = {"target": msgspec.to_builtins(load_profile("ethos-u55-128")), "most": None, "final": False, **params}
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
