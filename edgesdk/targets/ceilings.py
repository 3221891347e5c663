"""What a runtime's version can read: the newest ONNX operator set and IR version (pure).

A table, because a device says what it can do without loading a runtime. A version between two rows reads at least what
the row before it says; one older than the first row is not known, and is not judged.

Sources: the compatibility table of ONNX Runtime's documentation (1.16 to 1.18); 1.32 was measured: the newest operator
set and IR version with which it loads a model.
"""

from __future__ import annotations

from typing import NamedTuple

from edgesdk.bundle.manifest import RuntimeName


class Ceiling(NamedTuple):
    """The newest operator set of ONNX's default domain, and the newest IR version."""

    opset: int
    ir: int


_ONNXRUNTIME: tuple[tuple[tuple[int, ...], Ceiling], ...] = (
    ((1, 16), Ceiling(19, 9)),
    ((1, 17), Ceiling(20, 9)),
    ((1, 18), Ceiling(21, 10)),
    ((1, 32), Ceiling(28, 14)),
)


def ceiling(runtime: RuntimeName, version: tuple[int, ...]) -> Ceiling | None:
    """Return what a version reads at least; None where it is not known (TFLite has no such number).

    Args:
        runtime: Its name.
        version: Leading numbers, as `edgesdk.targets.matching.version_key` gives them.
    """
    if runtime != "onnxruntime":
        return None
    return next((found for since, found in reversed(_ONNXRUNTIME) if version >= since), None)
