"""The plan and its progress on a terminal."""

from __future__ import annotations

from typing import Self

from rich.console import Console
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
        self._console.print(f"{len(plan.variants)} variants: {made}")
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


def summary(conversion: Conversion) -> Table:
    """Return the variants and their figures as a table."""
    table = Table(box=None, pad_edge=False)
    for heading in ("variant", "kB", "of float", "metric", "value", "float", "difference (95 %)", "judged in"):
        right = heading in {"kB", "of float"}
        table.add_column(heading, justify="right" if right else "left", overflow="fold", no_wrap=heading == "variant")
    for variant in conversion.report["variants"]:
        size, source = variant["artifact_size"], variant["source_size"]
        table.add_row(variant["variant"], f"{size / 1000:.1f}", f"{size / source:.0%}", *_figures(variant))
    return table


def _figures(variant: dict[str, object]) -> tuple[str, ...]:
    evaluation = variant.get("evaluation")
    if not isinstance(evaluation, dict):
        return ("not judged", "", "", "", "")
    low, high = evaluation["interval"]
    place = "" if evaluation["on_target"] else f" on {evaluation['measured_on']}, not the target"
    return (
        evaluation["metric"],
        f"{evaluation['value']:.4f}",
        f"{evaluation['source_value']:.4f}",
        f"{evaluation['difference']:+.4f} ({low:+.4f} to {high:+.4f})",
        f"{evaluation['runtime']}{place}",
    )
