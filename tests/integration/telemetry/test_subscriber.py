"""Subscribing over a real dev broker, and `edge telemetry watch` as a process."""

import json
import subprocess
import sys
import threading

import pytest

from edgesdk import telemetry
from edgesdk.devbroker.server import DevBroker
from edgesdk.errors import ConfigError, LinkError
from edgesdk.fleet.broker import free_port
from edgesdk.protocol import messages, topics
from edgesdk.protocol.link import Link
from edgesdk.telemetry import Gap
from edgesdk.telemetry.sketches import DDSketch
from edgesdk.telemetry.subscriber import parse_broker

PATIENCE_S = 20


@pytest.fixture
def broker():
    with DevBroker.running() as running:
        yield running


@pytest.fixture
def device(broker):
    with Link("127.0.0.1", broker.port, "dev1") as link:
        assert link.wait_online(PATIENCE_S)
        yield link


def url(broker):
    return f"mqtt://127.0.0.1:{broker.port}"


def record(seq, **more):
    values = {
        "schema": messages.TELEMETRY_SCHEMA, "device": "dev1", "fleet": "f", "run": "r1", "seq": seq, "mono_ms": seq,
        "ts": "2026-11-23T10:00:00.000Z",
    }  # fmt: skip
    return messages.Record(**{**values, **more})


def event(seq, **more):
    values = {
        "schema": messages.EVENT_SCHEMA, "device": "dev1", "fleet": "f", "run": "r1", "seq": seq, "mono_ms": seq,
        "ts": "2026-11-23T10:00:00.000Z", "model": "wearable", "state": "committed",
    }  # fmt: skip
    return messages.Event(**{**values, **more})


def send(link, message, *, device="dev1"):
    channel = "event" if isinstance(message, messages.Event) else "telemetry"
    link.publish(topics.up("f", device, channel), messages.encode(message)).wait(PATIENCE_S)


def test_records_and_events_come_typed_once_and_with_gaps(broker, device):
    """Duplicates are dropped, a hole is announced before what follows it, a declared loss by the device's word."""
    with telemetry.subscribe(url(broker)) as items:
        lost = messages.Lost(run="r1", ranges=((7, 8),))
        for message in (record(1), event(1), record(1), record(5), record(9, lost=(lost,)), record(4)):
            send(device, message)
        got = [items.get(PATIENCE_S) for _ in range(8)]
    assert got == [
        record(1), event(1), Gap(device="dev1", run="r1", first=2, last=4), record(5),
        Gap(device="dev1", run="r1", first=7, last=8, declared=True), Gap(device="dev1", run="r1", first=6, last=6),
        record(9, lost=(lost,)), record(4),
    ]  # fmt: skip
    assert items.duplicates == 1


def test_what_is_wrong_is_dropped_and_counted(broker, device):
    """Malformed JSON, another schema, another device's name: dropped; the next good one comes."""
    with telemetry.subscribe(url(broker)) as items:
        device.publish(topics.up("f", "dev1", "telemetry"), b"{").wait(PATIENCE_S)
        send(device, record(1, schema="edge.telemetry/9"))
        send(device, record(1, device="dev2"))
        send(device, record(1, fleet="g"))
        send(device, record(2))
        assert items.get(PATIENCE_S) == record(2)
        assert items.invalid == 4


def test_a_filter_narrows_and_each_channel_has_its_own_numbers(broker, device):
    """Only events: what telemetry is numbered does not look like a hole among them, nor like a duplicate."""
    with telemetry.subscribe(url(broker), fleet="f", device="dev1", kinds=["event"]) as items:
        for message in (event(1), record(2), record(3), event(2)):
            send(device, message)
        assert [items.get(PATIENCE_S).seq for _ in range(2)] == [1, 2]


def test_a_group_shares_the_records(broker, device):
    """Each record goes to one member, and no gap is announced for what the other got."""
    with telemetry.subscribe(url(broker), group="g") as first, telemetry.subscribe(url(broker), group="g") as second:
        for seq in range(6):
            send(device, record(seq))
        got = [items.get(PATIENCE_S).seq for items in (first, second) for _ in range(3)]
    assert sorted(got) == list(range(6))


def test_closing_lets_a_waiting_reader_go(broker):
    """Iteration ends when another thread closes the subscription."""
    items = telemetry.subscribe(url(broker))
    ended = threading.Event()

    def read():
        assert list(items) == []
        ended.set()

    threading.Thread(target=read, daemon=True).start()
    items.close()
    assert ended.wait(PATIENCE_S)


def test_a_broker_that_is_not_there_is_an_error_at_once():
    """The first connection must succeed: `link-offline` names the address."""
    port = free_port("127.0.0.1")
    with pytest.raises(LinkError) as caught:
        telemetry.subscribe(f"mqtt://127.0.0.1:{port}", connect_timeout=0.5)
    assert caught.value.code == "link-offline"
    assert str(port) in str(caught.value)


@pytest.mark.parametrize("bad", ["http://h", "mqtt://", "mqtt://h:x", "mqtt://u:secret@h", "mqtt://h/t", "h:1883"])
def test_a_wrong_address_is_named_without_its_password(bad):
    """Addresses that cannot be used are `argument-invalid`; a password is not repeated."""
    with pytest.raises(ConfigError) as caught:
        parse_broker(bad)
    assert caught.value.code == "argument-invalid"
    assert "secret" not in str(caught.value)


def test_mqtts_needs_an_authority():
    """TLS without something to trust is refused before connecting."""
    with pytest.raises(ConfigError):
        telemetry.subscribe("mqtts://127.0.0.1")


def test_watch_prints_one_json_object_a_line(broker, device):
    """`edge telemetry watch --json`: parseable lines with their type; without it, a line for people with the p99."""
    sketch = DDSketch()
    sketch.add(2.0, count=10)
    model = messages.ModelTelemetry(
        model="wearable", generation="a" * 64, release="1.0.0", slot="good", app="[red]app", calls=10, nan=1,
        latency_ms={"total": sketch.to_dict()},
    )  # fmt: skip
    outputs = []
    for arguments in (["--json"], []):
        code = "from edgesdk.cli.main import main; main()"
        command = [sys.executable, "-c", code, "telemetry", "watch", "--broker", url(broker), "-n", "3", *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        # a publish says 16 until the process has subscribed
        warm_up = messages.encode(record(0, run="warm-up"))
        while device.publish(topics.up("f", "dev1", "telemetry"), warm_up).wait(PATIENCE_S) == 16:
            assert process.poll() is None
        for message in (record(1, models=(model,)), event(2)):
            send(device, message)
        outputs.append(process.communicate(timeout=PATIENCE_S)[0].splitlines())
        assert process.returncode == 0
    lines = [json.loads(line) for line in outputs[0]]
    assert [line["type"] for line in lines] == ["telemetry", "telemetry", "event"]
    assert lines[1]["models"][0]["calls"] == 10
    assert "wearable 1.0.0 (good) 10 calls, p50 2.0" in outputs[1][1]
    assert "1 NaN" in outputs[1][1]
    assert "committed" in outputs[1][2]
