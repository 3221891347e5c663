"""Evidence put together: cumulative counters, lost and late datagrams, crashes, intervals."""

from __future__ import annotations

import itertools

import msgspec
from edgesdk_agent.ota.evidence import LOADING_LIMIT_S, MAX_MISFITS, MAX_STREAMS, EvidenceBook
from edgesdk_agent.ota.intervals import summarise
from hypothesis import given, settings
from hypothesis import strategies as st

from edgesdk.protocol.evidence import Counters, Evidence
from edgesdk.telemetry.sketches import DDSketch

ALIVE, GONE = 1, 2
G = "a" * 64


def book() -> tuple[EvidenceBook, list[float]]:
    now = [100.0]
    return EvidenceBook(lambda: now[0], lambda pid: pid == ALIVE), now


def said(kind: str, seq: int, *, session: str = "session-1", pid: int = ALIVE, app: str = "app", **counters: object):
    return Evidence(
        v=1,
        kind=kind,
        app=app,
        pid=pid,
        session=session,
        seq=seq,
        model="m",
        generation=G,
        counters=Counters(**counters),
    )


def sketch(*values: float) -> dict[str, object]:
    made = DDSketch()
    for value in values:
        made.add(value)
    return made.to_dict()


def total(book: EvidenceBook) -> int:
    return sum(record.calls for record in summarise(book.interval(), lambda *_: ("1.0.0", "good")))


@settings(deadline=None)
@given(st.lists(st.integers(0, 20), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_lost_doubled_and_late_datagrams_do_not_bias(steps: list[int], draw) -> None:
    """Whatever arrives in whatever order, once the newest datagram is in, the counts are those of the app."""
    sums = list(itertools.accumulate(steps))
    datagrams = [said("counters", seq, calls=calls, nan=calls // 2) for seq, calls in enumerate(sums, 1)]
    arriving = [*draw.sample(datagrams, k=draw.randint(0, len(datagrams))), datagrams[-1]] * 2
    it, _ = book()
    for datagram in arriving:
        it.take(datagram)
    heard = it.heard("m", G)
    assert (heard.calls, heard.bad) == (sums[-1], sums[-1] // 2)


def test_sessions_add_up_and_a_reload_starts_again() -> None:
    """Two sessions are summed; a session that loads the generation again counts from zero on top."""
    it, _ = book()
    it.take(said("counters", 1, calls=10, errors={"inference-failed": 2}, nan=1))
    it.take(said("counters", 1, session="session-2", calls=5, slow=3))
    it.take(said("loading", 2))
    it.take(said("loaded", 3))
    it.take(said("counters", 4, calls=4, answered_by_good=1))
    heard = it.heard("m", G)
    assert (heard.calls, heard.bad, heard.slow, heard.answered_by_good) == (19, 3, 3, 1)


def test_loading_is_paired() -> None:
    """`loaded`, `load-failed` or counters pair a `loading`; a living process that loads has not crashed."""
    for kind in ("loaded", "counters", "load-failed"):
        it, _ = book()
        it.take(said("loading", 1, pid=GONE))
        it.take(said(kind, 2, pid=GONE))
        assert it.heard("m", G).crashes == {}
    it, now = book()
    it.take(said("loading", 1))
    it.take(said("loading", 1, session="session-2"))
    assert it.heard("m", G).crashes == {}
    now[0] += LOADING_LIMIT_S + 1
    assert it.heard("m", G).crashes == {"app": 2}


def test_crashes_are_counted_by_app() -> None:
    """Processes that end while they load count for their app."""
    it, _ = book()
    it.take(said("loading", 1, pid=GONE))
    it.take(said("loading", 1, pid=GONE, session="session-2"))
    it.take(said("loading", 1, pid=GONE, session="session-3", app="other"))
    assert it.heard("m", G).crashes == {"app": 2, "other": 1}


def test_load_failed_is_kept_with_its_reason() -> None:
    """The reason that an app gives reaches the verdict; a new trial forgets it."""
    it, _ = book()
    it.take(msgspec.structs.replace(said("load-failed", 1), reason={"code": "artifact-unloadable"}))
    assert it.heard("m", G).load_failed.code == "artifact-unloadable"
    it.forget("m", G)
    assert it.heard("m", G).load_failed is None


def test_apps_of_another_contract_are_told_apart() -> None:
    """They are named with their words, are no failed load and no crash, and are bounded; a new trial forgets them."""
    it, _ = book()
    for number in range(MAX_MISFITS + 5):
        app, session = f"app-{number}", f"session-{number}"
        it.take(said("loading", 1, app=app, session=session))
        asked = {"code": "contract-major", "message": f"{app} asks for 2.x"}
        it.take(msgspec.structs.replace(said("load-failed", 2, app=app, session=session), reason=asked))
    heard = it.heard("m", G)
    assert (heard.load_failed, heard.crashes, heard.apps) == (None, {}, ())
    assert len(heard.misfits) == MAX_MISFITS
    assert heard.misfits["app-0"] == "app-0 asks for 2.x"
    it.forget("m", G)
    assert it.heard("m", G).misfits == {}


def test_restart_of_the_agent_neither_loses_nor_doubles() -> None:
    """Restored figures stand until the session speaks again; then its cumulative counters replace them."""
    before, _ = book()
    before.take(said("counters", 7, calls=50, nan=5))
    before.take(said("counters", 3, session="ended", calls=20, nan=2))
    after, _ = book()
    after.restore("m", G, before.save("m", G), same_boot=True)
    assert (after.heard("m", G).calls, after.heard("m", G).bad) == (70, 7)
    after.take(said("counters", 8, calls=60, nan=5))
    assert (after.heard("m", G).calls, after.heard("m", G).bad) == (80, 7)


def test_intervals_are_differences() -> None:
    """Each interval holds what is new, sketches included; an interval without news is empty."""
    it, _ = book()
    it.take(said("counters", 1, calls=2, classes={"walk": 2}, latency_ms={"total": sketch(1.0, 2.0)}))
    (first,) = summarise(it.interval(), lambda *_: ("1.0.0", "good"))
    it.take(said("counters", 2, calls=3, classes={"walk": 2, "run": 1}, latency_ms={"total": sketch(1.0, 2.0, 64.0)}))
    (second,) = summarise(it.interval(), lambda *_: ("1.0.0", "trial"))
    assert (first.calls, first.classes, first.slot) == (2, {"walk": 2}, "good")
    assert (second.calls, second.classes, second.slot) == (1, {"run": 1}, "trial")
    latency = DDSketch.from_dict(second.latency_ms["total"])
    assert latency.count == 1
    assert abs(latency.quantile(0.5) - 64.0) <= 0.64
    assert abs(latency.sum - 64.0) < 1e-9
    assert it.interval() == []


@settings(deadline=None)
@given(st.lists(st.lists(st.floats(0.01, 1e4), max_size=8), min_size=1, max_size=6))
def test_intervals_add_up_to_the_whole(parts: list[list[float]]) -> None:
    """Merged interval sketches have the counts of the app's cumulative sketch, whatever was reported when."""
    it, _ = book()
    values: list[float] = []
    merged = DDSketch()
    for seq, part in enumerate(parts, 1):
        values += part
        it.take(said("counters", seq, calls=len(values), latency_ms={"total": sketch(*values)}))
        for record in summarise(it.interval(), lambda *_: ("1.0.0", "good")):
            merged.merge(DDSketch.from_dict(record.latency_ms["total"]))
    assert merged.to_dict()["positive"] == sketch(*values)["positive"]


def test_sessions_of_one_app_are_merged_and_unknown_generations_left_out() -> None:
    """One record per model, generation and app; what the store does not know is not reported."""
    it, _ = book()
    it.take(said("counters", 1, calls=2, latency_ms={"total": sketch(1.0)}))
    it.take(said("counters", 1, session="session-2", calls=3, latency_ms={"total": sketch(2.0)}))
    pieces = it.interval()
    (record,) = summarise(pieces, lambda *_: ("1.0.0", "good"))
    assert record.calls == 5
    assert DDSketch.from_dict(record.latency_ms["total"]).count == 2
    assert summarise(pieces, lambda *_: None) == ()


def test_reported_past_is_not_reported_again() -> None:
    """After a restart of the agent a session's cumulative counters do not repeat what was reported."""
    before, _ = book()
    before.take(said("counters", 1, calls=10))
    assert total(before) == 10
    after, _ = book()
    after.continue_from(before.reported())
    after.take(said("counters", 2, calls=15))
    assert total(after) == 5


def test_garbage_for_a_sketch_is_left_out() -> None:
    """An app that sends nonsense for a sketch loses that sketch, not the interval."""
    it, _ = book()
    it.take(said("counters", 1, calls=1, latency_ms={"total": {"encoding": "?"}}, confidence={"count": "x"}))
    it.take(said("counters", 2, calls=2, latency_ms={"total": {"count": []}}))
    (record,) = summarise(it.interval(), lambda *_: ("1.0.0", "good"))
    assert (record.calls, record.latency_ms, record.confidence) == (2, {}, None)
    it.take(said("counters", 3, calls=3, latency_ms={"total": {"count": 7, "positive": 1}}))
    assert total(it) == 1


def test_many_sessions_are_bounded_and_lose_no_telemetry() -> None:
    """Beyond the limit sessions are let go, ended ones first, and their figures are reported."""
    it, _ = book()
    for number in range(MAX_STREAMS + 50):
        it.take(said("counters", 1, session=f"session-{number}", pid=GONE, calls=1))
    assert total(it) == MAX_STREAMS + 50
    assert len(it.save("m", G)) == MAX_STREAMS


def test_a_session_stays_with_its_process() -> None:
    """Another process that learnt a session's name cannot wash its counters clean."""
    it, _ = book()
    it.take(said("counters", 1, calls=10, nan=5))
    it.take(said("counters", 99, calls=10_000, pid=GONE))
    assert (it.heard("m", G).calls, it.heard("m", G).bad) == (10, 5)
