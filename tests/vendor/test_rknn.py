"""rknn-toolkit2 itself: quantizes and builds from float ONNX, and answers in its simulator."""

from __future__ import annotations

import pytest

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
