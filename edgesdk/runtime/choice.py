"""Which installed package runs an artifact, and the backend that touches it."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from edgesdk.bundle.manifest import Requirements, RuntimeName
from edgesdk.errors import TargetError
from edgesdk.runtime.backend import Backend, RuntimeOptions
from edgesdk.runtime.packages import installed
from edgesdk.targets.matching import Capabilities, InstalledRuntime, fitting_runtime, problems

TFLITE_VARIABLE = "EDGESDK_TFLITE"


def choose_package(runtime: RuntimeName, package: str | None, requirements: Requirements | None) -> InstalledRuntime:
    """Return the installed package that is to run an artifact.

    The package that is asked for comes first (argument, then for tflite the environment's ``EDGESDK_TFLITE``), else
    the first installed one that satisfies `requirements`.

    Raises:
        TargetError: ``runtime-missing`` or ``runtime-too-old``.
    """
    asked = package or (os.environ.get(TFLITE_VARIABLE) if runtime == "tflite" else None)
    candidates = tuple(have for have in installed() if have.name == runtime and asked in {None, have.package})
    if asked is not None and not candidates:
        raise TargetError("runtime-missing", f"{asked} was asked for to run {runtime}, but is not usable here")
    for candidate in candidates:
        only = Capabilities(architecture="", runtimes=(candidate,))
        if requirements is None or not requirements.runtimes or fitting_runtime(requirements, only) is not None:
            return candidate
    if requirements is not None:
        here = Capabilities(architecture="", runtimes=candidates)
        for problem in problems(msgspec.structs.replace(requirements, architectures=(), accelerator=None), here):
            raise TargetError(problem.code, f"the bundle {problem.message}", hint=problem.hint)
    raise TargetError("runtime-missing", f"no package that runs {runtime} is installed")


def open_backend(
    runtime: RuntimeName, path: Path, options: RuntimeOptions, requirements: Requirements | None
) -> Backend:
    """Load an artifact.

    Raises:
        TargetError: ``runtime-missing``, ``runtime-too-old`` or ``accelerator-missing``.
        ReleaseError: ``artifact-unloadable``.
        DeploymentError: ``runtime-conflict``.
    """
    package = choose_package(runtime, options.package, requirements)
    # Each import brings numpy and its runtime: only the one that is used is paid for.
    if runtime == "tflite":
        from edgesdk.runtime.tflite import TfliteBackend  # noqa: PLC0415 - see above

        return TfliteBackend(path, package, options)
    from edgesdk.runtime.ort import OrtBackend  # noqa: PLC0415 - see above

    return OrtBackend(path, package, options)
