"""The whole conversion: plan → steps → judgement → release folder."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from edgesdk.bundle.manifest import ReleaseIndex
from edgesdk.bundle.release import write_release
from edgesdk.canonical import canonical_json
from edgesdk.clock import SystemClock, parse_rfc3339, rfc3339
from edgesdk.errors import ConfigError, EdgeError
from edgesdk_converters.judge import Judged, check_gate, check_placement, judge
from edgesdk_converters.packing import lineage_of, write_variant
from edgesdk_converters.planning.plan import Plan
from edgesdk_converters.refusal import REFUSALS, forget_refusal, refusal_folder, together, write_refusal
from edgesdk_converters.repair.ladder import climb, needed, pareto, rehearse
from edgesdk_converters.report import PAGE_NAME, REPORT_NAME, make_report, render
from edgesdk_converters.request import Prepared, Request, prepare
from edgesdk_converters.running.cache import StepCache, default_cache_dir
from edgesdk_converters.running.environments import first_uses
from edgesdk_converters.running.steps import Observer, Once, Runner, Silent
from edgesdk_converters.source_gate import check_sources, refuse_quantized, source_first
from edgesdk_converters.tried import Tried


class PlanObserver(Observer, Protocol):
    """Is also shown the plan before anything runs."""

    def note(self, text: str) -> None:
        """Say what a person should know before that, for example of guesses in the contract."""
        ...

    def plan(self, plan: Plan, cached: set[str], expected: Mapping[str, float]) -> None:
        """Show what will be done, what of it is at hand already, and about how many seconds other steps take."""
        ...


class SilentPlan(Silent):
    """Says nothing."""

    def note(self, text: str) -> None:
        """Take note of nothing."""

    def plan(self, plan: Plan, cached: set[str], expected: Mapping[str, float]) -> None:
        """Take note of nothing."""


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """A finished conversion.

    Attributes:
        folder: The release folder.
        index: Its `release.json`.
        report: What `report.json` holds.
        judged: The variants with what their artifacts answered.
    """

    folder: Path
    index: ReleaseIndex
    report: dict[str, Any] = field(repr=False)
    judged: tuple[Judged, ...] = field(repr=False)


def run(request: Request, observer: PlanObserver | None = None) -> Conversion:
    """Convert, evaluate, gate and pack; the release folder appears whole or not at all.

    What is refused leaves its report beside it (`refusal.refusal_folder`), until a later conversion passes.

    Raises:
        EdgeError: Whatever is wrong; finished steps stay cached, so the next call goes on from there.
    """
    started = time.monotonic()
    observer = observer or SilentPlan()
    prepared = source_first(prepare(request))
    built_at = _built_at(request.built_at)
    runner = Runner(StepCache(request.cache_dir or default_cache_dir()), timeout_s=request.step_timeout_s)
    cached = runner.cached(prepared.plan.steps)
    refuse_quantized(prepared, cached)
    shown, cached = rehearse(prepared, runner) if request.repair else (prepared.plan, cached)
    missing = first_uses(step.environment for step in shown.steps if step.name not in cached)
    for text in (*prepared.notes, *missing):
        observer.note(text)
    observer.plan(shown, cached, runner.expected(shown.steps))
    once = Once(observer)
    tried = Tried(prepared=prepared)
    try:
        tried = _tried(prepared, runner, observer, once)
        if tried.refused:
            raise together(tried.refused, prepared.plan.variants)
    except EdgeError as error:
        if error.code not in REFUSALS and not tried.judged:
            raise
        left = refusal_folder(request.out)
        with _folder(left, force=True) as folder:
            write_refusal(folder, error, tried, runner, steps=once.told, built_at=built_at)
        raise type(error)(error.code, error.message, hint=f"{error.hint} See {left / PAGE_NAME}.") from error
    prepared, judged = tried.prepared, tuple(tried.judged.values())
    with _folder(request.out, force=request.force) as folder:
        bundles = [write_variant(folder, prepared, each) for each in judged]
        index = write_release(
            folder,
            [bundle.path for bundle in bundles],
            built_at=built_at,
            precisions={each.variant.name: each.variant.recipe.precision for each in judged},
            lineage=lineage_of(prepared, prepared.plan.variants[0]),
            notes=_notes(request),
        )
        report = make_report(prepared, judged, runner.done(), index, once.told)
        report["pareto"] = pareto(tried.points)
        report["seconds"] = round(time.monotonic() - started, 3)
        (folder / REPORT_NAME).write_bytes(canonical_json(report))
        (folder / PAGE_NAME).write_text(render(report))
    forget_refusal(request.out)
    return Conversion(folder=request.out, index=index, report=report, judged=judged)


def _tried(prepared: Prepared, runner: Runner, whole: PlanObserver, observer: Once) -> Tried:
    """Run all steps, and judge every variant; with repair, the plan is of the rungs that it chose."""
    notes = check_sources(prepared, runner, observer)
    for text in notes:
        whole.note(text)
    prepared = replace(prepared, notes=(*prepared.notes, *notes))
    tried = (climb if prepared.request.repair else _as_asked)(prepared, runner, observer)
    for name, found in tried.judged.items():
        if name not in tried.refused:
            with tried.trying(name):
                check_placement(found, prepared.request)
                check_gate(found, prepared.request)
    return tried


def _as_asked(prepared: Prepared, runner: Runner, observer: Observer) -> Tried:
    """Make every variant by the recipe as asked."""
    tried = Tried(prepared=prepared)
    for variant in prepared.plan.variants:
        with tried.trying(variant.name):
            done, steps = runner.done(), needed(prepared.plan, [variant]).steps
            entries = runner.run([step for step in steps if step.name not in done], observer)
            tried.judged[variant.name] = judge(prepared, variant, runner.path(variant.artifact), entries)
    return tried


def _notes(request: Request) -> str:
    off = {"accuracy gate": not request.gate, "calibration doctor": not request.doctor}
    return " ".join(f"The {what} was off: {request.reason}" for what, is_off in off.items() if is_off)


def _built_at(given: str | None) -> str:
    try:
        if given is not None:
            return rfc3339(parse_rfc3339(given))
        epoch = os.environ.get("SOURCE_DATE_EPOCH")
        return rfc3339(SystemClock().now() if epoch is None else datetime.fromtimestamp(int(epoch), UTC))
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigError("argument-invalid", f"the build time is no time: {error}") from error


@contextlib.contextmanager
def _folder(out: Path, *, force: bool) -> Iterator[Path]:
    """Give a folder beside `out` that becomes `out` by one rename if all goes well."""
    out.parent.mkdir(parents=True, exist_ok=True)
    for left in out.parent.glob(f".{glob.escape(out.name)}.*.partial"):
        pid = left.name.split(".")[-2].partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{out.name}.{os.getpid()}-", suffix=".partial", dir=out.parent))
    replaced = folder.with_name(f"{folder.name.removesuffix('.partial')}-replaced.partial")
    try:
        folder.chmod(0o755)
        yield folder
        if force and out.exists():
            out.rename(replaced)
        folder.rename(out)
    finally:
        for left in (folder, replaced):
            shutil.rmtree(left, ignore_errors=True)
