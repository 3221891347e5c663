"""Which runtimes are installed here, without importing any of them."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from edgesdk.bundle.manifest import RuntimeName
from edgesdk.targets.ceilings import ceiling
from edgesdk.targets.matching import InstalledRuntime, version_key

# In the order of preference: ai-edge-litert is the default for tflite (see docs/adr).
PACKAGES: tuple[tuple[RuntimeName, str], ...] = (
    ("tflite", "ai-edge-litert"),
    ("tflite", "tflite-runtime"),
    ("onnxruntime", "onnxruntime"),
    ("onnxruntime", "onnxruntime-gpu"),
)
PROVIDERS: dict[str, tuple[str, ...]] = {"onnxruntime-gpu": ("cpu", "cuda", "tensorrt")}
"""What packages were built to run on, where it is more than the CPU."""


def installed() -> tuple[InstalledRuntime, ...]:
    """Return the runtimes whose packages are installed and can work; only package metadata is read.

    tflite-runtime beside numpy 2 is left out: its import works, but every interpreter fails.
    """
    found = []
    for name, package in PACKAGES:
        release = _version(package)
        if release is None or (package == "tflite-runtime" and version_key(_version("numpy") or "0") >= (2,)):
            continue
        reads = ceiling(name, version_key(release))
        found.append(
            InstalledRuntime(
                name=name,
                package=package,
                version=release,
                max_opset=reads.opset if reads else None,
                max_ir=reads.ir if reads else None,
                providers=PROVIDERS.get(package, ("cpu",)),
            )
        )
    return tuple(found)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
