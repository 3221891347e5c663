from hypothesis import given
from hypothesis import strategies as st

from edgesdk.telemetry.sequence import Gap, SequenceTracker

SEQ = st.integers(0, 40)
STEPS = st.lists(st.tuples(st.just("seen"), SEQ, SEQ) | st.tuples(st.just("lost"), SEQ, SEQ), max_size=60)


def numbers(gaps):
    return [seq for gap in gaps for seq in range(gap.first, gap.last + 1)]


@given(STEPS)
def test_ranges_say_what_a_set_of_numbers_says(steps):
    """Whatever order things come in: new exactly once, gaps name exactly what is missing above the highest."""
    tracker, held, top = SequenceTracker(), set(), None
    for kind, first, last in steps:
        if kind == "seen":
            new, gaps = tracker.observe("d", "r", first)
            assert new == (first not in held)
            between = range(first if top is None else top + 1, first)
            assert numbers(gaps) == ([seq for seq in between if seq not in held] if new else [])
            held.add(first)
            top = first if new and (top is None or first > top) else top
        else:
            expected = [seq for seq in range(first, last + 1) if seq not in held]
            assert numbers(tracker.declare_lost("d", "r", first, last)) == expected
            held.update(expected)


def test_joining_in_the_middle_is_no_gap_and_a_late_record_is_no_duplicate():
    """The first record seen may have any number; what came before is delivered when it comes."""
    tracker = SequenceTracker()
    assert tracker.observe("d", "r", 100) == (True, [])
    assert tracker.observe("d", "r", 50) == (True, [])
    assert tracker.observe("d", "r", 103) == (True, [Gap(device="d", run="r", first=101, last=102)])
    assert tracker.observe("d", "r", 101) == (True, [])
    assert tracker.observe("d", "r", 101) == (False, [])


def test_runs_and_devices_count_apart():
    """A restarted agent begins a new run; the same number of another device is another record."""
    tracker = SequenceTracker()
    assert [tracker.observe(*key, 1)[0] for key in (("a", "r"), ("a", "s"), ("b", "r"), ("a", "r"))] == [
        True, True, True, False,
    ]  # fmt: skip


def test_declared_losses_are_not_reported_as_missing_again():
    """The device's own word comes once; a gap around it names the rest only."""
    tracker = SequenceTracker()
    tracker.observe("d", "r", 1)
    assert tracker.declare_lost("d", "r", 2, 4) == [Gap(device="d", run="r", first=2, last=4, declared=True)]
    assert tracker.observe("d", "r", 7)[1] == [Gap(device="d", run="r", first=5, last=6)]
    assert tracker.declare_lost("d", "r", 2, 4) == []
    assert tracker.declare_lost("d", "r", 9, 3) == []


def test_memory_is_bounded_and_forgetting_never_loses():
    """Beyond the limits the oldest is forgotten: what comes again from there is delivered twice, not dropped."""
    tracker = SequenceTracker(max_streams=2, max_ranges=3)
    for seq in (1, 3, 5, 7, 9):
        tracker.observe("d", "r", seq)
    assert tracker.observe("d", "r", 9) == (False, [])
    assert tracker.observe("d", "r", 1)[0]
    for device in ("e", "f"):
        tracker.observe(device, "r", 1)
    assert tracker.observe("d", "r", 9)[0]
