"""The explorer on the real agent: a part of it is well, and every way to break it is noticed.

The whole exploration is `python benchmarks/crash`; its last result is `docs/crash-table.md`.
"""

from __future__ import annotations

import random
from itertools import islice

import pytest
from crash.explore import Results, explore
from crash.mutants import MUTANTS
from crash.plan import pairs, singles
from crash.pool import pool
from crash.scenarios import SCENARIOS

EVERY, OF_THESE, PAIRS = 45, 3, 30
SHOWN_IN = {
    "no file sync": "remove",
    "no folder sync": "remove",
    "no sync of unpacked files": "update",
    "renames swapped": "update",
    "slots overwritten in place": "remove",
    "state.db not synced": "remove",
    "commit by two writes": "update",
}


def test_a_part_of_all_faults() -> None:
    """At every 45th call of every scenario a third of all faults, and some pairs, leave a serviceable device."""
    results = Results(None)
    with pool() as workers:
        recordings = {name: workers.record(name) for name in SCENARIOS}
        histories = list(pairs(recordings, PAIRS, seed=7))
        for number, (name, recording) in enumerate(recordings.items()):
            calls = range(1 + number, len(recording.durable) + 1, EVERY)
            histories += islice(singles(name, recording, calls), number % OF_THESE, None, OF_THESE)
        broken = explore(workers, histories, results)
    assert [(result.key, result.broken) for result in broken] == []
    kinds = {result.fault.partition(":")[0] for result in results.all.values()}
    assert kinds >= {"kill", "ENOSPC", "EIO", "full", "short", "power"}
    assert len(results.all) > 150


@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_broken_agent_is_noticed(mutant: str) -> None:
    """Each way to break the agent on purpose is seen in one scenario, which is well without it (see above)."""
    with pool(mutant=mutant) as workers:
        name = SHOWN_IN[mutant]
        histories = list(singles(name, workers.record(name), None if name == "remove" else range(200, 280)))
        random.Random(1).shuffle(histories)
        found = explore(workers, histories[:400], Results(None), until_broken=True)
    assert found
