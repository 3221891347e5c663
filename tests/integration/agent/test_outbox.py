"""The outbox keeps what was not acknowledged, counts what it had to drop, and survives what happens to its file."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import Future
from pathlib import Path

import msgspec
import pytest
from edgesdk_agent.telemetry.outbox import Outbox, merge_ranges
from edgesdk_agent.telemetry.publisher import Publisher, mark_historical
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.errors import LinkError
from edgesdk.protocol.messages import Lost


def message(seq: int, lost: tuple[Lost, ...], *, size: int = 0) -> bytes:
    return msgspec.json.encode({"seq": seq, "lost": msgspec.to_builtins(lost), "filler": "x" * size})


def add(outbox: Outbox, count: int, *, size: int = 0) -> None:
    for _ in range(count):
        outbox.append("telemetry", lambda seq, lost: message(seq, lost, size=size))


def sequences(outbox: Outbox) -> list[tuple[str, int]]:
    return [(row.run, row.seq) for row in outbox.waiting(after=0, limit=10_000)]


def test_messages_wait_until_they_are_acknowledged(tmp_path: Path) -> None:
    """They survive a new run with their run and number; only acknowledged ones are gone."""
    first = Outbox(tmp_path / "t.db", run="a", budget_bytes=10_000)
    add(first, 3)
    first.acknowledge(first.waiting(after=0, limit=1))
    first.close()
    second = Outbox(tmp_path / "t.db", run="b", budget_bytes=10_000)
    add(second, 1)
    assert sequences(second) == [("a", 2), ("a", 3), ("b", 1)]
    assert second.newest() == 4


def test_the_budget_drops_the_oldest_and_tells(tmp_path: Path) -> None:
    """Beyond the budget the oldest go; the next message tells which, and a told range survives its own drop."""
    outbox = Outbox(tmp_path / "t.db", run="a", budget_bytes=1000)
    add(outbox, 20, size=200)
    kept = outbox.waiting(after=0, limit=100)
    assert outbox.size()[1] <= 1000
    told = {
        seq
        for row in kept
        for lost in msgspec.json.decode(row.payload)["lost"]
        for first, last in lost["ranges"]
        for seq in range(first, last + 1)
    }
    untold = {seq for lost in outbox.lost("telemetry") for first, last in lost.ranges for seq in range(first, last + 1)}
    present = {row.seq for row in kept}
    assert told | untold | present == set(range(1, 21)), "nothing vanishes without a word"
    assert not present & (told | untold)


def test_what_the_daily_cap_costs_is_told(tmp_path: Path) -> None:
    """A skipped message takes its number and is named by the next one, once."""
    outbox = Outbox(tmp_path / "t.db", run="a", budget_bytes=10_000)
    outbox.skip("telemetry")
    outbox.skip("telemetry")
    add(outbox, 2)
    lost = [msgspec.json.decode(row.payload)["lost"] for row in outbox.waiting(after=0, limit=10)]
    assert lost == [[{"run": "a", "ranges": [[1, 2]]}], []]


@pytest.mark.parametrize("damage", [b"garbage" * 1000, b""])
def test_a_corrupt_file_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    """Damage costs what was stored, never the agent."""
    first = Outbox(tmp_path / "t.db", run="a", budget_bytes=10_000)
    add(first, 3)
    first.close()
    (tmp_path / "t.db").write_bytes(damage)
    second = Outbox(tmp_path / "t.db", run="b", budget_bytes=10_000)
    add(second, 1)
    assert sequences(second) == [("b", 1)]
    assert second.recreated == (1 if damage else 0)


def test_a_mark_is_stored_with_its_message(tmp_path: Path) -> None:
    """What the next run must know of what was told is found again."""
    outbox = Outbox(tmp_path / "t.db", run="a", budget_bytes=10_000)
    assert outbox.mark() is None
    outbox.append("telemetry", message, mark=b"one")
    outbox.append("telemetry", message, mark=b"two")
    outbox.close()
    assert Outbox(tmp_path / "t.db", run="b", budget_bytes=10_000).mark() == b"two"


WRITER = """
import sys, itertools
from pathlib import Path
from edgesdk_agent.telemetry.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]), run=sys.argv[2], budget_bytes=10**9)
for _ in itertools.count():
    seq = outbox.append("telemetry", lambda seq, lost: b'{"seq":%d}' % seq)
    print(seq, flush=True)
"""


def test_kill_9_loses_nothing_that_was_stored(tmp_path: Path) -> None:
    """A writer that is killed at any moment leaves every message that it was told is stored."""
    path = tmp_path / "t.db"
    stored: set[tuple[str, int]] = set()
    for run in ("a", "b", "c"):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path), run], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None
        for _ in range(50):
            stored.add((run, int(writer.stdout.readline())))
        writer.send_signal(signal.SIGKILL)
        stored |= {(run, int(line)) for line in writer.stdout.read().splitlines()}
        writer.wait()
    found = sequences(Outbox(path, run="d", budget_bytes=10**9))
    assert stored <= set(found)
    assert len(found) == len(set(found)), "no number is used twice"


class Broker:
    """Acknowledges when told to; the connection may break."""

    def __init__(self) -> None:
        self.online = True
        self.sent: list[tuple[bytes, Future[int]]] = []

    def publish(self, topic: str, payload: bytes) -> Future[int]:
        if not self.online:
            raise LinkError("link-offline", "no connection")
        future: Future[int] = Future()
        self.sent.append((payload, future))
        return future


def publisher(outbox: Outbox, broker: Broker, window: int = 4) -> Publisher:
    return Publisher(outbox, broker.publish, topics={"telemetry": "t", "event": "e"}, window=window, wake=lambda: None)


def test_the_window_bounds_what_is_in_flight(tmp_path: Path) -> None:
    """No more than the window is sent before acknowledgements come; each lets one more go."""
    outbox, broker = Outbox(tmp_path / "t.db", run="a", budget_bytes=10_000), Broker()
    add(outbox, 10)
    sender = publisher(outbox, broker)
    sender.connected()
    sender.pump()
    assert len(broker.sent) == 4
    broker.sent[0][1].set_result(0)
    sender.pump()
    assert len(broker.sent) == 5
    assert outbox.size()[0] == 9


def test_unacknowledged_messages_are_sent_again_as_historical(tmp_path: Path) -> None:
    """After a broken connection everything unacknowledged comes again, with its number, marked historical."""
    outbox, broker = Outbox(tmp_path / "t.db", run="a", budget_bytes=10_000), Broker()
    sender = publisher(outbox, broker)
    sender.connected()
    add(outbox, 3)
    sender.pump()
    assert [msgspec.json.decode(payload).get("historical", False) for payload, _ in broker.sent] == [False] * 3
    broker.sent[0][1].set_result(0)
    for _, future in broker.sent[1:]:
        future.set_exception(LinkError("link-offline", "lost"))
    broker.online, broker.sent = False, []
    sender.pump()
    broker.online = True
    sender.connected()
    add(outbox, 1)
    sender.pump()
    again = [msgspec.json.decode(payload) for payload, _ in broker.sent]
    assert [(each["seq"], each.get("historical", False)) for each in again] == [(2, True), (3, True), (4, False)]


def test_a_late_acknowledgement_of_an_old_connection_counts(tmp_path: Path) -> None:
    """An acknowledgement that was noted before a reconnection still deletes its row."""
    outbox, broker = Outbox(tmp_path / "t.db", run="a", budget_bytes=10_000), Broker()
    add(outbox, 1)
    sender = publisher(outbox, broker)
    sender.connected()
    sender.pump()
    broker.sent[0][1].set_result(0)
    sender.connected()
    sender.pump()
    assert outbox.size()[0] == 0


def test_a_denied_message_does_not_block_the_others(tmp_path: Path) -> None:
    """A refusal by the broker is kept for the next connection; the rest goes on."""
    outbox, broker = Outbox(tmp_path / "t.db", run="a", budget_bytes=10_000), Broker()
    add(outbox, 2)
    sender = publisher(outbox, broker, window=1)
    sender.connected()
    sender.pump()
    broker.sent[0][1].set_exception(LinkError("link-denied", "no"))
    sender.pump()
    assert len(broker.sent) == 2
    broker.sent[1][1].set_result(0)
    sender.pump()
    assert sequences(outbox) == [("a", 1)]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 30), st.integers(0, 5)), max_size=20))
def test_merged_ranges_name_exactly_the_same_numbers(parts: list[tuple[str, int, int]]) -> None:
    """Merging loses and invents nothing, and leaves no two ranges of a run that touch."""
    ranges = [(run, first, first + extra) for run, first, extra in parts]
    merged = merge_ranges(ranges)
    numbers = {(run, seq) for run, first, last in ranges for seq in range(first, last + 1)}
    assert {(lost.run, seq) for lost in merged for first, last in lost.ranges for seq in range(first, last + 1)} == (
        numbers
    )
    for lost in merged:
        assert all(a[1] + 1 < b[0] for a, b in zip(lost.ranges, lost.ranges[1:], strict=False))


def test_marking_keeps_every_other_field() -> None:
    """Only `historical` changes."""
    payload = b'{"a":{"b":[1,2.50]},"historical":false,"ts":"x"}'
    assert msgspec.json.decode(mark_historical(payload)) == {"a": {"b": [1, 2.5]}, "historical": True, "ts": "x"}
