"""A lint report for people: a block of lines per kind of finding, the worst first, and the sum of it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.text import Text

from edgesdk_converters.lint.report import BRIDGES, Finding, LintReport

ORDER = ("refused", "fallback", "slow")
COLOURS = {"refused": "red", "fallback": "yellow", "slow": "cyan"}
NAMED = 3
MARGIN = 10


def render(report: LintReport, console: Console) -> None:
    """Print a report."""
    for word in report.assumed:
        _note(word, console)
    for effect in ORDER:
        for group in _groups(report, effect):
            for line in _block(group, console.width):
                console.print(line, soft_wrap=True)
    for word in report.notes:
        _note(_first(word, report.target), console)
    console.print(Text(textwrap.fill(summary(report), console.width, break_on_hyphens=False)), soft_wrap=True)


def _first(note: str, target: str) -> str:
    """Return the first sentence of a note; where there are more it is the profile's, which is shown whole elsewhere."""
    first, more, _rest = note.partition(". ")
    return f"{first} (more: edge targets show {target})" if more else first


def _note(word: str, console: Console) -> None:
    text = textwrap.fill(f"Note: {word}.", console.width, break_on_hyphens=False)
    console.print(Text(f"{text}\n", "dim"), soft_wrap=True)


def summary(report: LintReport) -> str:
    """Return the outcome in one sentence."""
    if report.refused:
        return f"{report.target}: REFUSED. {report.rules} takes no file like this; see the findings marked refused."
    off = f"{report.ops_off} of {report.ops} operators"
    if not report.ops_off:
        return f"{report.target}: all {report.ops} operators run on {report.rules}."
    macs = f" and {report.share('macs'):.1%} of {_big(report.macs)} multiply-accumulates" if report.macs else ""
    return f"{report.target}: {off} ({report.share('ops'):.1%}){macs} will not run on {report.rules}."


def _block(group: Sequence[Finding], width: int) -> Iterator[Text]:
    """Yield the lines of a kind of finding: words in a margin and text beside it, so that any width will do."""
    first = group[0]
    names = ", ".join(each.node for each in group[:NAMED] if each.node)
    more = f" and {len(group) - NAMED} more" if len(group) > NAMED else ""
    where = f"{first.op} x {len(group)}" if len(group) > 1 else first.op or "the model"
    for word, text, style in (
        (first.effect, where, "bold"),
        ("  where", names + more, "dim"),
        ("  limit", first.limit, ""),
        ("  found", first.found, ""),
        ("  why", first.why, "dim"),
        ("  do", first.rewrite, "green"),
    ):
        for line in textwrap.wrap(text, max(width - MARGIN, MARGIN), break_on_hyphens=False):
            yield Text.assemble((f"{word:<{MARGIN}}", COLOURS.get(word, "dim")), (line, style))
            word = ""  # noqa: PLW2901 - once is enough
    yield Text()


def _groups(report: LintReport, effect: str) -> Iterator[list[Finding]]:
    """Give findings of one effect, those of one rule and operator together, the largest share of MACs first.

    Conversions that stand beside another finding come last: they go with it.
    """
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in report.findings:
        if finding.effect == effect:
            groups.setdefault((finding.rule, finding.op), []).append(finding)
    yield from sorted(
        groups.values(), key=lambda group: (-sum(each.macs for each in group), group[0].op in BRIDGES, group[0].op)
    )


def _big(count: int) -> str:
    for size, unit in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return str(count)
