"""What fits a device, and the words for what does not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.bundle.manifest import RELEASE_SCHEMA, ReleaseIndex, Requirements, RuntimeRequirement, VariantEntry
from edgesdk.errors import CODES, TargetError
from edgesdk.runtime import packages
from edgesdk.targets.matching import (
    Capabilities,
    InstalledRuntime,
    architecture_name,
    choose_variant,
    fitting_runtime,
    problems,
    version_key,
)
from edgesdk.targets.profiles import load_profile, profile_names

LITERT = InstalledRuntime(name="tflite", package="ai-edge-litert", version="2.3.0")
SMALL = InstalledRuntime(name="tflite", package="tflite-runtime", version="2.14.0")
ORT = InstalledRuntime(name="onnxruntime", package="onnxruntime", version="1.18.0")


def device(*runtimes: InstalledRuntime, **facts: Any) -> Capabilities:
    return Capabilities(**{"architecture": "aarch64", "runtimes": runtimes, **facts})


def needs(name: Any = "tflite", version: str = "2.14", package: str | None = None, **facts: Any) -> Requirements:
    runtime = RuntimeRequirement(name=name, min_version=version, package=package)
    return Requirements(**{"runtimes": (runtime,), "architectures": ("aarch64",), **facts})


@pytest.mark.parametrize(
    ("requirements", "capabilities", "codes"),
    [
        (needs(), device(SMALL), []),
        (needs(package="tflite-runtime"), device(LITERT, SMALL), []),
        (needs(), device(), ["runtime-missing"]),
        (needs(), device(ORT), ["runtime-missing"]),
        (needs(package="ai-edge-litert"), device(SMALL), ["runtime-missing"]),
        (needs(version="2.14.1"), device(SMALL), ["runtime-too-old"]),
        (needs("onnxruntime", "1.17"), device(ORT), []),
        (needs(architectures=("x86_64",)), device(SMALL), ["architecture"]),
        (needs(architectures=()), device(SMALL), []),
        (needs(), device(SMALL, architecture="arm64"), []),
        (needs(accelerator="ethos-u55-128"), device(SMALL), ["accelerator-missing"]),
        (needs(accelerator="ethos-u55-128"), device(SMALL, accelerators=("ethos-u55-128",)), []),
        (needs(memory_bytes=100), device(SMALL, memory_bytes=99), ["memory-too-small"]),
        (needs(memory_bytes=100), device(SMALL, memory_bytes=0), []),
        (needs(disk_bytes=100), device(SMALL, disk_free=1), []),
        (
            needs(architectures=("x86_64",), accelerator="x"),
            device(),
            ["runtime-missing", "architecture", "accelerator-missing"],
        ),
    ],
)
def test_every_reason_is_named(requirements: Requirements, capabilities: Capabilities, codes: list[str]) -> None:
    """All problems are found at once, each with a code of TargetError and a hint."""
    found = problems(requirements, capabilities)
    assert [problem.code for problem in found] == codes
    assert all(CODES[problem.code].family == "TargetError" and problem.hint for problem in found)


def test_the_publishers_order_of_runtimes_decides() -> None:
    """Of several installed runtimes the one that the requirements name first is chosen."""
    both = Requirements(
        runtimes=(
            RuntimeRequirement(name="tflite", min_version="2.14", package="tflite-runtime"),
            RuntimeRequirement(name="tflite", min_version="2", package="ai-edge-litert"),
        ),
        architectures=(),
    )
    assert fitting_runtime(both, device(LITERT, SMALL)) == SMALL
    assert fitting_runtime(both, device(LITERT)) == LITERT


def index(*variants: tuple[str, Requirements]) -> ReleaseIndex:
    entries = tuple(
        VariantEntry(variant=name, target="t", bundle=f"{name}.edge", size=1, sha256="0" * 64, requirements=required)
        for name, required in variants
    )
    return ReleaseIndex(
        schema=RELEASE_SCHEMA, model="m", release="1.0.0", built_at="", contract_version="1.0", variants=entries
    )


def test_the_first_variant_that_fits_is_chosen() -> None:
    """The index lists the best first; a device takes the first that it can run."""
    release = index(
        ("other", needs(architectures=("x86_64",))), ("onnx", needs("onnxruntime", "1.18")), ("lite", needs())
    )
    assert choose_variant(release, device(LITERT, ORT)).variant == "onnx"
    assert choose_variant(release, device(SMALL)).variant == "lite"


def test_no_fit_says_of_each_variant_why() -> None:
    """An operator reads what each variant would have needed."""
    release = index(("a", needs(architectures=("x86_64",))), ("b", needs("onnxruntime", "1.18")))
    with pytest.raises(TargetError) as caught:
        choose_variant(release, device(SMALL))
    assert caught.value.code == "no-fitting-variant"
    assert "a: is for x86_64, this device is aarch64" in caught.value.message
    assert "b: needs onnxruntime >= 1.18, has tflite-runtime 2.14.0" in caught.value.message


@given(st.lists(st.integers(0, 99), min_size=1, max_size=4), st.lists(st.integers(0, 99), min_size=1, max_size=4))
def test_versions_are_compared_as_numbers(left: list[int], right: list[int]) -> None:
    """2.9 is older than 2.14, and 2.14 equals 2.14.0."""
    pad = [0] * 4
    keys = [version_key(".".join(map(str, numbers))) for numbers in (left, right)]
    assert (keys[0] < keys[1]) == ((left + pad)[:4] < (right + pad)[:4])


def test_odd_versions_and_machines() -> None:
    """Suffixes count as their release; what is no version is older than everything; machines have one name each."""
    assert version_key("2.14.0rc1+cpu") == version_key("2.14") == (2, 14)
    assert version_key("unknown") == ()
    assert [architecture_name(name) for name in ("arm64", "AMD64", "armv7l")] == ["aarch64", "x86_64", "armv7l"]


def test_every_profile_is_sound() -> None:
    """A profile is named like its file, and its requirements fit a device that has just what it names."""
    for name in profile_names():
        profile = load_profile(name)
        assert profile.name == name
        for runtime in profile.runtimes:
            required = profile.requirements(runtime.name)
            for package, version in runtime.packages.items():
                installed = InstalledRuntime(name=runtime.name, package=package, version=version)
                chips = (profile.accelerator,) if profile.accelerator else ()
                for architecture in profile.architectures or ("armv7m",):
                    assert problems(required, device(installed, architecture=architecture, accelerators=chips)) == []


def test_no_agent_picks_what_it_cannot_run() -> None:
    """A device with every runtime that our agent drives refuses each export-only target, and takes the CPU's."""
    runtimes = tuple(
        InstalledRuntime(name=name, package=package, version="99.0") for name, package in packages.PACKAGES
    )
    for name in profile_names():
        profile = load_profile(name)
        compiled = [(f"{name}-{runtime.name}", profile.requirements(runtime.name)) for runtime in profile.runtimes]
        for architecture in (*profile.architectures, "aarch64", "x86_64"):
            here = device(*runtimes, architecture=architecture)
            if profile.status == "deployable" and architecture in profile.architectures:
                assert choose_variant(index(*compiled), here).variant == compiled[0][0]
                continue
            with pytest.raises(TargetError, match=name):
                choose_variant(index(*compiled), here)
            plain = needs(architectures=(architecture,))
            assert choose_variant(index(*compiled, ("cpu", plain)), here).variant == "cpu"


def test_what_no_agent_runs_says_who_does() -> None:
    """The hint for a microcontroller's variant does not tell the operator to install something."""
    compiled = load_profile("ethos-u55-128").requirements("tflite-micro")
    with pytest.raises(TargetError, match="needs tflite-micro") as caught:
        choose_variant(index(("u55", compiled)), device(SMALL))
    assert "firmware" in caught.value.hint


def test_an_unknown_profile_names_the_command_that_lists_them() -> None:
    """So does what is near to none; a path does not get out of the folder."""
    for name in ("toaster", "../bundle/manifest", ""):
        with pytest.raises(TargetError) as caught:
            load_profile(name)
        assert "edge targets list" in caught.value.hint


def test_no_fit_says_what_to_do() -> None:
    """The hint holds the cure of every problem once, so that the hub can show the fix."""
    release = index(("a", needs("onnxruntime", "1.18")), ("b", needs("onnxruntime", "1.19")))
    with pytest.raises(TargetError) as caught:
        choose_variant(release, device(SMALL))
    assert caught.value.hint == "Install edgesdk[onnx]."
