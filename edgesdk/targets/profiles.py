"""Hardware profiles: what a target is, as TOML files beside this module.

A profile says what a converter may make for a target and what a bundle for it requires. `status` says honestly how far
we got: ``deployable`` targets are run by the agent, ``export-only`` ones are built but deployed by other means,
``not-measured`` ones are written from data sheets.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from edgesdk.bundle.manifest import Requirements, RuntimeName, RuntimeRequirement
from edgesdk.errors import TargetError

PROFILE_SCHEMA = "edge.target/1"

Precision = Literal["float32", "float16", "int8", "int8-dynamic", "int16x8"]


class ProfileRuntime(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A runtime that runs on the target.

    Attributes:
        name: The runtime.
        packages: PyPI packages that provide it, with the oldest version that we check against.
        precisions: What it runs well there, best first.
        max_opset: For ONNX: the newest operator set of the default domain that the oldest version knows.
        max_ir: For ONNX: the newest IR version that the oldest version reads.
    """

    name: RuntimeName
    packages: dict[str, Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+){0,3}$(?!\n)")]]
    precisions: tuple[Precision, ...]
    max_opset: int | None = None
    max_ir: int | None = None


class Profile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One target.

    Attributes:
        schema: ``edge.target/1``.
        name: For example ``linux-arm64-cpu``.
        title: One line for people.
        status: How far it was tested; see the module.
        architectures: Architectures of Python on such a device.
        accelerator: The accelerator that a bundle for it needs; None: the CPU.
        runtimes: What runs artifacts there, preferred first.
        examples: Devices of this kind.
        notes: What a person should know.
    """

    schema: Literal["edge.target/1"]
    name: str
    title: str
    status: Literal["deployable", "export-only", "not-measured"]
    architectures: tuple[str, ...]
    runtimes: tuple[ProfileRuntime, ...]
    accelerator: str | None = None
    examples: tuple[str, ...] = ()
    notes: str = ""

    def runtime(self, name: RuntimeName) -> ProfileRuntime:
        """Return the runtime of that name.

        Raises:
            TargetError: ``runtime-missing`` if the target has none.
        """
        for runtime in self.runtimes:
            if runtime.name == name:
                return runtime
        known = ", ".join(runtime.name for runtime in self.runtimes)
        raise TargetError("runtime-missing", f"the target {self.name} runs {known}, not {name}")

    def requirements(self, name: RuntimeName, *, memory_bytes: int = 0, disk_bytes: int = 0) -> Requirements:
        """Return what a bundle for this target and runtime requires of a device.

        Raises:
            TargetError: ``runtime-missing`` if the target has no such runtime.
        """
        return Requirements(
            runtimes=tuple(
                RuntimeRequirement(name=name, package=package, min_version=version)
                for package, version in self.runtime(name).packages.items()
            ),
            architectures=self.architectures,
            accelerator=self.accelerator,
            memory_bytes=memory_bytes,
            disk_bytes=disk_bytes,
        )


def profile_names() -> tuple[str, ...]:
    """Return the names of all profiles, sorted."""
    names = (entry.name for entry in files(__package__).iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def load_profile(name: str) -> Profile:
    """Return the profile of that name.

    Raises:
        TargetError: ``target-unknown``; the hint names the known ones.
    """
    if name not in profile_names():
        known = ", ".join(profile_names())
        raise TargetError("target-unknown", f"no target is named {name!r}", hint=f"Use one of: {known}.")
    return msgspec.toml.decode((files(__package__) / f"{name}.toml").read_bytes(), type=Profile)
