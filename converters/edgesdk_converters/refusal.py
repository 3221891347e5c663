"""What a refused conversion leaves: beside the release that there is not, a folder with its report and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgesdk.canonical import canonical_json
from edgesdk.errors import EdgeError
from edgesdk_converters.judge import Judged, judge
from edgesdk_converters.repair.ladder import pareto
from edgesdk_converters.repair.rungs import Point
from edgesdk_converters.report import PAGE_NAME, REFUSAL_SCHEMA, REPORT_NAME, make_refusal, render
from edgesdk_converters.request import Prepared
from edgesdk_converters.running.cache import Entry
from edgesdk_converters.running.steps import Runner

REFUSALS = frozenset(
    {"accuracy-gate", "accuracy-thin", "fallback-share", "latency-gate", "repair-exhausted", "source-wrong"}
)
"""What is said of a model after work; other errors are about the request, and end before there is anything to tell."""


def refusal_folder(out: Path) -> Path:
    """Return where the report of a refused conversion to `out` is."""
    return out.with_name(f"{out.name}.refused")


def write_refusal(
    folder: Path,
    error: EdgeError,
    prepared: Prepared,
    runner: Runner,
    points: Mapping[str, Sequence[Point]],
    *,
    steps: Sequence[Mapping[str, Any]],
    built_at: str,
) -> None:
    """Write the report of a refused conversion.

    Args:
        folder: Where; it is there and empty.
        error: The refusal.
        prepared: What was asked.
        runner: Knows what was measured.
        points: What the repair ladder tried.
        steps: What was told of the steps (`Once.told`).
        built_at: When, RFC 3339.
    """
    entries = runner.done()
    judged = list(_judged(prepared, runner, entries))
    report = make_refusal(prepared, judged, entries, steps, built_at=built_at, error=error)
    tried = pareto({name: each for name, each in points.items() if each})
    report["pareto"] = {name: {**found, "chosen": None} for name, found in tried.items()}
    (folder / REPORT_NAME).write_bytes(canonical_json(report))
    (folder / PAGE_NAME).write_text(render(report))


def forget_refusal(out: Path) -> None:
    """Remove what an earlier, refused conversion to `out` left, and nothing else."""
    folder = refusal_folder(out)
    try:
        schema = msgspec.json.decode((folder / REPORT_NAME).read_bytes()).get("schema")
    except (OSError, msgspec.DecodeError, AttributeError):
        return
    if schema == REFUSAL_SCHEMA and {entry.name for entry in folder.iterdir()} <= {REPORT_NAME, PAGE_NAME}:
        shutil.rmtree(folder, ignore_errors=True)


def _judged(prepared: Prepared, runner: Runner, entries: Mapping[str, Entry]) -> Iterator[Judged]:
    for variant in prepared.plan.variants:
        try:
            yield judge(prepared, variant, runner.path(variant.artifact), entries)
        except (EdgeError, KeyError):  # it did not come so far
            continue
