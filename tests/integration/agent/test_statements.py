"""Statements on their way out: nothing signed is lost, and numbers tell copies apart."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

import msgspec
import pytest
from edgesdk_agent.identity import IDENTITY_SCHEMA, Identity
from edgesdk_agent.statements import StatementPublisher, sign_waiting
from edgesdk_agent.store.records import StatementDraft
from edgesdk_agent.store.state import StateDb
from edgesdk_agent.telemetry.outbox import Outbox
from edgesdk_agent.telemetry.recorder import Recorder
from edgesdk_agent.workers.messages import Sign, Signed

from edgesdk.clock import SystemClock
from edgesdk.errors import DeploymentError, LinkError
from edgesdk.protocol.messages import (
    TELEMETRY_SCHEMA,
    DeviceTelemetry,
    Event,
    ModelTelemetry,
    Reason,
    Record,
    StateReport,
    decode,
)
from edgesdk.protocol.topics import MAX_PAYLOAD

IDENTITY = Identity(
    schema=IDENTITY_SCHEMA, device="dev-1", fleet="lab", enrolment="e", hub="http://x", broker="mqtt://x", repository=""
)


class Signer:
    """Wraps statements as the trust worker does, without a key; may fail."""

    def __init__(self) -> None:
        self.batches: list[int] = []
        self.fail = False

    def sign(self, request: Sign) -> Signed:
        if self.fail:
            raise DeploymentError("worker-failed", "no")
        self.batches.append(len(request.statements))
        return Signed(envelopes=tuple({"counter": each.counter} for each in request.statements))


class Broker:
    """Takes what is published; acknowledges when told to."""

    def __init__(self) -> None:
        self.online = True
        self.sent: list[tuple[str, bytes, bool, Future[int]]] = []

    def publish(self, channel: str, payload: bytes, *, retain: bool) -> Future[int]:
        if not self.online:
            raise LinkError("link-offline", "no connection")
        future: Future[int] = Future()
        self.sent.append((channel, payload, retain, future))
        return future

    def events(self) -> list[Event]:
        return [decode(payload, Event) for channel, payload, *_ in self.sent if channel == "event"]


def draft(model: str = "tiny", run: str = "run-1") -> StatementDraft:
    return StatementDraft(
        model=model,
        deployment="d",
        serial=1,
        release="1.0.0",
        generation=None,
        state="offered",
        good=None,
        good_release=None,
        serving="none",
        run=run,
        boot="b",
        ts="2026-11-23T00:00:00.000Z",
    )


@pytest.fixture
def state(tmp_path: Path) -> StateDb:
    return StateDb(tmp_path / "state.db")


@pytest.fixture
def outbox(tmp_path: Path) -> Outbox:
    return Outbox(tmp_path / "t.db", run="run-1", budget_bytes=10**6)


def publisher(state: StateDb, outbox: Outbox, broker: Broker) -> StatementPublisher:
    return StatementPublisher(state, outbox, IDENTITY, clock=SystemClock(), publish=broker.publish, wake=lambda: None)


def test_signing_goes_in_batches_and_can_be_tried_again(state: StateDb) -> None:
    """A failed worker loses nothing; the next signs everything, a batch at a time, in order."""
    signer = Signer()
    for _ in range(40):
        state.append_statement(draft())
    signer.fail = True
    with pytest.raises(DeploymentError):
        sign_waiting(state, signer, IDENTITY, Path("key"))
    signer.fail = False
    assert sign_waiting(state, signer, IDENTITY, Path("key")) == 40
    assert signer.batches == [32, 8]
    assert [each.counter for each, _ in state.unsent(100)] == list(range(1, 41))


def test_events_keep_their_number_until_they_are_acknowledged(state: StateDb, outbox: Outbox) -> None:
    """Sent again after a reconnection an event has the same (run, seq); acknowledged ones are not sent again."""
    broker = Broker()
    sender = publisher(state, outbox, broker)
    for _ in range(2):
        state.append_statement(draft())
    sign_waiting(state, Signer(), IDENTITY, Path("key"))
    sender.connected()
    sender.pump()
    sender.pump()
    first = broker.events()
    assert [(each.run, each.seq) for each in first] == [("run-1", 1), ("run-1", 2)]
    next(future for channel, _, _, future in broker.sent if channel == "event").set_result(0)
    broker.sent.clear()
    sender.connected()
    sender.pump()
    assert broker.events() == [first[1]]


def test_the_retained_state_holds_every_models_latest(state: StateDb, outbox: Outbox) -> None:
    """After signing and after each connection the latest statements are published, retained."""
    broker = Broker()
    sender = publisher(state, outbox, broker)
    for model in ("a", "b", "a"):
        state.append_statement(draft(model))
    sign_waiting(state, Signer(), IDENTITY, Path("key"))
    sender.signed()
    sender.pump()
    reports = [
        (decode(payload, StateReport), retain) for channel, payload, retain, _ in broker.sent if channel == "state"
    ]
    assert reports[0][1]
    assert reports[0][0].statements == {"a": {"counter": 3}, "b": {"counter": 2}}


def test_offline_nothing_is_lost(state: StateDb, outbox: Outbox) -> None:
    """Without a connection everything waits; the state is published once there is one."""
    broker = Broker()
    broker.online = False
    sender = publisher(state, outbox, broker)
    state.append_statement(draft(run="run-0"))
    sign_waiting(state, Signer(), IDENTITY, Path("key"))
    sender.signed()
    sender.pump()
    broker.online = True
    sender.connected()
    sender.pump()
    assert [channel for channel, *_ in broker.sent] == ["event", "state"]
    assert broker.events()[0].historical, "it was said by an earlier run"


def model(number: int, size: int) -> ModelTelemetry:
    return ModelTelemetry(
        model="tiny",
        generation="0" * 64,
        release="1.0.0",
        slot="good",
        app=f"app-{number}",
        calls=number,
        latency_ms={"total": {"filler": "x" * size}},
    )


def recorder(outbox: Outbox, cap: int = 0) -> Recorder:
    return Recorder(outbox, IDENTITY, clock=SystemClock(), bytes_per_day=cap, version="1")


def records(outbox: Outbox) -> list[Record]:
    return [decode(row.payload, Record) for row in outbox.waiting(after=0, limit=100) if row.channel == "telemetry"]


def test_a_record_that_is_too_large_loses_its_sketches_not_its_counts(outbox: Outbox) -> None:
    """Beyond the message limit sketches go first; the counters of every app arrive."""
    recorder(outbox).record([model(n, 40_000) for n in range(10)], DeviceTelemetry(), b"mark")
    (record,) = records(outbox)
    assert [each.calls for each in record.models] == list(range(10))
    assert not any(each.latency_ms for each in record.models)
    assert record.schema == TELEMETRY_SCHEMA
    assert len(msgspec.json.encode(record)) <= MAX_PAYLOAD
    assert outbox.mark() == b"mark"


def test_the_daily_cap_is_kept_and_its_cost_told(outbox: Outbox) -> None:
    """Beyond the cap records are not stored; their numbers are taken, so that a subscriber sees the gap."""
    writer = recorder(outbox, cap=1)
    for _ in range(4):
        writer.record([], DeviceTelemetry(), b"")
    assert [each.seq for each in records(outbox)] == [1]
    assert outbox.lost("telemetry")[0].ranges == ((2, 4),)


def test_refusals_are_told_as_events(outbox: Outbox) -> None:
    """A refusal becomes a durable event with its code."""
    recorder(outbox).error(Reason(code="serial-replayed", message="m", hint="h"))
    (row,) = outbox.waiting(after=0, limit=10)
    event = decode(row.payload, Event)
    assert (row.channel, event.kind, event.reason and event.reason.code) == ("event", "error", "serial-replayed")
