"""A lint report for people: one line per kind of finding, the worst first, and the sum of it."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from edgesdk_converters.lint.report import Finding, LintReport

ORDER = ("refused", "fallback", "slow")
COLOURS = {"refused": "red", "fallback": "yellow", "slow": "cyan"}
NAMED = 3


def render(report: LintReport, console: Console) -> None:
    """Print a report."""
    for word in report.assumed:
        console.print(f"Note: {word}.", style="dim", highlight=False)
    if report.findings:
        console.print(_table(report))
    console.print(summary(report), highlight=False)


def summary(report: LintReport) -> str:
    """Return the outcome in one sentence."""
    if report.refused:
        return f"{report.target}: REFUSED. {report.rules} takes no file like this; see the findings marked refused."
    off = f"{report.ops_off} of {report.ops} operators"
    if not report.ops_off:
        return f"{report.target}: all {report.ops} operators run on {report.rules}."
    macs = f" and {report.share('macs'):.1%} of {_big(report.macs)} multiply-accumulates" if report.macs else ""
    return f"{report.target}: {off} ({report.share('ops'):.1%}){macs} will not run on {report.rules}."


def _table(report: LintReport) -> Table:
    table = Table(show_lines=True, expand=False)
    for name in ("", "operators", "found", "must", "do this"):
        table.add_column(name, overflow="fold")
    for effect, rows in ((effect, list(_groups(report, effect))) for effect in ORDER):
        for group in rows:
            first = group[0]
            where = f"{first.op} x {len(group)}" if len(group) > 1 else first.op or "model"
            names = ", ".join(each.node for each in group[:NAMED] if each.node)
            more = f" and {len(group) - NAMED} more" if len(group) > NAMED else ""
            table.add_row(
                f"[{COLOURS[effect]}]{effect}[/]",
                f"{where}\n[dim]{_plain(names)}{more}[/]",
                _plain(first.found),
                f"{_plain(first.limit)}\n[dim]{_plain(first.why)}[/]",
                _plain(first.rewrite),
            )
    return table


def _groups(report: LintReport, effect: str) -> Iterator[list[Finding]]:
    """Give findings of one effect, those of one rule and operator together, the largest share of MACs first."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in report.findings:
        if finding.effect == effect:
            groups.setdefault((finding.rule, finding.op), []).append(finding)
    yield from sorted(groups.values(), key=lambda group: (-sum(each.macs for each in group), group[0].op))


def _plain(text: str) -> str:
    return text.replace("[", "\\[")


def _big(count: int) -> str:
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return str(count)
