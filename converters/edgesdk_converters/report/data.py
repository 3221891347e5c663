"""`report.json`: everything about a conversion that a person would ask, as data; pages and plots are made from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgesdk.bundle.manifest import ReleaseIndex
from edgesdk.errors import EdgeError
from edgesdk_converters.calibration.step import STEP
from edgesdk_converters.judge import Judged
from edgesdk_converters.request import Prepared
from edgesdk_converters.running.cache import Entry
from edgesdk_converters.tried import Tried

REPORT_NAME = "report.json"
REPORT_SCHEMA = "edge.report/1"
REFUSAL_SCHEMA = "edge.refusal/1"
ENOUGH_TRUTH = 200
"""Examples below which a truth set is a weak judge of later releases."""


def make_report(
    prepared: Prepared,
    judged: Sequence[Judged],
    entries: Mapping[str, Entry],
    index: ReleaseIndex,
    steps: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the report of a release: files by name only, never a path of this machine.

    Args:
        prepared: What was asked.
        judged: The variants, in the order of `index`.
        entries: Results of the steps, by name.
        index: The release.
        steps: What was told of the steps (`Once.told`).
    """
    variants = [
        {**msgspec.to_builtins(entry), **_variant(each, entries)}
        for each, entry in zip(judged, index.variants, strict=True)
    ]
    lineage = msgspec.to_builtins(index.lineage)
    return {**_about(prepared, entries, steps, index.built_at), "lineage": lineage, "variants": variants}


def make_refusal(
    tried: Tried,
    entries: Mapping[str, Entry],
    steps: Sequence[Mapping[str, Any]],
    *,
    built_at: str,
    error: EdgeError,
) -> dict[str, Any]:
    """Return the report of a conversion that ended without a release: the reason first, and what was measured.

    Args:
        tried: What became of the variants.
        entries: Results of the steps that ran, by name.
        steps: What was told of the steps (`Once.told`).
        built_at: When, RFC 3339.
        error: The refusal of them all.
    """
    variants = [
        {
            "variant": each.variant.name,
            "target": each.variant.target.name,
            "evaluation": msgspec.to_builtins(each.evaluation),
            **_variant(each, entries),
        }
        for each in tried.judged.values()
    ]
    names = {name: each.variant.name for name, each in tried.judged.items()}  # of what a ladder came to
    refused = {names.get(name, name): each.to_dict() for name, each in tried.refused.items()}
    return {
        **_about(tried.prepared, entries, steps, built_at),
        "schema": REFUSAL_SCHEMA,
        "refused": {**error.to_dict(), "variants": refused},
        "lineage": {},
        "variants": variants,
    }


def _about(
    prepared: Prepared, entries: Mapping[str, Entry], steps: Sequence[Mapping[str, Any]], built_at: str
) -> dict[str, Any]:
    request = prepared.request
    sources = {each.source.format: each.source for each in prepared.plan.variants}
    return {
        "schema": REPORT_SCHEMA,
        "model": request.name,
        "release": request.release,
        "built_at": built_at,
        "contract": msgspec.to_builtins(prepared.contract),
        "metric": prepared.wanted.metric,
        "gate": {"on": request.gate, "max_drop": request.max_drop, "reason": request.reason},
        "doctor": _doctor(prepared, entries),
        "sources": [
            {"file": source.path.name, "format": source.format, "sha256": source.sha256, "size": source.size}
            for source in sources.values()
        ],
        "data": {
            name: {"file": getattr(request, name).name, "sha256": prepared.data_sha256[name], "samples": data.count}
            for name, data in prepared.data.items()
        },
        "left_out": list(prepared.plan.left_out),
        "notes": list(prepared.notes),
        "weak_truth": "truth" not in prepared.data or prepared.data["truth"].count < ENOUGH_TRUTH,
        "steps": list(steps),
    }


def _doctor(prepared: Prepared, entries: Mapping[str, Entry]) -> dict[str, Any]:
    """Return what the calibration doctor said; no diagnosis where nothing was calibrated or the doctor was off."""
    request, entry = prepared.request, entries.get(STEP)
    return {
        "on": request.doctor,
        "reason": None if request.doctor else request.reason,
        "diagnosis": entry.result if entry is not None else None,
    }


def _variant(judged: Judged, entries: Mapping[str, Entry]) -> dict[str, Any]:
    variant, measured = judged.variant, judged.measured
    return {
        "format": variant.format,
        "recipe": msgspec.to_builtins(variant.recipe),
        "made_by": None if variant.backend is None or not variant.backend.quantizes else variant.backend.title,
        "artifact_size": judged.shipped.stat().st_size,
        "source_size": variant.source.size,
        "runtimes": {
            package: {key: result[key] for key in ("runtime", "provider", "infer_ms")}
            for package, result in measured.runtimes.items()
        },
        "source_infer_ms": entries[variant.source_measure].result.get("infer_ms"),
        "spread": measured.spread,
        "conversion": {} if isinstance(variant.artifact, Path) else entries[variant.artifact.step].result,
        "compiled": None if judged.compiled is None else judged.compiled.result,
        "placement": None if judged.compiled is None else judged.compiled.result["placement"],
        "lint": None if variant.lint is None else entries[variant.lint].result,
        "saturation": judged.saturation,
        "layers": judged.layers,
        "latency": None if judged.latency is None else {**judged.latency, "on_target": judged.on_target},
    }
