"""What the demo prints at its end: tables of what happened, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgesdk.demo.facts import Facts, Moment, Rollout

STYLES = {"committed": "green", "done": "green", "rolled_back": "red", "failed": "dark_orange", "halted": "dark_orange"}


def tables(facts: Facts) -> RenderableType:
    """Return the three tables: what was converted, what the devices did, what the apps saw."""
    return Group(_converted(facts), Text(), _rolled_out(facts), Text(), _seen(facts))


def _converted(facts: Facts) -> RenderableType:
    table = Table(title="Converted (held-out subjects, paired with the float source)", title_justify="left", box=None)
    table.add_column("release")
    table.add_column("variant")
    for name in ("KiB", "accuracy", "float", "difference, points"):
        table.add_column(name, justify="right", no_wrap=True)
    for v in facts.variants:
        low, high = (100 * bound for bound in v.interval)
        table.add_row(
            v.release, ("" if v.on_target else "*") + v.variant.removeprefix("linux-"), f"{v.size / 1024:.0f}",
            f"{v.accuracy:.3f}", f"{v.source_accuracy:.3f}", f"{100 * v.difference:+.1f} [{low:+.1f}, {high:+.1f}]",
        )  # fmt: skip
    runtimes = ", ".join(sorted({v.runtime for v in facts.variants}))
    return Group(table, Text(f" in {runtimes}; * on this host, not on the target", "dim"))


def _rolled_out(facts: Facts) -> Table:
    table = Table(title="Rolled out", title_justify="left", box=None)
    for name in ("release", "rollout", "device", "end", "why"):
        table.add_column(name, no_wrap=name != "why")
    for name in ("s", "KiB"):
        table.add_column(name, justify="right")
    for rollout in facts.rollouts:
        for index, end in enumerate(_ends(rollout)):
            first = index == 0
            table.add_row(
                rollout.release if first else "",
                Text(rollout.outcome, STYLES.get(rollout.outcome, "")) if first else "",
                end.device,
                Text(end.state.replace("_", " "), STYLES.get(end.state, "")),
                end.reason,
                f"{end.at - rollout.started:.1f}",
                f"{rollout.bytes_moved / 1024:.0f}" if first else "",
            )
    return table


def _ends(rollout: Rollout) -> Iterator[Moment]:
    last = {moment.device: moment for moment in sorted(rollout.moments, key=lambda moment: moment.at)}
    yield from (last[device] for device in sorted(last))


def _seen(facts: Facts) -> RenderableType:
    table = Table(title="What the apps saw", title_justify="left", box=None)
    for name in ("device", "release"):
        table.add_column(name)
    for name in ("calls", "failed", "for trial", "right", "p50 ms", "p99 ms", "slow"):
        table.add_column(name, justify="right")
    for device in facts.devices:
        mine = [call for call in facts.calls if call.device == device]
        for release in sorted({call.release for call in mine if not call.failed}):
            calls = [call for call in mine if call.release == release]
            times = sorted(call.ms for call in calls)
            table.add_row(
                device, release, f"{len(calls):,}", "0",
                str(sum(1 for call in calls if call.served not in {release, ""})),
                f"{sum(1 for call in calls if call.label == call.truth) / len(calls):.3f}",
                f"{median(times):.2f}", f"{times[min(len(times) - 1, int(0.99 * len(times)))]:.2f}",
                "" if release == "1.0.0" else f"{sum(1 for time in times if time > facts.slow_ms) / len(times):.0%}",
            )  # fmt: skip
        failed = sum(1 for call in mine if call.failed)
        if failed:
            table.add_row(device, "nobody", "", str(failed), "", "", "", "", "")
    note = f" for trial: answered by the good release instead of a failing trial; slow: above {facts.slow_ms:.2f} ms"
    return Group(table, Text(note, "dim"))
