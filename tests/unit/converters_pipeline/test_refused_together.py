"""One refusal of several variants: the first in full, a line for each other, what passes, and how to get it."""

from __future__ import annotations

from pathlib import Path

import pytest
from edgesdk_converters.planning.joining import joined_plan
from edgesdk_converters.planning.plan import VariantPlan, Wanted
from edgesdk_converters.recipes import find_recipe
from edgesdk_converters.refusal import together
from edgesdk_converters.request import Prepared
from edgesdk_converters.sources import Source
from edgesdk_converters.tried import Tried

from edgesdk.contract import Contract, TensorSpec
from edgesdk.errors import ConfigError, EdgeError, ReleaseError, TargetError
from edgesdk.targets.profiles import load_profile

CONTRACT = Contract(
    version="1.0",
    task="classification",
    labels=("a", "b"),
    inputs=(TensorSpec(name="x", shape=(1, 2)),),
    outputs=(TensorSpec(name="y", shape=(1, 2)),),
)
KINDS = ("tflite", "onnx")
TARGETS = ("linux-x86_64-cpu", "ethos-u55-128", "linux-arm64-cpu")
X86, X86_ONNX, ETHOS, ARM, ARM_ONNX = (
    "linux-x86_64-cpu-tflite-int8",
    "linux-x86_64-cpu-onnx-int8",
    "ethos-u55-128-int8",
    "linux-arm64-cpu-tflite-int8",
    "linux-arm64-cpu-onnx-int8",
)


def variants(*targets: str) -> tuple[VariantPlan, ...]:
    wanted = Wanted(
        sources={kind: Source(path=Path(f"m.{kind}"), format=kind, sha256="0" * 64, size=1) for kind in KINDS},
        contract=CONTRACT,
        targets=[load_profile(name) for name in targets],
        formats=KINDS,
        recipes=[find_recipe("int8")],
        data={"calibration": Path("c.npz"), "evaluation": Path("e.npz")},
        packages=("ai-edge-litert", "tflite-runtime", "onnxruntime"),
        max_drop=0.02,
    )
    return joined_plan(wanted).variants


def gate(name: str) -> ReleaseError:
    return ReleaseError("accuracy-gate", f"{name} (LiteRT): accuracy changes by -9.00 points; allowed is 1; at layer 3")


@pytest.fixture(scope="module")
def several() -> tuple[VariantPlan, ...]:
    """Five variants of three targets."""
    found = variants(*TARGETS)
    assert [each.name for each in found] == [X86, X86_ONNX, ETHOS, ARM, ARM_ONNX]
    return found


def test_the_first_is_told_in_full_and_each_other_in_a_line(several):
    """In the order of the plan, whichever was refused first; a tool's failure gets a name and loses its words."""
    crash = ReleaseError("tool-crashed", "vela died of SIGFPE; its last words: a\nb", hint="Read.")
    told = together({ETHOS: crash, X86: gate(X86), X86_ONNX: gate(X86_ONNX)}, several)
    assert type(told) is ReleaseError
    assert told.code == "accuracy-gate"
    assert told.message.splitlines() == [
        gate(X86).message,
        f"also refused: {X86_ONNX} (LiteRT): accuracy changes by -9.00 points [accuracy-gate]",
        f"also refused: {ETHOS}: vela died of SIGFPE [tool-crashed]",
        "passes: linux-arm64-cpu",
    ]
    leave = "Leave out --target linux-x86_64-cpu --target ethos-u55-128 to release the others. Otherwise: "
    assert told.hint == f"{leave}{gate(X86).hint}"


def test_of_a_target_that_passes_in_part_the_variants_are_named(several):
    """A target is left out whole, so one of which a part is refused is not said to pass."""
    told = together({X86: gate(X86)}, several)
    assert told.message.splitlines()[-1] == f"passes: {X86_ONNX}, ethos-u55-128, linux-arm64-cpu"
    assert told.hint.startswith("Leave out --target linux-x86_64-cpu to release")


def test_a_format_in_which_every_target_passes_loses_none(several):
    """It is offered before targets are left out; where neither says what passes, the cure is the first one's own."""
    told = together({X86_ONNX: gate(X86_ONNX)}, several)
    assert told.hint.startswith("Give only --format tflite to release what passes on every target. Otherwise: ")
    two = variants("linux-x86_64-cpu", "linux-arm64-cpu")
    both = together({X86: gate(X86), ARM: gate(ARM)}, two)
    assert both.hint.startswith("Give only --format onnx to release")
    mixed = together({X86: gate(X86), ARM_ONNX: gate(ARM_ONNX)}, two)
    assert mixed.hint == gate(X86).hint
    assert mixed.message.splitlines()[-1] == f"passes: {X86_ONNX}, {ARM}"


def test_nothing_passes_and_nothing_is_said_to(several):
    """No line of what passes, and nothing to leave out."""
    told = together({each.name: gate(each.name) for each in several}, several)
    assert len(told.message.splitlines()) == len(several)
    assert "passes" not in told.message
    assert told.hint == gate(X86).hint


def test_the_refusal_of_one_alone_is_its_own():
    """A conversion of one variant says what it always said."""
    alone = TargetError("fallback-share", "for ethos-u55-128 30 % run beside it", hint="Rewrite.")
    assert together({ETHOS: alone}, variants("ethos-u55-128")) is alone


@pytest.mark.parametrize("code", ["accuracy-thin", "tool-timeout"])
def test_what_is_a_variants_own_is_taken_down_and_the_next_is_tried(code):
    """The gate's words, and tools that stumble over a file."""
    tried = Tried(prepared=Prepared.__new__(Prepared))
    error = (ConfigError if code == "accuracy-thin" else ReleaseError)(code, "why")
    with tried.trying("a"):
        raise error
    assert tried.refused == {"a": error}


@pytest.mark.parametrize(
    "error",
    [ConfigError("argument-invalid", "wrong"), ReleaseError("source-wrong", "it guesses"), KeyboardInterrupt()],
)
def test_what_concerns_the_request_ends_all(error):
    """A wrong word, a float model that guesses, and Ctrl-C."""
    tried = Tried(prepared=Prepared.__new__(Prepared))
    with pytest.raises((EdgeError, KeyboardInterrupt)), tried.trying("a"):
        raise error
    assert tried.refused == {}
