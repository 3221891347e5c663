"""What a ledger makes of calls."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from hypothesis import given
from hypothesis import strategies as st

from edgesdk.app.ledger import Ledger, Note
from edgesdk.runtime.session import Timings
from edgesdk.telemetry.sketches import DDSketch

notes = st.builds(
    Note,
    timings=st.one_of(st.none(), st.builds(Timings, *[st.floats(0, 1000)] * 3)),
    error=st.one_of(st.none(), st.just("inference-failed")),
    nan=st.booleans(),
    reject=st.booleans(),
    by_good=st.booleans(),
    labels=st.lists(st.sampled_from(["a", "b"]), max_size=2).map(tuple),
)


@given(st.lists(st.lists(notes, max_size=6), max_size=5))
def test_counters_do_not_depend_on_when_they_are_folded(batches: list[list[Note]]) -> None:
    """Counters are cumulative sums over all notes, whatever the batches in which they were folded."""
    ledger = Ledger(slow_ms=500.0)
    for batch in batches:
        for note in batch:
            ledger.note(note)
        assert ledger.fold() is bool(batch)
    reached = [note for batch in batches for note in batch if not note.reject]
    found = ledger.counters()
    assert found.calls == len(reached)
    assert found.rejects == sum(map(len, batches)) - len(reached)
    assert found.nan == sum(note.nan for note in reached)
    assert sum(found.errors.values()) == sum(note.error is not None for note in reached)
    assert found.slow == sum(note.timings is not None and note.timings.total_ms > 500 for note in reached)
    assert sum(found.classes.values()) == sum(len(note.labels) for note in reached)
    timed = sum(note.timings is not None for note in reached)
    assert not timed or DDSketch.from_dict(found.latency_ms["total"]).count == timed


def test_threads_lose_no_note() -> None:
    """Noting takes no lock and loses nothing while another thread folds."""
    ledger = Ledger(slow_ms=None)
    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(lambda: [ledger.note(Note()) for _ in range(2000)]) for _ in range(3)]
        while not all(each.done() for each in running):
            ledger.fold()
    ledger.fold()
    assert ledger.counters().calls == 6000
