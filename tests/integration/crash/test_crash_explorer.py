"""The explorer on the real agent: a part of it is well, and every way to break it is noticed.

The whole exploration is `python benchmarks/crash`; its last result is `docs/crash-table.md`.
"""

from __future__ import annotations

import random
from itertools import islice

import pytest
from crash.explore import Results, explore
from crash.mutants import MUTANTS
from crash.plan import close_pairs, pairs, singles
from crash.pool import pool
from crash.recording import Recording
from crash.scenarios import SCENARIOS

EVERY, OF_THESE, PAIRS = 45, 2, 20
SHOWN_IN = {
    "no file sync": "remove",
    "no folder sync": "remove",
    "no sync of unpacked files": "update",
    "renames swapped": "update",
    "slots overwritten in place": "remove",
    "state.db not synced": "remove",
    "commit by two writes": "update",
    "a second try believes the first": "remove",
}
NEEDS_TWO = {"a second try believes the first"}


def near_moves(recording: Recording) -> set[int]:
    """Return the numbers of the calls that move slots and generations, and of the next eight after each."""
    moves = [call.number for call in recording.durable if "slots.json" in call.path or "/generations/" in call.other]
    return {number + after for number in moves for after in range(9)} & set(range(1, len(recording.durable) + 1))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_part_of_all_faults() -> None:
    """At every 45th call of every scenario half of all faults, and some pairs, leave a serviceable device."""
    results = Results(None)
    with pool() as workers:
        recordings = {name: workers.record(name) for name in SCENARIOS}
        histories = list(pairs(recordings, PAIRS, seed=7))
        histories += islice(close_pairs(recordings, seed=7), 0, None, EVERY)
        for number, (name, recording) in enumerate(recordings.items()):
            calls = range(1 + number, len(recording.durable) + 1, EVERY)
            histories += islice(singles(name, recording, calls), number % OF_THESE, None, OF_THESE)
        broken = explore(workers, histories, results)
    assert [(result.key, result.broken) for result in broken] == []
    kinds = {result.fault.partition(":")[0] for result in results.all.values()}
    assert kinds >= {"kill", "ENOSPC", "EIO", "full", "short", "power"}
    assert len(results.all) > 100


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_agent_is_noticed(mutant: str) -> None:
    """Each way to break the agent on purpose is seen in one scenario, which is well without it (see above)."""
    with pool(mutant=mutant) as workers:
        name = SHOWN_IN[mutant]
        recording = workers.record(name)
        histories = list(singles(name, recording, near_moves(recording)))
        if mutant in NEEDS_TWO:
            histories = [each for seed in range(20) for each in close_pairs({name: recording}, seed)]
        random.Random(1).shuffle(histories)
        found = explore(workers, histories, Results(None), until_broken=True)
    assert found
