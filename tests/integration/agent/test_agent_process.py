"""The agent as a real process on a real broker: presence, telemetry through kill -9, leanness, one per folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from agent_world import World, command
from edgesdk_agent.identity import IDENTITY_SCHEMA, STATEMENT_KEY, Identity, load_identity
from edgesdk_agent.paths import Paths
from edgesdk_agent.report import read_status

from edgesdk.devbroker.server import DevBroker
from edgesdk.fleet.broker import MosquittoProcess, start_mosquitto
from edgesdk.protocol.link import Link
from edgesdk.protocol.link_types import Message
from edgesdk.protocol.messages import COMMAND_TYPE, STATEMENT_TYPE, Event, Presence, Record, Reply, Statement, decode
from edgesdk.protocol.topics import down, up
from edgesdk.trust.dsse import verify_document
from edgesdk.trust.keys import generate_key, load_signer, public_key_of

FLEET, DEVICE = "lab", "dev-1"
HEAVY = {"numpy", "cryptography", "tuf", "securesystemslib", "onnxruntime", "ai_edge_litert", "tflite_runtime", "rich"}


Broker = DevBroker | MosquittoProcess


class Ear:
    """Hears everything that the device says, as the hub would."""

    def __init__(self, broker: Broker) -> None:
        self.messages: list[Message] = []
        self._condition = threading.Condition()
        self.link = Link(broker.host, broker.port, "hub", username="hub", on_message=self._take)
        for channel in ("presence", "telemetry", "event", "reply"):
            self.link.subscribe(up(FLEET, DEVICE, channel))
        self.link.start()
        assert self.link.wait_online(10)

    def _take(self, message: Message) -> None:
        with self._condition:
            self.messages.append(message)
            self._condition.notify_all()

    def wait(self, enough: Callable[[list[Message]], bool], seconds: float = 30) -> list[Message]:
        with self._condition:
            assert self._condition.wait_for(lambda: enough(self.messages), seconds), self.messages[-3:]
            return list(self.messages)

    def presences(self) -> list[Presence]:
        return [decode(each.payload, Presence) for each in self.messages if each.topic.endswith("presence")]

    def events(self) -> list[Event]:
        return [decode(each.payload, Event) for each in self.messages if each.topic.endswith("event")]

    def replies(self) -> list[Reply]:
        return [decode(each.payload, Reply) for each in self.messages if each.topic.endswith("reply")]

    def records(self) -> list[Record]:
        return [decode(each.payload, Record) for each in self.messages if each.topic.endswith("telemetry")]


@pytest.fixture(params=["devbroker", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    if request.param == "mosquitto":
        (tmp_path / "broker").mkdir()
        with start_mosquitto(tmp_path / "broker", port=0) as process:
            yield process
    else:
        with DevBroker.running() as running:
            yield running


@pytest.fixture
def ear(broker: Broker) -> Iterator[Ear]:
    made = Ear(broker)
    yield made
    made.link.stop()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An enrolled device whose hub cannot be reached."""
    paths = Paths(tmp_path / "device")
    paths.make()
    generate_key(paths.keys / STATEMENT_KEY, None)
    (paths.keys / "root.json").write_bytes(b"{}")
    identity = Identity(
        schema=IDENTITY_SCHEMA,
        device=DEVICE,
        fleet=FLEET,
        enrolment="e-1",
        hub="http://127.0.0.1:9",
        broker="mqtt://127.0.0.1:9",
        repository="http://127.0.0.1:9/repo",
    )
    paths.device.write_bytes(msgspec.json.encode(identity))
    return paths.root


Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def start(root: Path, tmp_path: Path) -> Iterator[Start]:
    """Start the agent and wait until it is ready; whatever still runs at the end is killed."""
    with ExitStack() as stack:

        def run(broker: Broker | None = None, *arguments: str, **environment: str) -> subprocess.Popen[str]:
            if broker is not None:
                environment["EDGE_AGENT_LINK_BROKER"] = f"mqtt://{broker.host}:{broker.port}"
            log = stack.enter_context((tmp_path / "agent.log").open("a"))
            process = subprocess.Popen(
                [sys.executable, "-m", "edgesdk_agent", "run", "--root", str(root), "--json", *arguments],
                env={**os.environ, **environment},
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
            stack.callback(process.wait)
            stack.callback(process.kill)
            assert process.stdout is not None
            process.ready = json.loads(process.stdout.readline())
            return process

        yield run


def test_the_resident_process_stays_lean(start: Start) -> None:
    """It holds no array library, runtime, cryptography or TUF: those live in children."""
    process = start(None, "--print-modules")
    loaded = set(process.ready["modules"])
    assert {"edgesdk_agent", "paho", "sqlite3"} <= loaded
    assert not loaded & HEAVY


def test_only_one_agent_per_folder(start: Start, root: Path) -> None:
    """A second agent on the same folder is refused with its code; after kill -9 of the first it may start."""
    first = start()
    command = [sys.executable, "-m", "edgesdk_agent", "run", "--root", str(root), "--json"]
    second = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert second.returncode == 7
    assert json.loads(second.stderr.splitlines()[-1])["error"]["code"] == "agent-running"
    first.kill()
    first.wait()
    start()


def test_a_device_that_is_not_enrolled_says_so(tmp_path: Path) -> None:
    """`run` and `status` name the cause and the cure."""
    for word in ("run", "status"):
        done = subprocess.run(
            [sys.executable, "-m", "edgesdk_agent", word, "--root", str(tmp_path / "none"), "--json"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 7
        assert json.loads(done.stderr)["error"]["code"] == "not-enrolled"


def test_presence_follows_the_process(start: Start, broker: Broker, ear: Ear) -> None:
    """Online when it comes, offline when it is asked to go, offline by its will when it is killed."""
    process = start(broker)
    ear.wait(lambda _: any(each.online for each in ear.presences()))
    able = next(each for each in ear.presences() if each.online).capabilities
    assert able is not None
    assert {runtime.name for runtime in able.runtimes} >= {"onnxruntime"}
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    ear.wait(lambda _: not ear.presences()[-1].online)
    killed = start(broker)
    ear.wait(lambda _: ear.presences()[-1].online)
    killed.kill()
    ear.wait(lambda _: not ear.presences()[-1].online)
    assert len({each.run for each in ear.presences()}) == 2


def test_telemetry_survives_kill_9(start: Start, broker: Broker, ear: Ear) -> None:
    """Records of killed runs arrive, none missing between the first and the last; copies are told by (run, seq)."""
    settings = {"EDGE_AGENT_TELEMETRY_INTERVAL_SECONDS": "0.02"}
    for number in (1, 2, 3):
        process = start(broker, **settings)
        ear.wait(lambda _, runs=number: len({each.run for each in ear.records()}) >= runs)
        seen = len(ear.messages)
        ear.wait(lambda messages, seen=seen: len(messages) >= seen + 20)
        process.kill()
        process.wait()
    last = start(broker, **settings)
    ear.wait(lambda _: sum(each.historical for each in ear.records()) > 0 or len({r.run for r in ear.records()}) == 4)
    last.send_signal(signal.SIGTERM)
    last.wait(20)
    numbers: dict[str, set[int]] = defaultdict(set)
    for record in ear.records():
        numbers[record.run].add(record.seq)
        numbers[record.run].update(
            seq for lost in record.lost for first, end in lost.ranges for seq in range(first, end + 1)
        )
    assert len(numbers) >= 3
    for run, found in numbers.items():
        assert found == set(range(1, max(found) + 1)), run


def test_without_a_broker_nothing_is_lost(start: Start, broker: Broker, ear: Ear, root: Path) -> None:
    """What was measured offline arrives later, marked historical."""
    settings = {"EDGE_AGENT_TELEMETRY_INTERVAL_SECONDS": "0.05"}
    offline = start(None, **settings)
    deadline = time.monotonic() + 30
    while not read_status(Paths(root))["agent"].get("outbox", {}).get("waiting"):
        assert time.monotonic() < deadline, "nothing was measured"
        time.sleep(0.02)
    offline.send_signal(signal.SIGTERM)
    assert offline.wait(20) == 0
    start(broker, **settings)
    ear.wait(lambda _: any(not each.historical for each in ear.records()))
    records = ear.records()
    assert records[0].historical
    assert len({record.run for record in records}) == 2


def test_junk_from_the_broker_is_counted(start: Start, broker: Broker, ear: Ear, root: Path) -> None:
    """Malformed and misaddressed messages cost no worker and do no harm; status tells how many came."""
    start(broker, EDGE_AGENT_TELEMETRY_INTERVAL_SECONDS="0.05")
    ear.wait(lambda _: any(each.online for each in ear.presences()))
    for payload in (b"{", b"\xff" * 100, b"[" * 10_000):
        ear.link.publish(down(FLEET, DEVICE, "desired"), payload).wait(10)
        ear.link.publish(down(FLEET, DEVICE, "cmd"), payload).wait(10)
    for _ in range(200):
        seen = len(ear.messages)
        ear.wait(lambda messages, seen=seen: len(messages) > seen)
        done = subprocess.run(
            [sys.executable, "-m", "edgesdk_agent", "status", "--root", str(root), "--json"],
            capture_output=True,
            text=True,
            check=True,
        )
        status = json.loads(done.stdout)
        if status["agent"].get("intake", {}).get("malformed") == 6:
            break
    assert status["running"]
    assert status["agent"]["intake"]["malformed"] == 6
    assert status["agent"]["online"]


def test_a_release_is_deployed_stated_and_commanded(
    start: Start, broker: Broker, ear: Ear, root: Path, world: World
) -> None:
    """One desired document brings a release to its trial; signed statements tell so; commands are answered once."""
    paths = Paths(root)
    paths.device.write_bytes(msgspec.json.encode(msgspec.structs.replace(load_identity(paths), repository=world.url)))
    (paths.keys / "root.json").write_bytes((world.folder / "root.json").read_bytes())
    start(broker, EDGE_AGENT_RUNTIME_PACKAGES="onnxruntime")
    desired = json.dumps(world.sign(world.desired(serial=10))).encode()
    ear.link.publish(down(FLEET, DEVICE, "desired"), desired, retain=True).wait(10)
    ear.wait(lambda _: "trial" in [event.state for event in ear.events()], 90)
    events = ear.events()
    assert [event.state for event in events][:2] == ["offered", "downloading"]
    key = public_key_of(load_signer(paths.keys / STATEMENT_KEY))
    statements = [
        msgspec.json.decode(verify_document(event.statement or {}, STATEMENT_TYPE, [key]), type=Statement)
        for event in events
    ]
    assert [each.counter for each in statements] == list(range(1, len(statements) + 1))
    assert {(each.device, each.fleet, each.enrolment, each.serial) for each in statements} == {
        (DEVICE, FLEET, "e-1", 10)
    }
    assert (paths.store / "models" / "tiny" / "slots.json").is_file()

    run = ear.presences()[-1].run
    order = command(name="logs", run=run, arguments={"lines": 5})
    envelope = json.dumps(world.sign(order, COMMAND_TYPE)).encode()
    for _ in range(2):
        ear.link.publish(down(FLEET, DEVICE, "cmd"), envelope, correlation=b"c-1", expiry=60).wait(10)
    nudge = command(id="command-2", name="ping", run=None, device="_all")
    ear.link.publish(down(FLEET, "_all", "cmd"), json.dumps(world.sign(nudge, COMMAND_TYPE)).encode()).wait(10)
    ear.wait(lambda _: "command-2" in [reply.id for reply in ear.replies()], 60)
    replies = ear.replies()
    assert [(reply.id, reply.ok) for reply in replies] == [("command-1", True), ("command-2", True)]
    assert len(replies[0].result["lines"]) == 5
    secret = (paths.keys / STATEMENT_KEY).read_text().splitlines()[1]
    assert secret not in json.dumps(replies[0].result)
