"""What a refused conversion leaves: beside the release that there is not, a folder with its report and nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgesdk.canonical import canonical_json
from edgesdk.errors import EdgeError
from edgesdk_converters.planning.plan import VariantPlan
from edgesdk_converters.repair.ladder import pareto
from edgesdk_converters.report import PAGE_NAME, REFUSAL_SCHEMA, REPORT_NAME, make_refusal, render
from edgesdk_converters.running.steps import Runner
from edgesdk_converters.tried import VERDICTS, Tried

REFUSALS = VERDICTS | {"source-wrong"}
"""What is said of a model after work; other errors are about the request, and end before there is anything to tell."""


def together(refused: Mapping[str, EdgeError], variants: Sequence[VariantPlan]) -> EdgeError:
    """Return one refusal of a release: the first in full, a line for each of the others, and what passes.

    Args:
        refused: Why, by variant; at least one.
        variants: All that were asked for.
    """
    fails = [variant for variant in variants if variant.name in refused]
    first = refused[fails[0].name]
    if len(variants) == 1:
        return first
    lines = [_named(fails[0].name, first.message)]
    lines += [f"also refused: {_named(each.name, _short(refused[each.name]))}" for each in fails[1:]]
    bad = {variant.target.name for variant in fails}
    passes = [variant for variant in variants if variant.name not in refused]
    fine = dict.fromkeys(each.name if each.target.name in bad else each.target.name for each in passes)
    if fine:
        lines.append(f"passes: {', '.join(fine)}")
    return type(first)(first.code, "\n".join(lines), hint=f"{_cure(fails, passes)}{first.hint}")


def _cure(fails: Sequence[VariantPlan], passes: Sequence[VariantPlan]) -> str:
    """Return how to get a release of what passes; empty where neither a format nor targets say it."""
    bad = dict.fromkeys(variant.target.name for variant in fails)
    fine = {variant.target.name for variant in passes}
    for whole in {variant.format for variant in passes} - {variant.format for variant in fails}:
        if fine | bad.keys() == {variant.target.name for variant in passes if variant.format == whole}:
            return f"Give only --format {whole} to release what passes on every target. Otherwise: "
    if fine - bad.keys():
        return f"Leave out {' '.join(f'--target {name}' for name in bad)} to release the others. Otherwise: "
    return ""


def _named(name: str, message: str) -> str:
    """Return a message that says whose it is: a tool's does not."""
    return message if message.startswith(name) else f"{name}: {message}"


def _short(error: EdgeError) -> str:
    """Return a refusal up to its figures: what it is measured by, its layers and a tool's words are left out."""
    figures = error.message.partition("; ")[0].partition("\n")[0]
    return f"{figures} [{error.code}]"


def refusal_folder(out: Path) -> Path:
    """Return where the report of a refused conversion to `out` is."""
    return Path(f"{out if out.name else out.resolve()}.refused")


def write_refusal(
    folder: Path,
    error: EdgeError,
    tried: Tried,
    runner: Runner,
    *,
    steps: Sequence[Mapping[str, Any]],
    built_at: str,
) -> None:
    """Write the report of a refused conversion.

    Args:
        folder: Where; it is there and empty.
        error: The refusal.
        tried: What became of the variants.
        runner: Knows what was measured.
        steps: What was told of the steps (`Once.told`).
        built_at: When, RFC 3339.
    """
    report = make_refusal(tried, runner.done(), steps, built_at=built_at, error=error)
    report["pareto"] = pareto(tried.points)
    for name in report["pareto"].keys() & tried.refused.keys():
        report["pareto"][name]["chosen"] = None  # a rung that passed its gate may still be refused for its placement
    (folder / REPORT_NAME).write_bytes(canonical_json(report))
    (folder / PAGE_NAME).write_text(render(report))


def read_refusal(out: Path, error: EdgeError) -> dict[str, Any] | None:
    """Return the report that a refusal left beside `out`; None if it left none."""
    try:
        report: dict[str, Any] = msgspec.json.decode((refusal_folder(out) / REPORT_NAME).read_bytes())
        return report if report["refused"]["message"] == error.message else None
    except (OSError, msgspec.DecodeError, KeyError, TypeError):
        return None


def forget_refusal(out: Path) -> None:
    """Remove what an earlier, refused conversion to `out` left, and nothing else."""
    folder = refusal_folder(out)
    try:
        schema = msgspec.json.decode((folder / REPORT_NAME).read_bytes()).get("schema")
    except (OSError, msgspec.DecodeError, AttributeError):
        return
    if schema == REFUSAL_SCHEMA and {entry.name for entry in folder.iterdir()} <= {REPORT_NAME, PAGE_NAME}:
        shutil.rmtree(folder, ignore_errors=True)
