"""The plan and its progress on a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from edgesdk_converters.backends import placement
from edgesdk_converters.pipeline import Conversion
from edgesdk_converters.planning.plan import Plan
from edgesdk_converters.report.words import change, is_share, rung_change
from edgesdk_converters.running import isolation
from edgesdk_converters.running.steps import Step

INDENT, WIDEST = "  ", 1000
"""What stands before figures below a name; columns that no table of ours has."""


class Running(TimeElapsedColumn):
    """How long a step has been running; of one that is done its own line says how long it took."""

    def render(self, task: Task) -> Text:
        """Return the time, or nothing."""
        return Text("") if task.finished else super().render(task)


class Remaining(ProgressColumn):
    """About how long a step still takes: by what it counts, else by how long it took before."""

    def render(self, task: Task) -> Text:
        """Return seconds, or nothing where nothing is known."""
        if task.finished:
            return Text("")
        left = task.time_remaining if task.total else None
        if left is None and task.fields.get("expected") is not None:
            left = max(0.0, task.fields["expected"] - (task.elapsed or 0.0))
        return Text("" if left is None else f"about {left:.0f} s to go", style="progress.remaining")


class TerminalProgress:
    """A `PlanObserver` that shows the plan first, then one bar per step that runs. Use it as a context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = Progress(
            TextColumn("  {task.description}"),
            BarColumn(bar_width=24),
            Running(),
            Remaining(),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._cached: set[str] = set()
        self._expected: Mapping[str, float] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._bars.stop()

    def note(self, text: str) -> None:
        """Say what a person should know before anything runs."""
        self._console.print(f"note: {text}", style="yellow", highlight=False, markup=False)

    def plan(self, plan: Plan, cached: set[str], expected: Mapping[str, float]) -> None:
        """Show what will be done, what of it is at hand already, and about how long the rest takes."""
        self._cached, self._expected = cached, expected
        made = ", ".join(variant.name for variant in plan.variants)
        self._console.print(f"{len(plan.variants)} variant{'' if len(plan.variants) == 1 else 's'}: {made}")
        for line in plan.left_out:
            self._console.print(f"left out for {line}")
        self._console.print(estimate([step.name for step in plan.steps], cached, expected))
        if plan.more:
            self._console.print(plan.more)
        left = [step.name for step in plan.steps if step.name not in cached]
        if left:
            self._console.print(Text(listed(left, self._console.width), "dim"), soft_wrap=True)

    def begin(self, step: Step) -> isolation.Progress:
        """Show a step's bar."""
        if step.name in self._cached:
            return lambda _done, _total: None
        task = self._bars.add_task(step.name, total=None, expected=self._expected.get(step.name))
        self._tasks[step.name] = task
        return lambda done, total: self._bars.update(task, completed=done, total=total)

    def end(self, step: Step, *, cached: bool, seconds: float) -> None:
        """Fill a step's bar."""
        if step.name not in self._tasks:
            return
        note = "at hand" if cached else f"{seconds:.1f} s"
        self._bars.update(self._tasks[step.name], description=f"{step.name} ({note})", completed=1, total=1)


def listed(names: Sequence[str], width: int) -> str:
    """Return names as indented lines of a width; a name is not broken."""
    whole = ", ".join(name.replace(" ", "\0") for name in names)
    lines = textwrap.wrap(whole, width, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(lines).replace("\0", " ")


def estimate(steps: Sequence[str], cached: set[str], expected: Mapping[str, float]) -> str:
    """Return one line: how many steps there are, how many are at hand, and about how long the others take."""
    left = [name for name in steps if name not in cached]
    line = f"{len(steps)} steps, {len(steps) - len(left)} of them at hand"
    known = [expected[name] for name in left if name in expected]
    if not left:
        return line
    unknown = len(left) - len(known)
    if not known:
        return f"{line}; how long the others take is not known yet"
    more = f", and {unknown} that never ran here" if unknown else ""
    return f"{line}; about {sum(known):.0f} s{more}"


def summary(conversion: Conversion) -> Group:
    """Return the variants and their figures as a table, and where they were judged."""
    return figures(conversion.report)


def figures(report: Mapping[str, Any]) -> Group:
    """Return the same of any report; of a refused conversion also what became of each variant."""
    refused = report["refused"]["variants"] if "refused" in report else None
    places: dict[str, None] = {}
    rows: list[tuple[str, ...]] = []
    for variant in report["variants"]:
        name = variant["variant"]
        word = () if refused is None else ("refused" if name in refused else "passes",)
        rows.append((name, *word, f"{variant['artifact_size'] / 1000:.1f}", *_figures(variant, places)))
        _note_speed(variant, places)
    unmade = (refused or {}).keys() - {row[0] for row in rows}
    rows += [(name, "refused", "", "no", "", "") for name in sorted(unmade)]
    change_of = "change in points (95 %)" if is_share(report) else "change (95 %)"
    headings = ("variant", *(() if refused is None else ("gate",)), "kB", "judged", "float", change_of)
    return Group(Figures(headings, rows), *places, *placement.lines(report["variants"]))


class Figures:
    """A table; a terminal that is too narrow for it shows each name on a line of its own, whole, and figures below."""

    def __init__(self, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        self._headings, self._rows = headings, rows

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = self._table()
        if console.measure(table, options=options.update(max_width=WIDEST)).maximum <= options.max_width:
            yield table
            return
        yield Text(self._headings[0], "bold")
        below = self._table(names=False)
        lines = console.render_lines(below, options.update(width=max(options.max_width - len(INDENT), 1)), pad=False)
        for name, line in zip(("", *(row[0] for row in self._rows)), lines, strict=True):
            if name:
                yield Text(name, no_wrap=True, overflow="ignore")
            yield Text.assemble(INDENT, *((part.text, part.style or "") for part in line))

    def _table(self, *, names: bool = True) -> Table:
        table = Table(box=None, pad_edge=False)
        for heading in self._headings[0 if names else 1 :]:
            justify: Literal["left", "right"] = "right" if heading == "kB" else "left"
            table.add_column(heading, justify=justify, no_wrap=True)
        for row in self._rows:
            table.add_row(*row[0 if names else 1 :])
        return table


def _figures(variant: dict[str, Any], places: dict[str, None]) -> tuple[str, ...]:
    evaluation = variant.get("evaluation")
    if evaluation is None:
        return ("no", "", "")
    mark = "" if evaluation["on_target"] else "*"
    kind = evaluation["details"]["metric"]
    unit = "" if kind["share"] else ", in its own unit, not points"
    better = "" if kind["greater_is_better"] else "; less is better"
    place = f"{evaluation['metric']} on {evaluation['samples']} samples in {evaluation['runtime']}"
    places[f"{place}{unit}{better}"] = None
    if mark:
        places[f"* measured on {evaluation['measured_on']}, not on the target"] = None
    shown = change(evaluation["difference"], evaluation["interval"], share=kind["share"], unit=False)
    return (f"{evaluation['value']:.4f}{mark}", f"{evaluation['source_value']:.4f}", shown)


def _note_speed(variant: dict[str, Any], places: dict[str, None]) -> None:
    found = variant.get("latency") or {}
    if found.get("timed"):
        what = f"{variant['format']} {variant['recipe']['name']}"
        low, high = found["interval"]
        times = f"{found['speedup']:.2f} times as fast as float on this machine ({low:.2f} to {high:.2f})"
        places[f"{what}: {times}{'; not faster' if high < 1 else ''}"] = None


def ladder(report: dict[str, Any]) -> Group:
    """Return what the repair ladder tried, by variant; ``*`` marks what nothing else beats in every respect."""
    tables: list[Table | str] = []
    share = is_share(report)
    heading = "change in points (95 %)" if share else "change (95 %)"
    for name, found in report["pareto"].items():
        table = Table(box=None, pad_edge=False, title=name, title_justify="left")
        for word in ("rung", "judged", "samples", heading, "kB", "speed", "passes"):
            table.add_column(word, no_wrap=True)
        for point in found["points"]:
            table.add_row(
                point["rung"] + ("*" if point["recipe"] in found["front"] else ""),
                "" if point["value"] is None else f"{point['value']:.4f}",
                "" if point["samples"] is None else f"{point['samples']:,}",
                rung_change(point, share=share, unit=False),
                "" if point["size"] is None else f"{point['size'] / 1000:.1f}",
                "" if point["speedup"] is None else f"{point['speedup']:.2f}x",
                "yes" if point["passed"] else "no" if point["value"] is not None else point["why"],
            )
        tables.append(table)
        tables += [f"{point['rung']}: {point['why']}" for point in found["points"] if point["value"] and point["why"]]
    return Group(*tables, "* nothing else that was tried is better in every respect")
