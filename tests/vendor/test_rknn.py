"""rknn-toolkit2 itself: quantizes and builds from float ONNX, and answers in its simulator."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from edgesdk_converters import convert
from onnx import TensorProto, helper, numpy_helper

from edgesdk.bundle.archive import open_bundle
from edgesdk.bundle.release import load_release

pytestmark = [pytest.mark.vendor, pytest.mark.slow]


@pytest.fixture(scope="module", autouse=True)
def python(tool):
    """Every test here needs rknn-toolkit2."""
    return tool("rknn")


def test_a_release_for_a_rockchip_npu(converted, tmp_path):
    """Built from the float file and calibration data, judged in the simulator, the same bytes on repetition."""
    made = converted("v1.onnx", "rk3588")
    load_release(made.folder)
    [variant], [report] = made.index.variants, made.report["variants"]
    assert report["placement"]["accelerator"] > 5
    assert report["placement"]["macs_share"] == 1.0
    assert {each["op"] for each in report["placement"]["fallback"]} <= {"Reshape"}
    assert any(layer["on"] == "NPU" and layer["dtype"] == "INT8" for layer in report["compiled"]["layers"])
    assert variant.evaluation is not None
    assert variant.evaluation.runtime == "rknn-toolkit2 2.5.0 (simulator)"
    assert not variant.evaluation.on_target
    assert abs(variant.evaluation.difference) < 0.05
    with open_bundle(made.folder / variant.bundle) as bundle:
        [stage], parity = bundle.manifest.stages, bundle.manifest.golden.parity
        assert (stage.artifact, stage.runtime) == ("model.rknn", "rknn")
        assert stage.source_sha256 is not None
        assert parity is not None
        assert parity.origin == "simulator"
        first = bundle.read("model.rknn")
    assert first[:4] == b"RKNN"
    again = converted("v1.onnx", "rk3588", cache_dir=tmp_path / "cold", out=tmp_path / "again")
    with open_bundle(again.folder / again.index.variants[0].bundle) as bundle:
        assert bundle.read("model.rknn") == first


CONTRACT = """
version = "1.0"
task = "other"
inputs = [{ name = "x", shape = [1, 16] }, { name = "rate", shape = [], dtype = "int64", range = [16000, 16000] }]
outputs = [{ name = "y", shape = [1, 16], range = [0, 1] }]
"""


def stumbling() -> onnx.ModelProto:
    """A sampling rate times zero, and a softmax as JAX writes it: either ended the toolkit."""
    stored = {
        "w": np.random.default_rng(0).normal(size=(16, 16)).astype(np.float32),
        "zero": np.array(0, np.int64),
        "least": np.array(-np.inf, np.float32),
        "column": np.array([1, 1], np.int64),
        "axes": np.array([1], np.int64),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"], name="dense"),
        helper.make_node("Mul", ["rate", "zero"], ["nothing"], name="nothing"),
        helper.make_node("Cast", ["nothing"], ["none"], name="none", to=TensorProto.FLOAT),
        helper.make_node("Add", ["m", "none"], ["logits"], name="logits"),
        helper.make_node("ReduceMax", ["logits"], ["most"], name="most", axes=[1], keepdims=0),
        helper.make_node("Max", ["least", "most"], ["bounded"], name="bounded"),
        helper.make_node("Reshape", ["bounded", "column"], ["columns"], name="columns"),
        helper.make_node("Sub", ["logits", "columns"], ["below"], name="below"),
        helper.make_node("Exp", ["below"], ["powers"], name="powers"),
        helper.make_node("ReduceSum", ["powers", "axes"], ["whole"], name="whole", keepdims=0),
        helper.make_node("Reshape", ["whole", "column"], ["all"], name="all"),
        helper.make_node("Div", ["powers", "all"], ["y"], name="div"),
    ]
    inputs = [("x", TensorProto.FLOAT, ["batch", 16]), ("rate", TensorProto.INT64, [])]
    ends = [helper.make_tensor_value_info(*each) for each in (*inputs, ("y", TensorProto.FLOAT, ["batch", 16]))]
    made = helper.make_graph(
        nodes, "g", ends[:2], ends[2:], [numpy_helper.from_array(each, name) for name, each in stored.items()]
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_what_the_toolkit_stumbles_over_is_put_right(tmp_path):
    """An input that has one value only, and minus infinity in a softmax, are no reason for it to end."""
    onnx.save(stumbling(), tmp_path / "model.onnx")
    (tmp_path / "contract.toml").write_text(CONTRACT)
    random = np.random.default_rng(1)
    for name in ("calibration", "evaluation"):
        x = random.normal(size=(128, 16)).astype(np.float32)
        np.savez(tmp_path / f"{name}.npz", x=x, rate=np.full(128, 16000))
    made = convert(
        tmp_path / "model.onnx",
        name="stumbling",
        release="1.0.0",
        targets=["rk3588"],
        contract=tmp_path / "contract.toml",
        calibration=tmp_path / "calibration.npz",
        evaluation=tmp_path / "evaluation.npz",
        cache_dir=tmp_path / "cache",
        out=tmp_path / "release",
        gate=False,
        doctor=False,
        reason="what it computes is no matter",
    )
    [report] = made.report["variants"]
    assert report["placement"]["accelerator"] > 0
    assert {"Softmax", "exSoftmax13"} & {layer["op"] for layer in report["compiled"]["layers"]}
