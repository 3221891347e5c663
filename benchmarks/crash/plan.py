"""What is to be lived: every single fault of a recorded run, and pairs drawn from a seed (pure)."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from crash.recording import Recording

ERRORS = ("ENOSPC", "EIO", "full")
DRAWN = ("cut, then cut", "error, then cut", "cut, then error", "error, then error")
CLOSE = ("failed sync, then power", "kill after a rename, then power")
PAIRS = (*DRAWN, *CLOSE)
START_CALLS = 30
LATER = ((1, 8), (9, 30), (31, 120))
"""How many calls after the first fault of a close pair the power goes: one draw from each."""


@dataclass(frozen=True, slots=True)
class History:
    """One history: what the worker is asked, and where it belongs in the table.

    Attributes:
        fault: Row of the table: ``kill``, ``power: torn``, …, or the kind of a pair.
        call: The system call that the (first) fault met.
        state: The deployment's state in which it did.
        task: For the worker.
    """

    scenario: str
    fault: str
    call: str
    state: str
    task: dict[str, Any]

    @property
    def key(self) -> str:
        """Names it in the results."""
        return f"{self.scenario}|{self.fault}|{self.task.get('lives') or (self.task['at'], self.task['outcome'])}"


def singles(scenario: str, recording: Recording, numbers: Collection[int] | None = None) -> Iterator[History]:
    """Yield every single fault at every call of a run (or at the calls of these numbers)."""
    calls, states = recording.durable, recording.states
    for call, state in zip(calls, states, strict=True):
        if numbers is not None and call.number not in numbers:
            continue
        kinds = ["kill", *ERRORS, *(["short"] if call.op == "write" and len(call.data) > 1 else [])]
        for kind in kinds:
            task: dict[str, Any] = {"do": "run", "scenario": scenario, "lives": [[[kind, call.number]]]}
            yield History(scenario, kind, call.op, state, task)
    for at, outcome, name in recording.power_cuts(numbers):
        op = calls[at - 1].op if at <= len(calls) else "the end"
        state = states[at - 1] if at <= len(calls) else states[-1]
        replay: dict[str, Any] = {"do": "replay", "scenario": scenario, "at": at, "outcome": outcome}
        yield History(scenario, f"power: {name}", op, state, replay)


def pairs(recordings: Mapping[str, Recording], count: int, seed: int) -> Iterator[History]:
    """Yield `count` pairs, the same for the same seed and recordings; a cut may be a kill."""
    draw = random.Random(seed)
    names = sorted(recordings)
    for _ in range(count):
        name = draw.choices(names, [len(recordings[each].durable) for each in names])[0]
        calls, states = recordings[name].durable, recordings[name].states
        kind = draw.choice(DRAWN)
        first = draw.randint(1, len(calls))
        rest = len(calls) - first + START_CALLS
        cut_first, cut_second = kind.startswith("cut"), kind.endswith("cut")
        one = _cut(draw, first) if cut_first else [_error(draw, calls[first - 1].op), first]
        second = draw.randint(1, rest) if cut_first else first + draw.randint(1, max(rest - START_CALLS, 1) + 5)
        two = _cut(draw, second) if cut_second else [draw.choice(ERRORS), second]
        lives = [[one], [two]] if cut_first else [[one, two]]
        task = {"do": "run", "scenario": name, "lives": lives}
        yield History(name, kind, calls[first - 1].op, states[first - 1], task)


def close_pairs(recordings: Mapping[str, Recording], seed: int) -> Iterator[History]:
    """Yield the pairs that find what a second try forgets: it meets a world in which something seems to be done.

    After every sync that failed, and after a kill behind every rename (its folder not synced), the power goes soon,
    later, and much later.
    """
    draw = random.Random(seed)
    for name, recording in sorted(recordings.items()):
        for call, state in zip(recording.durable, recording.states, strict=True):
            for first, last in LATER:
                after, outcome = draw.randint(first, last), draw.randrange(1 << 16)
                if call.op in {"fsync", "fdatasync"}:
                    lives: list[Any] = [[["EIO", call.number], ["power", call.number + after, outcome]]]
                    kind = CLOSE[0]
                elif call.op == "rename":
                    lives = [[["kill", call.number + 1]], [["power", after, outcome]]]
                    kind = CLOSE[1]
                else:
                    continue
                task = {"do": "run", "scenario": name, "lives": lives}
                yield History(name, kind, call.op, state, task)


def _cut(draw: random.Random, at: int) -> list[Any]:
    return ["kill", at] if draw.random() < 0.2 else ["power", at, draw.randrange(1 << 16)]  # noqa: PLR2004 - a fifth


def _error(draw: random.Random, op: str) -> str:
    return draw.choice(("ENOSPC", "EIO", "short") if op == "write" else ("ENOSPC", "EIO"))
