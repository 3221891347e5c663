"""The plan and its progress on a terminal."""

from __future__ import annotations

from typing import Any, Self

from rich.console import Console, Group
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from edgesdk_converters import isolation
from edgesdk_converters.pipeline import Conversion
from edgesdk_converters.plan import Plan
from edgesdk_converters.steps import Step


class TerminalProgress:
    """A `PlanObserver` that shows the plan first, then one bar per step. Use it as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._bars.stop()

    def plan(self, plan: Plan, cached: set[str]) -> None:
        """Show what will be done, and what of it is at hand already."""
        made = ", ".join(variant.name for variant in plan.variants)
        self._console.print(f"{len(plan.variants)} variant{'' if len(plan.variants) == 1 else 's'}: {made}")
        self._console.print(f"{len(plan.steps)} steps, {len(cached)} of them at hand")

    def begin(self, step: Step) -> isolation.Progress:
        """Show a step's bar."""
        task = self._bars.add_task(step.name, total=None)
        self._tasks[step.name] = task
        return lambda done, total: self._bars.update(task, completed=done, total=total)

    def end(self, step: Step, *, cached: bool, seconds: float) -> None:
        """Fill a step's bar."""
        note = "at hand" if cached else f"{seconds:.1f} s"
        self._bars.update(self._tasks[step.name], description=f"{step.name} ({note})", completed=1, total=1)


def summary(conversion: Conversion) -> Group:
    """Return the variants and their figures as a table, and where they were judged."""
    table = Table(box=None, pad_edge=False)
    for heading in ("variant", "kB", "judged", "float", "change in points (95 %)"):
        table.add_column(heading, justify="right" if heading == "kB" else "left", no_wrap=True)
    places: dict[str, None] = {}
    for variant in conversion.report["variants"]:
        table.add_row(variant["variant"], f"{variant['artifact_size'] / 1000:.1f}", *_figures(variant, places))
    return Group(table, *places)


def _figures(variant: dict[str, Any], places: dict[str, None]) -> tuple[str, ...]:
    evaluation = variant.get("evaluation")
    if evaluation is None:
        return ("no", "", "")
    low, high = evaluation["interval"]
    mark = "" if evaluation["on_target"] else "*"
    places[f"{evaluation['metric']} on {evaluation['samples']} samples in {evaluation['runtime']}"] = None
    if mark:
        places[f"* measured on {evaluation['measured_on']}, not on the target"] = None
    return (
        f"{evaluation['value']:.4f}{mark}",
        f"{evaluation['source_value']:.4f}",
        f"{100 * evaluation['difference']:+.2f} ({100 * low:+.2f} to {100 * high:+.2f})",
    )
