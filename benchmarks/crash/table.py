"""The table of results, in Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection

from crash.explore import Result
from crash.plan import PAIRS

SINGLE = ("kill", "power", "ENOSPC", "EIO", "full", "short")
HEAD = """# What became of the agent at every fault

Rendered by `python benchmarks/crash --render docs/crash-table.md`; do not edit. How it works and what each word means:
`benchmarks/crash/README.md` and `docs/adr/0010-crash-explorer.md`.
"""

PAIR_WORDS = """A *cut* is a loss of power (four in five) or a kill, an *error* is ENOSPC, EIO or a short write: drawn.
*Failed sync* and *kill after a rename* are exhaustive in their first fault: every sync fails once, every rename is
followed by a kill, and the power goes at three later calls each. What a killed life left unsynced can still be lost in
the next. Pairs whose second fault would have come after the end are not counted.
"""


def render(results: Collection[Result], *, planned: int) -> str:
    """Return the document; `planned` histories make a full run."""
    lived = [result for result in results if result.reached]
    single = [result for result in lived if result.fault not in PAIRS]
    paired = [result for result in lived if result.fault in PAIRS]
    broken = [result for result in lived if result.broken]
    parts = [
        HEAD,
        f"**{len(single)} single faults, {len(paired)} pairs; {len(broken)} left an unserviceable state.**\n",
        _covered(len(results), planned),
        "## Single faults by system call\n",
        _matrix(single, lambda each: each.call, "call"),
        "## Single faults by the deployment's state\n",
        _matrix(single, lambda each: each.state, "state"),
        "## Single faults by scenario\n",
        _matrix(single, lambda each: each.scenario, "scenario"),
        "## Power cuts by what they left\n",
        "Only outcomes that a reader can tell apart are lived.\n",
        _counts([each for each in single if each.fault.startswith("power: ")], lambda each: each.fault[7:], "left"),
        "## Pairs\n",
        PAIR_WORDS,
        _counts(paired, lambda each: each.fault, "pair"),
        _counts(paired, lambda each: f"{each.scenario}", "scenario of a pair"),
    ]
    if broken:
        parts += ["## Broken\n", "\n".join(f"- `{each.key}`: {'; '.join(each.broken)}" for each in broken) + "\n"]
    return "\n".join(parts)


def _covered(lived: int, planned: int) -> str:
    if lived == planned:
        return "Single faults are exhaustive: every fault at every durable call of every scenario.\n"
    return f"{lived} of the {planned} histories of a full run, in random order; the run can be continued.\n"


def _matrix(results: Collection[Result], row: Callable[[Result], str], title: str) -> str:
    counts = Counter((row(each), each.fault.partition(":")[0]) for each in results)
    bad = Counter(row(each) for each in results if each.broken)
    names = sorted({row(each) for each in results})
    lines = [[title, *SINGLE, "all", "broken"], ["---", *["---:"] * (len(SINGLE) + 2)]]
    for name in names:
        figures = [counts[name, fault] for fault in SINGLE]
        lines.append([name, *map(str, figures), str(sum(figures)), str(bad[name])])
    totals = [sum(counts[name, fault] for name in names) for fault in SINGLE]
    lines.append(["**all**", *map(str, totals), str(sum(totals)), str(sum(bad.values()))])
    return _lines(lines)


def _counts(results: Collection[Result], row: Callable[[Result], str], title: str) -> str:
    counts = Counter(row(each) for each in results)
    bad = Counter(row(each) for each in results if each.broken)
    lines = [[title, "lived", "broken"], ["---", "---:", "---:"]]
    lines += [[name, str(count), str(bad[name])] for name, count in sorted(counts.items())]
    return _lines(lines)


def _lines(rows: Collection[list[str]]) -> str:
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
