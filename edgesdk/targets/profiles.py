"""Hardware profiles: what a target is, as TOML files beside this module and in folders of the user.

A profile says what a converter may make for a target and what a bundle for it requires. `status` says honestly how far
we got: ``deployable`` targets are run by the agent, ``export-only`` ones are built but deployed by other means,
``not-measured`` ones are written from data sheets.

One file may describe a family: its `members` share everything that they do not say themselves. A file of a user may
take an existing profile as its `base` and say what is different.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edgesdk.bundle.manifest import Requirements, RuntimeName, RuntimeRequirement
from edgesdk.errors import ConfigError, TargetError
from edgesdk.near import NEAR, natural, nearest

PROFILE_SCHEMA = "edge.target/1"
TARGETS_VARIABLE = "EDGESDK_TARGETS"
LEAST_LETTERS = 3
"""Of a word that is looked for in what profiles say."""

Precision = Literal["float32", "float16", "int8", "int8-dynamic", "int16x8"]
CompilerName = Literal["vela", "rknn", "qnn", "tensorrt"]
TargetName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.+-]{0,63}$(?!\n)")]


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Common behaviour of the records of a profile."""


class ProfileRuntime(_Record, frozen=True, kw_only=True):
    """A runtime that runs on the target.

    Attributes:
        name: The runtime.
        packages: Packages that provide it, with the oldest version that we check against; ``0``: any version.
        precisions: What it runs well there, best first.
        max_opset: For ONNX: the newest operator set of the default domain that the oldest version knows.
        max_ir: For ONNX: the newest IR version that the oldest version reads.
        min_opset: For ONNX: the oldest operator set that it takes.
    """

    name: RuntimeName
    packages: dict[str, Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+){0,3}$(?!\n)")]]
    precisions: tuple[Precision, ...]
    max_opset: int | None = None
    max_ir: int | None = None
    min_opset: int | None = None


class Compiler(_Record, frozen=True, kw_only=True):
    """The vendor's tool that makes the artifact, and its options."""

    name: CompilerName
    options: dict[str, str | int | float | bool] = {}


class Constraints(_Record, frozen=True, kw_only=True):
    """What the accelerator takes; what it does not take runs on the CPU, or not at all.

    Attributes:
        activations: Types of values between operators, best first; empty: no constraint.
        weights: Types of weights.
        static_shapes: Whether every dimension must be fixed.
        max_rank: Most dimensions of a tensor.
        max_dimension: Largest size of a dimension.
        batch_one: Whether the first dimension must be 1.
        operators: Constraints of single operators, as sentences.
    """

    activations: tuple[str, ...] = ()
    weights: tuple[str, ...] = ()
    static_shapes: bool = False
    max_rank: int | None = None
    max_dimension: int | None = None
    batch_one: bool = False
    operators: tuple[str, ...] = ()


class Memory(_Record, frozen=True, kw_only=True):
    """What a model may take on the target, in bytes; None: not known, not judged.

    Attributes:
        sram_bytes: Fast memory for activations.
        storage_bytes: Where weights and commands lie.
    """

    sram_bytes: int | None = None
    storage_bytes: int | None = None


class Profile(_Record, frozen=True, kw_only=True):
    """One target.

    Attributes:
        schema: ``edge.target/1``.
        name: For example ``linux-arm64-cpu``.
        title: One line for people.
        status: How far it was tested; see the module.
        architectures: Architectures of Python on such a device; empty: it has none (a microcontroller), or any.
        accelerator: The accelerator that a bundle for it needs; None: the CPU.
        runtimes: What runs artifacts there, preferred first.
        compiler: What makes the artifact from a portable one; None: the portable one is the artifact.
        constraints: What the accelerator takes.
        memory: What a model may take.
        examples: Devices of this kind.
        notes: What a person should know.
    """

    schema: Literal["edge.target/1"]
    name: TargetName
    title: str
    status: Literal["deployable", "export-only", "not-measured"]
    architectures: tuple[str, ...]
    runtimes: Annotated[tuple[ProfileRuntime, ...], Meta(min_length=1)]
    accelerator: str | None = None
    compiler: Compiler | None = None
    constraints: Constraints = Constraints()
    memory: Memory = Memory()
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
    """Return the names of all profiles, ours and the user's, sorted.

    Raises:
        ConfigError: ``config-invalid`` for a file of the user that is no profile.
    """
    return tuple(sorted({name for _, members in _documents() for name in members}))


def load_profile(name: str) -> Profile:
    """Return the profile of that name, or the one in the file `name` if that ends with ``.toml``.

    Raises:
        TargetError: ``target-unknown``; the hint names those that may have been meant.
        ConfigError: ``file-missing`` or ``config-invalid`` for a file of the user.
    """
    if name.endswith(".toml"):
        return _only(Path(name))
    found = _find(name)
    if found is None:
        known = profile_names()
        meant = nearest(name, known) or _mentioning(name)
        asked = f"Did you mean {' or '.join(meant)}? " if meant else ""
        hint = f"{asked}`edge targets list` shows all {len(known)}."
        raise TargetError("target-unknown", f"no target is named {name!r}", hint=hint)
    return _profile(*found)


def _mentioning(word: str) -> list[str]:
    """Return a few profiles that speak of a word, such as ``raspberry``: in their names, titles or examples."""
    sought = word.casefold()
    texts = {
        name: " ".join([name, str(said.get("title")), *map(str, said.get("examples", ()))])
        for _, members in _documents()
        for name, said in members.items()
    }
    found = [name for name, text in texts.items() if len(sought) >= LEAST_LETTERS and sought in text.casefold()]
    return sorted(found, key=natural)[:NEAR]


def user_folders() -> tuple[Path, ...]:
    """Return where a user's profiles are looked for: the folders of ``$EDGESDK_TARGETS``, then the user's own."""
    given = [Path(part) for part in os.environ.get(TARGETS_VARIABLE, "").split(os.pathsep) if part]
    config = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config")
    return (*given, config / "edgesdk" / "targets")


def _find(name: str) -> tuple[str, dict[str, Any]] | None:
    """Return where a profile stands and what it says; ours come first, so a user's cannot stand in for one."""
    return next(((where, members[name]) for where, members in _documents() if name in members), None)


def _documents() -> Iterator[tuple[str, dict[str, dict[str, Any]]]]:
    """Give every file's profiles by name."""
    for entry in sorted(files(__package__).iterdir(), key=lambda each: each.name):
        if entry.name.endswith(".toml"):
            yield entry.name, _members(tomllib.loads(entry.read_text()), entry.name)
    for folder in user_folders():
        for path in sorted(folder.glob("*.toml")):
            yield str(path), _read(path)


def _only(path: Path) -> Profile:
    members = _read(path)
    if len(members) != 1:
        raise ConfigError("config-invalid", f"{path} holds {len(members)} profiles: {', '.join(members)}; expected one")
    [document] = members.values()
    return _profile(str(path), document)


def _read(path: Path) -> dict[str, dict[str, Any]]:
    try:
        return _members(tomllib.loads(path.read_text()), str(path))
    except FileNotFoundError:
        raise ConfigError("file-missing", f"there is no profile {path}") from None
    except (OSError, ValueError) as error:
        raise ConfigError("config-invalid", f"{path} is no TOML file: {error}") from error


def _members(document: dict[str, Any], where: str) -> dict[str, dict[str, Any]]:
    """Return a file's profiles by name: those of a family, or the one that it is."""
    family = document.pop("members", None)
    each = [document] if family is None else [_merged(document, member) for member in family]
    if not all(isinstance(member.get("name"), str) for member in each):
        raise ConfigError("config-invalid", f"{where}: a profile without a name")
    return {member["name"]: member for member in each}


def _profile(where: str, document: dict[str, Any]) -> Profile:
    """Check what a file says.

    Raises:
        ConfigError: ``config-invalid`` naming the field.
    """
    said = _resolved(where, document, ())
    try:
        return msgspec.convert(said, Profile)
    except msgspec.ValidationError as error:
        raise ConfigError("config-invalid", f"{where} is no profile of a target: {error}") from error


def _resolved(where: str, document: dict[str, Any], seen: tuple[str, ...]) -> dict[str, Any]:
    """Return what a profile and its bases say; where a tool compiles for a target, that is the accelerator's name."""
    said, base = dict(document), document.get("base")
    if base is not None:
        del said["base"]
        found = _find(base) if isinstance(base, str) and base not in (*seen, said["name"]) else None
        if found is None:
            raise ConfigError("config-invalid", f"{where}: the base {base!r} is no other profile")
        said = _merged(_resolved(found[0], found[1], (*seen, said["name"])), said)
    return {"accelerator": said["name"], **said} if "compiler" in said else said


def _merged(start: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return `start` with the changes; tables within it are merged, all else is replaced."""
    merged = dict(start)
    for key, value in changes.items():
        before = merged.get(key)
        merged[key] = _merged(before, value) if isinstance(before, dict) and isinstance(value, dict) else value
    return merged
