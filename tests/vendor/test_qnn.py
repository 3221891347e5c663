"""onnxruntime-qnn itself: a context binary made, proved whole, and run on the HTP back end on this machine's CPU."""

from __future__ import annotations

import onnx
import pytest
from edgesdk_converters.backends import BACKENDS
from edgesdk_converters.backends.qnn import compile_model
from onnx import TensorProto, helper

from edgesdk.bundle.archive import open_bundle
from edgesdk.bundle.release import load_release
from edgesdk.errors import TargetError

pytestmark = pytest.mark.vendor


@pytest.fixture(scope="module", autouse=True)
def python(tool):
    """Every test here needs onnxruntime-qnn."""
    return tool("qnn")


def test_a_release_for_a_qualcomm_npu(converted):
    """All operators go to the NPU, and the context binary itself is judged, on the HTP back end."""
    made = converted("v1.onnx", "qualcomm-htp-v75")
    load_release(made.folder)
    [variant] = made.index.variants
    [report] = made.report["variants"]
    assert (report["placement"]["cpu"], report["placement"]["macs_share"]) == (0, 1.0)
    assert report["compiled"]["whole"]
    assert variant.evaluation is not None
    assert variant.evaluation.runtime.startswith("onnxruntime-qnn 2.7.0 (HTP back end on a CPU)")
    assert abs(variant.evaluation.difference) < 0.05
    with open_bundle(made.folder / variant.bundle) as bundle:
        [stage], parity = bundle.manifest.stages, bundle.manifest.golden.parity
        assert (stage.artifact, stage.runtime) == ("model_ctx.onnx", "onnxruntime")
        assert b"EPContext" in bundle.read(stage.artifact)
        assert stage.source_sha256 is not None
        assert parity is not None
        assert parity.origin == "artifact"
    assert variant.requirements.accelerator == "qualcomm-htp-v75"


def test_half_precision_runs_whole_on_a_newer_hexagon(converted):
    """Nothing is quantized, all of it goes to the NPU, and the answers are float's but for half rounding."""
    made = converted("v1.onnx", "qualcomm-htp", recipes=["float16"])
    [variant], [report] = made.index.variants, made.report["variants"]
    assert (report["placement"]["cpu"], report["compiled"]["whole"]) == (0, True)
    assert variant.evaluation is not None
    parity = variant.evaluation.details["parity"]
    assert all(0 < each["max_abs"] < 0.01 for each in parity.values())


def test_an_operator_that_the_npu_lacks_is_told_and_refused_if_asked(call, tmp_path):
    """The runtime may not fall back without a word: Hardmax is named, and the rest still compiles."""
    path = tmp_path / "model.onnx"
    one = helper.make_tensor("s", TensorProto.FLOAT, [], [0.05])
    zero = helper.make_tensor("z", TensorProto.UINT8, [], [128])
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        helper.make_node("Relu", ["xd"], ["r"], name="relu"),
        helper.make_node("QuantizeLinear", ["r", "s", "z"], ["rq"]),
        helper.make_node("DequantizeLinear", ["rq", "s", "z"], ["rd"]),
        helper.make_node("Hardmax", ["rd"], ["y"], name="hard", axis=-1),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [one, zero])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    asked = call({"artifact": path}, options={"htp_arch": 73})
    result = compile_model(asked)
    assert not result["whole"]
    assert [each["op"] for each in result["placement"]["fallback"]] == ["Hardmax"]
    assert result["placement"]["accelerator"] >= 1
    assert (asked.out / BACKENDS["qnn"].file).is_file()


def test_signed_symmetric_activations_are_refused(converted):
    """They gave a softmax wrong by 1.0 on the HTP: no recipe with them is compiled for it."""
    with pytest.raises(TargetError, match="not quantized by Qualcomm's rules"):
        converted("v1.onnx", "qualcomm-htp", recipes=("int8-per-channel-fast",))
