"""`state.db` on real SQLite: one transaction, counters that never repeat, floors that survive its loss."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
from pathlib import Path

import pytest
from edgesdk_agent.store.records import Accepted, Quarantined, StatementDraft
from edgesdk_agent.store.state import COUNTER_BLOCK, StateDb, later

from edgesdk.errors import DeploymentError
from edgesdk.protocol.messages import Reason

EXTRA = 3
DRAFT = StatementDraft(
    model="wearable",
    deployment="d1",
    serial=7,
    release="1.0.0",
    generation="a" * 64,
    state="trial",
    good=None,
    good_release=None,
    serving="trial",
    run="run",
    boot="boot",
    ts="2026-11-23T00:00:00.000Z",
)
BAD = Quarantined(
    generation="b" * 64, model="wearable", release="2.0.0", reason=Reason(code="trial-evidence"), at="now"
)
ACCEPTED = Accepted(
    envelope={"payload": "x"}, serial=41, payload_sha256="c" * 64, keys_epoch=1, time_floor="2026-11-23T00:00:00.000Z"
)


def test_journal_statement_and_quarantine_are_one_transaction(state: StateDb) -> None:
    """All three are there after `record`; the statement has its counter."""
    stated = state.record("wearable", b"journal", statement=DRAFT, quarantine=BAD)
    assert stated is not None
    assert stated.counter == 1
    assert state.journals() == {"wearable": b"journal"}
    assert state.quarantined() == {BAD.generation: BAD}
    assert state.unsigned() == [stated]


def test_nothing_is_written_when_one_part_fails(state: StateDb) -> None:
    """A statement that cannot be written leaves the old journal."""
    state.record("wearable", b"old")
    state._write([("CREATE TRIGGER no BEFORE INSERT ON statement BEGIN SELECT RAISE(ABORT, 'no'); END", ())])
    with pytest.raises(sqlite3.IntegrityError):
        state.record("wearable", b"new", statement=DRAFT)
    assert state.journals() == {"wearable": b"old"}


def test_the_way_of_a_statement(state: StateDb) -> None:
    """Unsigned, signed, sent; the latest envelope of a model stays for `up/state`, older sent ones go."""
    for _ in range(3):
        state.append_statement(DRAFT)
    state.attach_envelopes({1: {"n": 1}, 2: {"n": 2}})
    assert [draft.counter for draft in state.unsigned()] == [3]
    assert [(draft.counter, envelope) for draft, envelope in state.unsent()] == [(1, {"n": 1}), (2, {"n": 2})]
    state.mark_sent([1, 2])
    assert state.unsent() == []
    assert state.latest_envelopes() == {"wearable": {"n": 2}}
    assert state.latest_drafts()["wearable"].counter == 3
    state.attach_envelopes({3: {"n": 3}})
    state.mark_sent([3])
    assert state.latest_envelopes() == {"wearable": {"n": 3}}
    assert state.get("counter") == "3"


def test_a_transaction_ends_durably_in_any_journal_mode(tmp_path: Path) -> None:
    """Where an error kept SQLite out of WAL mode, FULL would not sync the name of the journal that a commit removes."""
    state = StateDb(tmp_path / "state.db")
    (level,) = state._rows("PRAGMA synchronous")[0]
    assert level == EXTRA
    state.close()


def test_counters_go_on_after_a_restart(tmp_path: Path) -> None:
    """The counter is durable, also when every statement was sent and forgotten."""
    first = StateDb(tmp_path / "state.db")
    first.append_statement(DRAFT)
    first.close()
    again = StateDb(tmp_path / "state.db")
    assert not again.rebuilt
    assert again.append_statement(DRAFT).counter == 2
    again.close()


@pytest.mark.parametrize("damage", ["garbage", "lost", "truncated", "emptied"])
def test_loss_forgets_no_counter_serial_time_or_quarantine(tmp_path: Path, damage: str) -> None:
    """Without `state.db` counters jump ahead, and serial, time floor and quarantine are as before."""
    path = tmp_path / "state.db"
    state = StateDb(path)
    assert state.rebuilt
    for _ in range(COUNTER_BLOCK + 5):
        last = state.append_statement(DRAFT).counter
    state.record("wearable", b"x", quarantine=BAD)
    state.accept(ACCEPTED)
    state.raise_time_floor("2026-12-01T00:00:00.000Z")
    state.close()
    if damage == "garbage":
        path.write_bytes(b"this is no database" * 100)
    elif damage == "truncated":
        os.truncate(path, 5000)
    elif damage == "emptied":  # SQLite takes it for a new one
        os.truncate(path, 0)
    else:
        path.unlink()
    again = StateDb(path)
    assert again.rebuilt
    assert again.journals() == {}
    assert again.append_statement(DRAFT).counter > last
    assert again.serial_floor == 41
    assert again.accepted() is None
    assert again.time_floor == "2026-12-01T00:00:00.000Z"
    assert again.quarantined() == {BAD.generation: BAD}
    again.close()


def test_loss_of_the_floors_is_made_good_from_the_database(tmp_path: Path) -> None:
    """`floors.json` is written again from `state.db`."""
    state = StateDb(tmp_path / "state.db")
    state.append_statement(DRAFT)
    state.accept(ACCEPTED)
    state.record("wearable", b"x", quarantine=BAD)
    state.close()
    (tmp_path / "floors.json").write_bytes(b"{")
    again = StateDb(tmp_path / "state.db")
    assert (again.serial_floor, again.time_floor) == (41, ACCEPTED.time_floor)
    assert again.append_statement(DRAFT).counter == 2
    assert again.quarantined() == {BAD.generation: BAD}
    again.close()


def test_time_floor_only_advances(state: StateDb) -> None:
    """An earlier time changes nothing; time zones are understood."""
    state.raise_time_floor("2026-11-23T10:00:00.000Z")
    state.raise_time_floor("2026-11-23T10:30:00.000+02:00")
    assert state.time_floor == "2026-11-23T10:00:00.000Z"
    assert later("", "2026-11-23T10:00:00Z") == "2026-11-23T10:00:00Z"


def test_commands_are_carried_out_once(state: StateDb) -> None:
    """An id is new once, until it has expired."""
    assert state.first_sight("id-1", expires_at="2026-02", now="2026-01")
    assert not state.first_sight("id-1", expires_at="2026-02", now="2026-01")
    assert state.first_sight("id-2", expires_at="2026-04", now="2026-03")
    assert state._rows("SELECT id FROM command") == [("id-2",)]


def test_new_enrolment_starts_its_counter_anew(state: StateDb) -> None:
    """Statements, counter, desired and serial belong to an enrolment; journal and quarantine to the device."""
    state.record("wearable", b"journal", statement=DRAFT, quarantine=BAD)
    state.accept(ACCEPTED)
    state.begin_enrolment()
    assert (state.unsigned(), state.accepted(), state.serial_floor) == ([], None, 0)
    assert state.append_statement(DRAFT).counter == 1
    assert state.journals() == {"wearable": b"journal"}
    assert state.quarantined() == {BAD.generation: BAD}


def test_files_are_private(state: StateDb, tmp_path: Path) -> None:
    """Database and floors are readable by the agent alone."""
    state.append_statement(DRAFT)
    for name in ("state.db", "floors.json"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600


def test_threads_share_it(state: StateDb) -> None:
    """Statements of several threads have counters of their own."""
    threads = [threading.Thread(target=lambda: [state.append_statement(DRAFT) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [draft.counter for draft in state.unsigned(limit=100)] == list(range(1, 81))


def test_later_schema_is_refused(tmp_path: Path) -> None:
    """A file of a newer agent is not touched."""
    StateDb(tmp_path / "state.db").close()
    with sqlite3.connect(tmp_path / "state.db") as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(DeploymentError, match="schema 99"):
        StateDb(tmp_path / "state.db")
