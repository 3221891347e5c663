"""Arm Vela itself: what it compiles, where it crashes, and what it leaves out without a word."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from edgesdk_converters.backends import BACKENDS
from edgesdk_converters.backends.vela import compile_model
from edgesdk_converters.lint.read import read_graph

from edgesdk.bundle.archive import open_bundle
from edgesdk.bundle.release import load_release
from edgesdk.errors import ReleaseError, TargetError
from edgesdk.runtime import installed
from edgesdk.targets.matching import Capabilities, choose_variant
from edgesdk.targets.profiles import load_profile, profile_names

pytestmark = pytest.mark.vendor
SMALL = Path(__file__).parents[1] / "integration" / "converters_backends" / "conftest.py"
VELA_TARGETS = [name for name in profile_names() if name.startswith("ethos")]


@pytest.fixture(scope="module", autouse=True)
def python(tool):
    """Every test here needs Vela."""
    return tool("vela")


@pytest.fixture
def tflite(tmp_path):
    """Make the small files of the tests with fakes."""
    spec = importlib.util.spec_from_file_location("small_tflite", SMALL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return lambda kind: module.make_tflite(tmp_path / f"{kind}.tflite", kind)


def asked(call, model: Path, target: str, **memory: int):
    options = BACKENDS["vela"].params(load_profile(target))
    return call({"artifact": model}, options=options, target=target, memory=memory)


@pytest.mark.parametrize("target", VELA_TARGETS)
def test_every_profile_compiles(call, tflite, target):
    """Each profile's three configurations are known to Vela, and its own custom operator comes out."""
    made = asked(call, tflite("int8"), target)
    result = compile_model(made)
    assert (made.out / "model_vela.tflite").stat().st_size > 500
    placement = result["placement"]
    # Counted from the file: the convolution went to the NPU, DEQUANTIZE did not.
    assert (placement["accelerator"], placement["cpu"], placement["macs_share"]) == (1, 1, 1.0)
    assert [(each["name"], each["op"]) for each in placement["fallback"]] == [("scores", "DEQUANTIZE")]
    assert "Unsupported opType" in placement["fallback"][0]["why"]
    assert result["estimate"]["cycles"] > 0
    assert result["estimate"]["macs"] >= 8 * 8 * 8 * 3 * 3 * 4
    assert any(layer["on"] == "NPU" and layer["macs"] for layer in result["layers"])


def test_float_goes_nowhere_with_success(call, tflite):
    """Vela ends with success on a float file, with nothing on the NPU: an error, its own count attached."""
    with pytest.raises(
        ReleaseError, match=r"none of 1 operators on the NPU; .*100\.0%.*unsupported DataType"
    ) as caught:
        compile_model(asked(call, tflite("float32"), "ethos-u55-128"))
    assert caught.value.code == "tool-did-nothing"


def test_int4_weights_end_in_a_typed_error(call, tflite):
    """They have killed it with SIGFPE; whatever it does now, no file of it is believed."""
    made = asked(call, tflite("int4"), "ethos-u55-128")
    with pytest.raises(ReleaseError) as caught:
        compile_model(made)
    assert caught.value.code in {"tool-crashed", "tool-did-nothing"}
    assert not list(made.out.iterdir())


def test_a_model_that_does_not_fit_the_boards_memory_is_refused(call, tflite):
    """The profile's memory is compared with what Vela allocated."""
    with pytest.raises(TargetError, match=r"has 64 bytes of sram, Vela needs") as caught:
        compile_model(asked(call, tflite("int8"), "ethos-u55-128", sram_bytes=64))
    assert caught.value.code == "memory-too-small"


def test_the_same_input_gives_the_same_bytes(tflite, tmp_path):
    """Compiling again changes nothing."""
    from edgesdk_converters.running.isolation import Call  # noqa: PLC0415 - one use

    found = set()
    for turn in ("a", "b"):
        out = tmp_path / turn / "out"
        out.mkdir(parents=True)
        options = BACKENDS["vela"].params(load_profile("ethos-u85-256"))
        params = {"options": options, "target": "ethos-u85-256"}
        compile_model(Call(inputs={"artifact": tflite("int8")}, params=params, out=out, progress=lambda *_: None))
        found.add((out / "model_vela.tflite").read_bytes())
    assert len(found) == 1


def test_a_release_for_a_microcontroller(converted):
    """`edge convert --target ethos-u55-128`: the compiled file is shipped, judged before compilation, and said so."""
    made = converted("v1.tflite", "ethos-u55-128", "linux-x86_64-cpu", formats=("tflite",))
    load_release(made.folder)
    compiled, plain = made.index.variants
    with open_bundle(made.folder / compiled.bundle) as bundle, open_bundle(made.folder / plain.bundle) as portable:
        [stage], parity = bundle.manifest.stages, bundle.manifest.golden.parity
        (made.folder / "portable.tflite").write_bytes(portable.read("model.tflite"))
        assert (stage.artifact, stage.runtime) == ("model_vela.tflite", "tflite-micro")
        source = next(file for file in portable.manifest.files if file.role == "artifact")
        assert stage.source_sha256 == source.sha256
        assert b"ethos-u" in bundle.read("model_vela.tflite")
        assert parity is not None
        assert parity.origin == "precompiled-source"
        assert stage.bindings.inputs[0].scale == portable.manifest.stages[0].bindings.inputs[0].scale
        assert bundle.manifest.lineage is not None
        assert bundle.manifest.lineage.tools["ethos-u-vela"] == "5.2.0"
    assert compiled.evaluation is not None
    assert not compiled.evaluation.on_target
    assert "before compilation by Arm Vela" in compiled.evaluation.runtime
    report = made.report["variants"][0]
    # Operators of the portable file, not what Vela lowers them to: it makes about thirty of one softmax.
    operators = len(read_graph(made.folder / "portable.tflite").nodes)
    assert report["placement"]["accelerator"] + report["placement"]["cpu"] == operators
    assert report["placement"]["accelerator"] > operators / 2
    # A Linux device of this release takes the CPU's variant, never the microcontroller's.
    here = Capabilities(architecture="x86_64", runtimes=installed())
    assert choose_variant(made.index, here).variant == plain.variant


def test_a_float_recipe_is_refused_at_once(converted):
    """All of the example's MACs go to the NPU, so nothing is allowed beside it; a float recipe is refused at once."""
    assert converted("v1.tflite", "ethos-u55-128", fail_on_fallback=0.0).index.variants
    with pytest.raises(TargetError, match="takes nothing of this for ethos-u55-128: float leaves activations"):
        converted("v1.tflite", "ethos-u55-128", recipes=("float",), force=True)
