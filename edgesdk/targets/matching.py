"""Does it fit? What a bundle requires against what a device has, before anything is downloaded. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

import msgspec

from edgesdk.bundle.manifest import ReleaseIndex, Requirements, RuntimeName, RuntimeRequirement, VariantEntry
from edgesdk.errors import TargetError

_PROVIDERS: dict[RuntimeName, str] = {
    "tflite": "Install edgesdk[litert] or edgesdk[tflite].",
    "onnxruntime": "Install edgesdk[onnx].",
    "tflite-micro": "It is for firmware: `edge bundle extract` gives its artifact.",
    "rknn": "It is for the vendor's runtime: `edge bundle extract` gives its artifact.",
}
_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64", "armv8l": "armv7l", "armhf": "armv7l"}


class InstalledRuntime(msgspec.Struct, frozen=True, kw_only=True):
    """A runtime on a device: ``tflite`` by the package ``ai-edge-litert`` 2.3.0, for example.

    Attributes:
        max_opset: The newest ONNX operator set that this version reads at least; None: not known, not judged.
        max_ir: The same for the IR version.
        providers: What the package was built to run on; whether the hardware is there is another question.
    """

    name: RuntimeName
    package: str
    version: str
    max_opset: int | None = None
    max_ir: int | None = None
    providers: tuple[str, ...] = ("cpu",)


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    """What a device has: its capability manifest, told in its presence and matched before anything is downloaded.

    Attributes:
        architecture: ``x86_64``, ``aarch64`` or ``armv7l``: what runs the Python, not what the chip could do.
        runtimes: Installed runtimes.
        accelerators: Names of accelerators that were seen to work.
        nodes: Device nodes of accelerators that exist; told to operators, not judged.
        memory_bytes: Memory of the machine (or of the agent's memory group); 0: not known, not judged.
        disk_free: Free bytes of the store. It changes, so the store's budget judges it at download, not this module.
    """

    architecture: str
    runtimes: tuple[InstalledRuntime, ...] = ()
    accelerators: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    memory_bytes: int = 0
    disk_free: int = 0


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """One reason why a variant does not fit; `code` is a code of `TargetError`."""

    code: str
    message: str
    hint: str


def architecture_name(machine: str) -> str:
    """Return our name of what `platform.machine()` says (``arm64`` is ``aarch64``)."""
    return _ARCHITECTURES.get(machine.lower(), machine.lower())


def version_key(version: str) -> tuple[int, ...]:
    """Return the leading numbers of a version, without trailing zeros: ``"2.14.0rc1"`` gives ``(2, 14)``.

    A pre-release counts as its release.
    """
    match = re.match(r"\d+(?:\.\d+)*", version)
    numbers = [int(part) for part in match.group().split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def problems(requirements: Requirements, capabilities: Capabilities) -> list[Problem]:
    """Return every reason why a device cannot run it; an empty list means that it fits."""
    return [
        *_runtime_problems(requirements, capabilities),
        *_machine_problems(requirements, capabilities),
    ]


def fitting_runtime(requirements: Requirements, capabilities: Capabilities) -> InstalledRuntime | None:
    """Return the first installed runtime that `requirements` allow, in their order of preference."""
    for wanted in requirements.runtimes:
        for installed in capabilities.runtimes:
            if _new_enough(installed, wanted) and _reads(installed, requirements):
                return installed
    return None


def choose_variant(index: ReleaseIndex, capabilities: Capabilities) -> VariantEntry:
    """Return the first variant of the release that fits; the index lists the best first.

    Raises:
        TargetError: ``no-fitting-variant``; the message says of every variant why it does not fit.
    """
    reasons: list[str] = []
    hints: dict[str, None] = {}
    for variant in index.variants:
        found = problems(variant.requirements, capabilities)
        if not found:
            return variant
        reasons.append(f"{variant.variant}: " + ", ".join(problem.message for problem in found))
        hints.update(dict.fromkeys(problem.hint for problem in found))
    release = f"{index.model} {index.release}"
    raise TargetError(
        "no-fitting-variant",
        f"no variant of {release} fits this device ({'; '.join(reasons)})",
        hint=" Or: ".join(hints) or None,
    )


def runtime_words(need: RuntimeRequirement) -> str:
    """Return a required runtime for people; version 0 is any."""
    name = need.package or need.name
    return name if need.min_version == "0" else f"{name} >= {need.min_version}"


def _provides(installed: InstalledRuntime, wanted: RuntimeRequirement) -> bool:
    return installed.name == wanted.name and wanted.package in {None, installed.package}


def _new_enough(installed: InstalledRuntime, wanted: RuntimeRequirement) -> bool:
    return _provides(installed, wanted) and version_key(installed.version) >= version_key(wanted.min_version)


def _reads(installed: InstalledRuntime, requirements: Requirements) -> bool:
    """Whether the artifact's operator set and IR version are within what the runtime reads."""
    pairs = ((requirements.opset, installed.max_opset), (requirements.ir_version, installed.max_ir))
    return all(needed is None or ceiling is None or needed <= ceiling for needed, ceiling in pairs)


def _runtime_problems(requirements: Requirements, capabilities: Capabilities) -> Iterator[Problem]:
    if not requirements.runtimes or fitting_runtime(requirements, capabilities) is not None:
        return
    for installed in capabilities.runtimes:
        if any(_new_enough(installed, need) for need in requirements.runtimes):
            yield _beyond_ceiling(installed, requirements)
            return
    wanted = " or ".join(runtime_words(need) for need in requirements.runtimes)
    near = [have for have in capabilities.runtimes if any(_provides(have, need) for need in requirements.runtimes)]
    if near:
        have = ", ".join(f"{runtime.package} {runtime.version}" for runtime in near)
        message = f"needs {wanted}, has {have}"
        yield Problem(code="runtime-too-old", message=message, hint=f"Update {near[0].package} on the device.")
        return
    have = ", ".join(f"{runtime.package} {runtime.version}" for runtime in capabilities.runtimes) or "no runtime"
    hint = " Or: ".join(dict.fromkeys(_PROVIDERS[need.name] for need in requirements.runtimes))
    yield Problem(code="runtime-missing", message=f"needs {wanted}, has {have}", hint=hint)


def _beyond_ceiling(installed: InstalledRuntime, requirements: Requirements) -> Problem:
    message = (
        f"needs ONNX opset {requirements.opset} and IR {requirements.ir_version},"
        f" {installed.package} {installed.version} reads {installed.max_opset} and {installed.max_ir}"
    )
    hint = f"Update {installed.package} on the device, or export with opset {installed.max_opset}."
    return Problem(code="opset-ceiling", message=message, hint=hint)


def _machine_problems(requirements: Requirements, capabilities: Capabilities) -> Iterator[Problem]:
    architecture = architecture_name(capabilities.architecture)
    if requirements.architectures and architecture not in requirements.architectures:
        wanted = " or ".join(requirements.architectures)
        hint = f"Convert for a target with the architecture {architecture}."
        yield Problem(code="architecture", message=f"is for {wanted}, this device is {architecture}", hint=hint)
    accelerator = requirements.accelerator
    if accelerator is not None and accelerator not in capabilities.accelerators:
        hint = "Convert for the CPU, or install the accelerator's driver."
        yield Problem(code="accelerator-missing", message=f"needs the accelerator {accelerator}", hint=hint)
    if 0 < capabilities.memory_bytes < requirements.memory_bytes:
        message = f"needs {requirements.memory_bytes} bytes of memory, has {capabilities.memory_bytes}"
        yield Problem(code="memory-too-small", message=message, hint="Use a smaller model or variant.")
