"""What testing measures of a model's cost: the time of its calls, alone and beside another's; the memory they leave.

It decides nothing; `workers.judging` does.
"""

from __future__ import annotations

import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.errors import ContractError
from edgesdk.runtime import Session
from edgesdk_agent.workers.messages import LatencyResult

Array = NDArray[Any]
Example = Mapping[str, Array]

PASSES = 3
PAIRS = 100
REPEATS = 3
MIN_PAIRS = 7
"""The fewest pairs of which a sign test can refuse at 1 %: 2 ** -7."""
BLOCKS = 8
"""All of them rising by chance: 2 ** -8."""
BLOCK_CALLS = 64
MIN_BLOCK_CALLS = 8


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident bytes before the first block of calls and after each."""

    resident: tuple[int, ...]
    calls_per_block: int


def time_calls(session: Session, calls: Sequence[Example], *, budget: float | None, share: float) -> LatencyResult:
    """Time calls after a warm-up; the best of a few passes, so that a busy moment is not held against a model.

    Args:
        session: The model.
        calls: Inputs, each called once in a pass.
        budget: Milliseconds; within them one pass is enough.
        share: The quantile that is judged.
    """
    session.run(calls[0])
    best: LatencyResult | None = None
    for _ in range(PASSES):
        times = [session.run_timed(example)[1].total_ms for example in calls]
        p50, p95, judged = (float(np.quantile(times, q)) for q in (0.5, 0.95, share))
        found = LatencyResult(count=len(times), p50_ms=p50, p95_ms=p95, judged_ms=judged, budget_ms=budget)
        best = found if best is None or found.judged_ms < best.judged_ms else best
        if budget is None or best.judged_ms <= budget:
            break
    assert best is not None
    return best


def takes(session: Session, example: Example) -> bool:
    """Say whether a model takes these inputs; another major of the contract may not."""
    try:
        session.check(example)
    except ContractError:
        return False
    return True


def time_in_turn(
    one: Session, its_calls: Sequence[Example], other: Session, other_calls: Sequence[Example], *, seconds: float
) -> tuple[list[float], list[float]]:
    """Call two models in turn, each pair in the other order than the one before it.

    Returns:
        Milliseconds of `PAIRS` pairs; of fewer, but `MIN_PAIRS`, when they take longer than `seconds`.

    Raises:
        EdgeError: When a model cannot be called.
    """
    one.run(its_calls[0])
    other.run(other_calls[0])
    its_ms: list[float] = []
    other_ms: list[float] = []
    end = monotonic() + seconds
    for pair, (its, others) in enumerate(islice(zip(cycle(its_calls), cycle(other_calls), strict=False), PAIRS)):
        if pair >= MIN_PAIRS and monotonic() > end:
            break
        for is_one in (True, False) if pair % 2 else (False, True):
            if is_one:
                its_ms.append(_best_of(one, its))
            else:
                other_ms.append(_best_of(other, others))
    return its_ms, other_ms


def _best_of(session: Session, example: Example) -> float:
    """Return the shortest of a few calls: an interruption only ever lengthens one."""
    return min(session.run_timed(example)[1].total_ms for _ in range(REPEATS))


def watch_memory(session: Session, calls: Sequence[Example], *, seconds: float) -> Memory | None:
    """Call a model again and again, handing on its states as an app would, and see how much memory it holds.

    Two blocks that are not counted let caches and allocators fill.

    Returns:
        None when so few calls fit into `seconds` that nothing could be said.
    """
    inputs = cycle(calls)
    states: dict[str, Array] = {}
    started = monotonic()
    states = _call(session, inputs, states, MIN_BLOCK_CALLS)
    per_call = max((monotonic() - started) / MIN_BLOCK_CALLS, 1e-6)
    count = min(BLOCK_CALLS, int(seconds / per_call / (BLOCKS + 2)))
    if count < MIN_BLOCK_CALLS:
        return None
    states = _call(session, inputs, states, 2 * count)
    resident = [_resident()]
    for _ in range(BLOCKS):
        states = _call(session, inputs, states, count)
        resident.append(_resident())
    return Memory(tuple(resident), count)


def _call(session: Session, inputs: cycle[Example], states: dict[str, Array], count: int) -> dict[str, Array]:
    kept = session.contract.states
    for example in islice(inputs, count):
        given = {name: value for name, value in example.items() if name not in states}
        outputs = session.run({**given, **states})
        states = {state.input: outputs[state.output] for state in kept}
    return states


def _resident() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
