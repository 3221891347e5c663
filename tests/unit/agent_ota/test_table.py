"""The deployment table: complete, reachable, without a way to spin or to be stuck."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path

import pytest
from edgesdk_agent.ota.table import (
    ACTIONS,
    DOES,
    EVENTS,
    EXTERNAL,
    IN_PROGRESS,
    MEANING,
    STATES,
    TABLE,
    WORK,
    Facts,
    Row,
    transition,
)
from hypothesis import given, settings
from hypothesis import strategies as st

FACTS = [Facts(*flags) for flags in itertools.product((False, True), repeat=5)]
RESTING = set(STATES) - IN_PROGRESS
CAN_HAPPEN: dict[str, set[str]] = {
    "idle": {"asked"},
    "offered": {"fits", "unfit", "broke", "superseded"},
    "refused": {"asked", "removed"},
    "downloading": {"done", "broke", "superseded"},
    "verified": {"done", "broke", "superseded"},
    "staged": {"done", "broke", "superseded"},
    "testing": {"done", "broke", "superseded"},
    "trial": {"accepted", "against", "broke", "superseded"},
    "committed": {"asked", "removed"},
    "failed": {"asked", "removed"},
    "rolled_back": {"asked", "removed"},
}


def reachable(start: str, rows: tuple[Row, ...]) -> set[str]:
    found, open_ = set(), [start]
    while open_:
        state = open_.pop()
        following = {row.next for row in rows if row.state == state} - found
        found |= following
        open_ += following
    return found


def test_every_event_that_can_happen_has_a_row() -> None:
    """For every state, every event that its work or a desired document can cause, and all facts, there is a row."""
    for state, events in CAN_HAPPEN.items():
        for event, facts in itertools.product(events, FACTS):
            assert transition(state, event, facts).state == state


def test_no_other_event_has_a_row() -> None:
    """An impossible event is a LookupError, not a silent step; only transient failures are retried."""
    for state, event in itertools.product(STATES, EVENTS):
        if event in CAN_HAPPEN[state] or (state, event) == ("failed", "retry"):
            continue
        for facts in FACTS:
            with pytest.raises(LookupError):
                transition(state, event, facts)
    with pytest.raises(LookupError):
        transition("failed", "retry", Facts(permanent=True))
    assert transition("failed", "retry", Facts()).next == "offered"


def test_every_row_can_count() -> None:
    """No row is hidden by the rows above it."""
    for row in TABLE:
        assert any(row.state in STATES and _first(row, facts) is row for facts in FACTS), row


def _first(row: Row, facts: Facts) -> Row | None:
    try:
        return transition(row.state, row.event, facts)
    except LookupError:
        return None


def test_every_state_is_reached_and_left() -> None:
    """From idle every state can be reached, and from every state both idle and committed can: nothing wedges."""
    assert reachable("idle", TABLE) == set(STATES)
    for state in STATES:
        assert {"idle", "committed"} <= reachable(state, TABLE)


def test_without_outside_events_it_comes_to_rest() -> None:
    """Loop guard: rows that follow from work alone form no cycle, so a model cannot spin without a wait."""
    inner = tuple(row for row in TABLE if row.event not in EXTERNAL)
    for state in STATES:
        assert state not in reachable(state, inner)


@settings(deadline=None)
@given(st.data())
def test_any_work_ends_in_a_resting_state(data: st.DataObject) -> None:
    """However the work of each state ends, at most six states later the model rests."""
    state = "offered"
    for _ in range(6):
        if state in RESTING:
            return
        rows = sorted({row.event for row in TABLE if row.state == state} - EXTERNAL)
        facts = data.draw(st.sampled_from(FACTS))
        state = transition(state, data.draw(st.sampled_from(rows)), facts).next
    assert state in RESTING


def test_good_changes_only_at_the_end_of_a_trial() -> None:
    """Commit follows from an accepted trial alone, and a trial begins only when testing is done."""
    assert [(row.state, row.event) for row in TABLE if row.action == "commit"] == [("trial", "accepted")]
    assert [(row.state, row.event) for row in TABLE if row.next == "trial"] == [("testing", "done")]
    assert [row.action for row in TABLE if row.next == "trial"] == ["begin trial"]


def test_every_way_out_of_a_trial_moves_the_slots() -> None:
    """No row leaves a trial with apps still served by it."""
    assert {row.action for row in TABLE if row.state == "trial"} == {"commit", "roll back", "withdraw"}


def test_quarantine_is_for_what_failed_here_in_testing_or_trial() -> None:
    """A permanent failure in testing and evidence against a trial quarantine; a newer desired does not."""
    quarantining = {(row.state, row.event, row.guard) for row in TABLE if row.action in {"quarantine", "roll back"}}
    assert quarantining == {("testing", "broke", "permanent"), ("trial", "against", "always")}


def test_a_quarantined_generation_is_not_downloaded() -> None:
    """Quarantine comes before bytes that are here and before the download."""
    for here in (False, True):
        assert transition("offered", "fits", Facts(quarantined=True, is_here=here)).next == "failed"


def test_every_word_is_explained() -> None:
    """Events, actions and states each have a sentence."""
    assert set(MEANING) == set(EVENTS)
    assert set(DOES) == set(ACTIONS)
    assert set(WORK) == set(STATES)


def test_the_page_is_the_table(repository_root: Path) -> None:
    """`docs/deployment-states.md` equals its rendering."""
    script = repository_root / "docs" / "render_states.py"
    spec = importlib.util.spec_from_file_location("render_states", script)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.TARGET.read_text(encoding="utf-8") == module.render(), "run: python docs/render_states.py"
