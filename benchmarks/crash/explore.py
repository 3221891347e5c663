"""Runs histories, remembers what came of each in a file, and goes on where it was stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from crash.plan import History
from crash.pool import Pool


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one history.

    Attributes:
        reached: Whether all its faults came to pass (a second one may be later than the run's end).
        broken: Invariants that do not hold; empty: all is well.
    """

    key: str
    scenario: str
    fault: str
    call: str
    state: str
    reached: bool
    broken: list[str]


class Results:
    """A file of results, one JSON document a line.

    Args:
        path: None: kept in memory only.
    """

    def __init__(self, path: Path | None) -> None:
        self._file = path.open("ab") if path else None
        lines = path.read_bytes().splitlines() if path else []
        self.all = {result.key: result for line in lines if (result := _decode(line))}

    def add(self, result: Result) -> None:
        """Remember one."""
        self.all[result.key] = result
        if self._file:
            self._file.write(msgspec.json.encode(result) + b"\n")
            self._file.flush()


def _decode(line: bytes) -> Result | None:
    try:
        return msgspec.json.decode(line, type=Result)
    except msgspec.DecodeError:  # the explorer was killed over this line
        return None


def explore(
    workers: Pool,
    histories: Iterable[History],
    results: Results,
    *,
    until_broken: bool = False,
    deadline: float | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> list[Result]:
    """Live the histories that have no result yet; return the broken ones of those.

    Args:
        workers: Where they are lived.
        histories: What is to be lived.
        results: What has been.
        until_broken: Stop at the first broken one.
        deadline: Stop then (`time.monotonic`).
        say: Told now and then how far it is.
    """
    known = {history.key: history for history in histories}
    todo = {json.dumps(each.task): each for key, each in known.items() if key not in results.all}
    broken: list[Result] = []
    began, done = time.monotonic(), 0

    def take(task: dict[str, Any], answer: dict[str, Any]) -> bool:
        nonlocal done
        of = todo[json.dumps(task)]
        result = Result(
            key=of.key,
            scenario=of.scenario,
            fault=of.fault,
            call=of.call,
            state=of.state,
            reached=answer.get("reached", True),
            broken=answer["broken"],
        )
        results.add(result)
        done += 1
        if result.broken:
            broken.append(result)
            say(f"BROKEN {result.key}: {'; '.join(result.broken)}")
        elif done % 500 == 0:
            say(f"{done} of {len(todo)} lived, {len(broken)} broken, {time.monotonic() - began:.0f} s")
        return not (until_broken and broken) and (deadline is None or time.monotonic() < deadline)

    workers.map((each.task for each in todo.values()), take)
    return broken
