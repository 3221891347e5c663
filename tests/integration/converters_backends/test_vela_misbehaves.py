"""A Vela that crashes, hangs or does nothing (a fake of `edgesdk.testing`) is a typed error with its own words."""

from __future__ import annotations

import pytest
from edgesdk_converters.backends import BACKENDS, find_backend
from edgesdk_converters.backends.vela import compile_model

from edgesdk.errors import ConfigError, ReleaseError, TargetError
from edgesdk.targets.profiles import load_profile

VELA = BACKENDS["vela"]
OPTIONS = VELA.params(load_profile("ethos-u55-128"))
WARNING = """
Warning (supported operators) operator: CONV_2D, ofm: 'features'
Reason: Operation has tensor with unsupported DataType Float32 (features)
Feature-map dataTypes must be one of {"INT16", "INT8"}

CPU operators = 1 (100.0%)
NPU operators = 0 (0.0%)
"""


@pytest.mark.parametrize(
    ("deed", "code", "words"),
    [
        ("crash", "tool-crashed", "ethosu.vela died of SIGFPE .*its last words: vela: I begin"),
        ("fail", "tool-crashed", "ethosu.vela failed with status 3; its last words: vela: I begin"),
        ("hang", "tool-timeout", "ethosu.vela did not end within 0.9 s; its last words: vela: I begin"),
        ("succeed", "tool-did-nothing", "did not write model_vela.tflite; its last words: vela: I begin"),
    ],
)
def test_what_became_of_it_and_what_it_said(stand_in, call, tflite, deed, code, words):  # noqa: PLR0917 - fixtures
    """SIGFPE (int4 weights do that to it), a failure, a hang, and success without a file."""
    stand_in(VELA.environment, deed, says="vela: I begin")
    asked = call(
        {"artifact": tflite("int8")}, timeout_s=1 if deed == "hang" else 60, options=OPTIONS, target="ethos-u55-128"
    )
    with pytest.raises(ReleaseError, match=words) as caught:
        compile_model(asked)
    assert caught.value.code == code
    assert not list(asked.out.iterdir())


def test_success_with_nothing_on_the_npu_is_an_error(stand_in, call, tflite):
    """What comes out is what went in: Vela says 0 %, and ends with success; so do its own words end up in the error."""
    model = tflite("float32")
    stand_in(VELA.environment, "succeed", says=WARNING, writes={"out/model_vela.tflite": model.read_bytes()})
    with pytest.raises(
        ReleaseError, match=r"none of 1 operators on the NPU; .*100\.0%.*Float32 \(features\)"
    ) as caught:
        compile_model(call({"artifact": model}, options=OPTIONS, target="ethos-u55-128"))
    assert caught.value.code == "tool-did-nothing"


def test_a_profile_without_velas_options_is_refused_before_it_runs(tmp_path):
    """Vela's defaults are a U55's: a profile that leaves one out would be compiled for another chip."""
    file = tmp_path / "board.toml"
    file.write_text(
        'schema = "edge.target/1"\nname = "board"\ntitle = "b"\nstatus = "export-only"\narchitectures = []\n'
        'compiler = { name = "vela", options = { accelerator_config = "ethos-u55-128" } }\n'
        'runtimes = [{ name = "tflite-micro", packages = { tflite-micro = "0" }, precisions = ["int8"] }]\n'
    )
    with pytest.raises(ConfigError, match=r"board: compiler\.options lacks system_config, memory_mode"):
        find_backend(load_profile(str(file)))


@pytest.mark.parametrize(
    ("recipe", "words"),
    [("float", "activations in float"), ("float16", "activations in float"), ("int8-dynamic", "activations in float")],
)
def test_recipes_that_leave_floats_are_refused(recipe, words):
    """Float, weight-only and dynamic-range files compile with success and with nothing on the NPU."""
    from edgesdk_converters.recipes import find_recipe  # noqa: PLC0415 - one use

    refusal = VELA.refusal(find_recipe(recipe))
    assert refusal is not None
    assert words in refusal
    assert all(VELA.refusal(find_recipe(name)) is None for name in VELA.recipes)


def test_a_share_below_what_was_asked_is_refused():
    """The message names the share, the limit, and the operators with the tool's reasons."""
    from edgesdk_converters.backends.placement import Fallback, Placement  # noqa: PLC0415 - one use

    names = [Fallback(name=f"n{number}", op="POW", why="Unsupported opType") for number in range(5)]
    placement = Placement(accelerator=5, cpu=5, fallback=tuple(names), macs_share=0.8)
    placement.check(0.25, variant="v")
    with pytest.raises(TargetError, match=r"v: 20\.0% of its macs .* at most 5\.0%.*POW n0 \(Unsupported.*and 2 more"):
        placement.check(0.05, variant="v")
    with pytest.raises(TargetError, match=r"50\.0% of its"):
        placement.check(0.25, variant="v", by="ops")
    assert Placement(accelerator=1, cpu=1).share_off() == 0.5
