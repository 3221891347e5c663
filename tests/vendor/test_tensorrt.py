"""TensorRT-RTX's parser itself, and the ONNX file that a Jetson gets."""

from __future__ import annotations

import msgspec
import pytest

from edgesdk.bundle.archive import open_bundle
from edgesdk.errors import TargetError
from edgesdk.runtime import open_session
from edgesdk.targets.profiles import load_profile

pytestmark = pytest.mark.vendor


def test_a_release_for_a_jetson(converted):
    """Symmetric QDQ without int32 biases is shipped as it is, judged on the CPU and said so; no tool is needed."""
    made = converted("v1.onnx", "jetson-orin-gpu")
    [variant] = made.index.variants
    assert variant.variant == "jetson-orin-gpu-int8-tensorrt"
    assert variant.evaluation is not None
    assert "before compilation by NVIDIA TensorRT" in variant.evaluation.runtime
    assert not variant.evaluation.on_target
    with open_bundle(made.folder / variant.bundle) as bundle:
        [stage] = bundle.manifest.stages
        assert (stage.artifact, stage.runtime) == ("model.onnx", "onnxruntime")
        # A device without TensorRT says so, instead of running it on its CPU without a word.
        assert bundle.manifest.options["runtime"]["providers"][0] == "TensorrtExecutionProvider"
        bundle.extract(made.folder / "unpacked")
        with pytest.raises(TargetError, match="needs onnxruntime-gpu"):
            open_session(made.folder / "unpacked", bundle.manifest)


def test_the_parser_takes_what_we_make_and_refuses_the_default(converted, tool, tmp_path, call):
    """A profile asks the parser: it takes int8-tensorrt whole, and not a file with uint8 zero points."""
    from edgesdk_converters.backends.tensorrt import compile_model  # noqa: PLC0415 - one use

    tool("tensorrt")
    board = tmp_path / "orin.toml"
    board.write_text(
        'base = "jetson-orin-gpu"\nname = "our-orin"\ncompiler = { options = { parser = "tensorrt-rtx" } }\n'
    )
    made = converted("v1.onnx", str(board))
    [report] = made.report["variants"]
    assert report["compiled"]["whole"]
    assert report["placement"]["cpu"] == 0
    assert load_profile(str(board)).accelerator == "jetson-orin-gpu"
    plain = converted("v1.onnx", "linux-x86_64-cpu", formats=("onnx",), out=tmp_path / "cpu")
    with open_bundle(plain.folder / plain.index.variants[0].bundle) as bundle:
        (tmp_path / "cpu.onnx").write_bytes(bundle.read("model.onnx"))
    result = compile_model(call({"artifact": tmp_path / "cpu.onnx"}, options={}))
    assert msgspec.convert(result["placement"]["cpu"], int) > 0
    assert not result["whole"]
