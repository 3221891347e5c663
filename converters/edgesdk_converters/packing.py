"""From judged artifacts to bundles: golden sets, reference statistics, requirements, lineage.

The same content gives the same bytes; only `release.json` knows when it was built.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.archive import BundleFile, file_entry, write_bundle
from edgesdk.bundle.golden import NPY_MEDIA_TYPE, Origin, parity_files, truth_files
from edgesdk.bundle.manifest import (
    BUNDLE_SCHEMA,
    FileEntry,
    GoldenSet,
    Lineage,
    Manifest,
    Parity,
    Requirements,
    Stage,
    Tolerance,
    Truth,
)
from edgesdk.bundle.release import bundle_name
from edgesdk.canonical import canonical_json
from edgesdk.contract import Contract
from edgesdk.telemetry.sketches import DDSketch
from edgesdk_converters.backends.described import raw_tensors
from edgesdk_converters.compress.lineage import compression_of
from edgesdk_converters.data.binding import bind
from edgesdk_converters.data.npz import DataSet, as_call, class_names, file_sha256
from edgesdk_converters.evaluate.metrics import NO_ANSWER, decide
from edgesdk_converters.evaluate.step import rows_of
from edgesdk_converters.judge import Judged, Measured, flat
from edgesdk_converters.planning.fit import RUNTIME
from edgesdk_converters.planning.plan import VariantPlan
from edgesdk_converters.request import Prepared
from edgesdk_converters.running.steps import versions_of

PARITY_SAMPLES = 32
REFERENCE_PATH = "reference/statistics.json"
REFERENCE_SCHEMA = "edge.reference/1"
LSB = 2.0
FLOAT_TOLERANCE = 1e-4
QUANTIZED_TOLERANCE = 2 / 256
"""For outputs that an int8 artifact gives in float32: two steps of an 8-bit probability."""


def write_variant(folder: Path, prepared: Prepared, judged: Judged) -> BundleFile:
    """Write the bundle of one variant into `folder`."""
    variant, measured = judged.variant, judged.measured
    request = prepared.request
    name = variant.compiled.file if variant.compiled is not None else f"model.{variant.format}"
    contents: dict[str, bytes | Path] = {name: judged.shipped}
    origin: Origin = "artifact" if judged.compiled is None else judged.compiled.origin
    golden, golden_files = _golden(prepared, variant, measured, origin)
    contents.update(golden_files)
    reference = _reference(prepared, measured)
    if reference is not None:
        contents[REFERENCE_PATH] = reference
    manifest = Manifest(
        schema=BUNDLE_SCHEMA,
        model=request.name,
        release=request.release,
        variant=variant.name,
        target=variant.target.name,
        contract=prepared.contract,
        requirements=_requirements(variant, measured, judged.artifact),
        stages=(_stage(name, prepared.contract, judged),),
        files=tuple(_entry(path, content) for path, content in sorted(contents.items())),
        golden=golden,
        reference=REFERENCE_PATH if reference is not None else None,
        options=_options(variant),
        evaluation=judged.evaluation,
        lineage=lineage_of(prepared, variant),
    )
    return write_bundle(folder / bundle_name(request.name, request.release, variant.name), manifest, contents)


def _options(variant: VariantPlan) -> dict[str, Any]:
    providers = variant.backend.providers if variant.backend is not None else ()
    return {"runtime": {"providers": list(providers)}} if providers else {}


def _stage(name: str, contract: Contract, judged: Judged) -> Stage:
    """Return how the shipped file is run: a compiled one as its tool describes it, its portable file's hash kept."""
    bindings, compiled = judged.measured.bindings, judged.compiled
    if compiled is None:
        return Stage(name="main", artifact=name, runtime=RUNTIME[judged.variant.format], bindings=bindings)
    tensors = compiled.result.get("tensors")
    if tensors is not None:
        bindings = bind(contract, raw_tensors(tensors["inputs"]), raw_tensors(tensors["outputs"]))
    return Stage(
        name="main",
        artifact=name,
        runtime=compiled.backend.runtime,
        bindings=bindings,
        source_sha256=file_sha256(judged.artifact),
    )


def lineage_of(prepared: Prepared, variant: VariantPlan) -> Lineage:
    """Return where a variant came from; without times, so that the same content gives the same bytes."""
    tools = [tool for step in prepared.plan.steps for tool in step.tools]
    versions = {tool: version for tool, version in versions_of(tools).items() if version != "none"}
    for environment in {step.environment for step in prepared.plan.steps if step.environment is not None}:
        tool, _, pinned = environment.packages[0].partition("==")
        versions[tool] = pinned
    return Lineage(
        source_sha256=variant.source.sha256,
        source_format=variant.source.format,
        data_sha256=prepared.data_sha256,
        code_commit=code_commit(prepared.request.contract.parent),
        tools=versions,
        recipe={
            **msgspec.to_builtins(variant.recipe),
            **compression_of(variant.source.path, variant.source.sha256),
        },
        parent_release=prepared.request.parent,
    )


def code_commit(folder: Path) -> str | None:
    """Return the last Git commit that changed `folder`, with ``-dirty`` if its files differ from it; None without."""
    commit = _git(folder, "log", "-1", "--format=%H", "--", ".")
    if not commit:
        return None
    return f"{commit}-dirty" if _git(folder, "status", "--porcelain", "--untracked-files=no", ".") else commit


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _requirements(variant: VariantPlan, measured: Measured, artifact: Path) -> Requirements:
    """Keep the packages that loaded the artifact: what was not checked is not promised."""
    if variant.backend is not None:  # its runtime is the vendor's, and is not here
        return variant.target.requirements(variant.target.runtimes[0].name)
    stated = variant.target.requirements(RUNTIME[variant.format])
    kept = tuple(runtime for runtime in stated.runtimes if runtime.package in measured.runtimes)
    opset, ir_version = _onnx_versions(artifact) if variant.format == "onnx" else (None, None)
    return msgspec.structs.replace(stated, runtimes=kept, opset=opset, ir_version=ir_version)


def _onnx_versions(artifact: Path) -> tuple[int | None, int]:
    """Return the operator set of ONNX's default domain and the IR version: what a device's runtime must read."""
    import onnx  # noqa: PLC0415 - takes a while to load

    model = onnx.load_model(artifact, load_external_data=False)
    opsets = [each.version for each in model.opset_import if each.domain in {"", "ai.onnx"}]
    return max(opsets, default=None), model.ir_version


def _golden(
    prepared: Prepared, variant: VariantPlan, measured: Measured, origin: Origin
) -> tuple[GoldenSet, dict[str, bytes]]:
    parity, files = _parity(prepared, variant, measured, origin)
    truth, truth_contents = _truth(prepared.contract, prepared.data.get("truth"), measured)
    return GoldenSet(parity=parity, truth=truth), {**files, **truth_contents}


def _parity(
    prepared: Prepared, variant: VariantPlan, measured: Measured, origin: Origin
) -> tuple[Parity | None, dict[str, bytes]]:
    name = next((name for name in ("evaluation", "truth") if name in prepared.data), None)
    if name is None:
        return None, {}
    data, outputs = prepared.data[name], measured.outputs[name]
    answered = rows_of(data, outputs)
    finite = np.flatnonzero(np.all([np.isfinite(v).reshape(len(v), -1).all(axis=1) for v in outputs.values()], axis=0))
    if not len(finite):
        return None, {}
    rows = finite[np.unique(np.linspace(0, len(finite) - 1, PARITY_SAMPLES).astype(np.int64))]
    tolerances = {tensor: _tolerance(tensor, variant, measured) for tensor in outputs}
    chosen = {tensor: values[rows] for tensor, values in outputs.items()}
    return parity_files(_called(data, answered[rows]), chosen, tolerances, origin=origin)


def _tolerance(tensor: str, variant: VariantPlan, measured: Measured) -> Tolerance:
    scale = next(binding.scale for binding in measured.bindings.outputs if binding.tensor == tensor)
    quantized = QUANTIZED_TOLERANCE if variant.recipe.quantizes(variant.format) else FLOAT_TOLERANCE
    steps = LSB * scale if scale is not None else quantized
    return Tolerance(absolute=max(steps, LSB * measured.spread.get(tensor, 0.0)))


def _truth(contract: Contract, data: DataSet | None, measured: Measured) -> tuple[Truth | None, dict[str, bytes]]:
    if data is None or data.labels is None:
        return None, {}
    scores = measured.outputs["truth"][contract.outputs[0].name]
    correct = decide(flat(scores)) == data.labels
    return truth_files(_called(data, np.arange(data.count)), data.labels, class_names(contract), correct=correct)


def _called(data: DataSet, rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    specs = {spec.name: spec for spec in data.contract.inputs}
    return {
        name: np.stack([as_call(value, specs[name]) for value in values]) for name, values in data.take(rows).items()
    }


def _reference(prepared: Prepared, measured: Measured) -> bytes | None:
    """Return what this artifact's answers look like on the evaluation data: what drift is measured against."""
    if prepared.contract.task != "classification" or "evaluation" not in measured.outputs:
        return None
    scores = flat(measured.outputs["evaluation"][prepared.contract.outputs[0].name])
    chosen = decide(scores)
    sketch = DDSketch()
    for confidence in scores[chosen != NO_ANSWER].max(axis=1).tolist():
        sketch.add(confidence)
    labels = class_names(prepared.contract)
    counts = {label: int(np.count_nonzero(chosen == index)) for index, label in enumerate(labels)}
    content = {
        "schema": REFERENCE_SCHEMA,
        "samples": len(scores),
        "classes": counts,
        "confidence": sketch.to_dict(),
    }
    return canonical_json(content)


def _entry(path: str, content: bytes | Path) -> FileEntry:
    if path.endswith(".npy"):
        return file_entry(path, content, NPY_MEDIA_TYPE, "golden")
    if path == REFERENCE_PATH:
        return file_entry(path, content, "application/json", "reference")
    return file_entry(path, content, f"application/x-{path.rpartition('.')[2]}", "artifact")
