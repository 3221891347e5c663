"""Do two files compute the same? Asked wherever a tool rewrites a graph, before anything is built on its outcome."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.manifest import RuntimeName
from edgesdk.contract import Contract, TensorSpec
from edgesdk.errors import ReleaseError
from edgesdk.runtime import describe_artifact
from edgesdk_converters.data.binding import bind
from edgesdk_converters.evaluate.measure import open_draft

SAMPLES = 4
RELATIVE = 1e-3
"""Of the largest value of an output: what another order of float32 sums may change."""
ABSOLUTE = 1e-5
SYMBOL_SIZE = 1
_SPREAD = 3.0
_PACKAGES: dict[str, tuple[RuntimeName, str]] = {
    ".onnx": ("onnxruntime", "onnxruntime"),
    ".tflite": ("tflite", "ai-edge-litert"),
}

Outputs = dict[str, NDArray[Any]]


def check_agreement(first: Path, second: Path, contract: Contract, *, what: str) -> float:
    """Run two files on the same made-up inputs and compare every output.

    Returns:
        The largest difference, relative to the largest value of its output.

    Raises:
        ReleaseError: ``conversion-failed`` naming the output and the difference, if they do not agree.
    """
    worst = 0.0
    samples = list(probes(contract))
    for left, right in zip(_answers(first, contract, samples), _answers(second, contract, samples), strict=True):
        for name, expected in left.items():
            worst = max(worst, _difference(name, expected, right[name], what))
    return worst


def probes(contract: Contract) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield made-up inputs, always the same: in the contract's range, else within three of zero."""
    random = np.random.default_rng(0)
    for _ in range(SAMPLES):
        yield {spec.name: _probe(spec, random) for spec in contract.inputs}


def _probe(spec: TensorSpec, random: np.random.Generator) -> NDArray[Any]:
    shape = [SYMBOL_SIZE if isinstance(size, str) else size for size in spec.shape]
    dtype = np.dtype(spec.dtype)
    low, high = spec.range or ((0, 1) if dtype.kind in "iub" else (-_SPREAD, _SPREAD))
    if dtype.kind in "iub":
        return random.integers(int(low), int(high) + 1, shape).astype(dtype)
    return random.uniform(low, high, shape).astype(dtype)


def _answers(path: Path, contract: Contract, samples: list[dict[str, NDArray[Any]]]) -> list[Outputs]:
    runtime, package = _PACKAGES[path.suffix]
    bindings = bind(contract, *describe_artifact(path, runtime, options={"package": package}))
    with (
        tempfile.TemporaryDirectory() as folder,
        open_draft(Path(folder), path, contract, bindings, (runtime, package)) as session,
    ):
        return [session.run(sample) for sample in samples]


def _difference(name: str, expected: NDArray[Any], found: NDArray[Any], what: str) -> float:
    if expected.shape != found.shape:
        message = f"{what} gives {name!r} the shape {found.shape}, expected {expected.shape}"
        raise ReleaseError("conversion-failed", message)
    if expected.dtype.kind != "f":
        if not np.array_equal(expected, found):
            raise ReleaseError("conversion-failed", f"{what} answers differently in {name!r}")
        return 0.0
    both = np.isfinite(expected) & np.isfinite(found)
    if not np.array_equal(np.isfinite(expected), np.isfinite(found)):
        raise ReleaseError("conversion-failed", f"{what} gives NaN or infinity in {name!r} where the source does not")
    difference = float(np.abs(expected[both] - found[both]).max(initial=0.0))
    size = float(np.abs(expected[both]).max(initial=0.0))
    if difference > RELATIVE * size + ABSOLUTE:
        message = f"{what} answers differently: by up to {difference:.3g} in {name!r}, whose values reach {size:.3g}"
        raise ReleaseError("conversion-failed", message)
    return difference / size if size else 0.0
