"""Commands from an operator to a device and back: on real brokers, to simulated devices and to a real agent."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from edgesdk.clock import parse_rfc3339
from edgesdk.errors import EdgeError
from edgesdk.fleet.client import HubClient
from edgesdk.fleet.commands import MAX_OF_DEVICE
from edgesdk.protocol import topics
from edgesdk.protocol.messages import Reason, encode

WAIT = 30.0
BRIEF = 1.0
"""Seconds after which the hub gives a silent device up, where that is what is tested."""


def ask(hub, device, name="ping", /, timeout=WAIT, **arguments):
    """Ask as an operator does."""
    return hub.client.ask(device.id, name, arguments, timeout=timeout)


def refused(hub, device, *what, **more):
    """Return the error of a question that has no answer."""
    with pytest.raises(EdgeError) as caught:
        ask(hub, device, *what, **more)
    return caught.value


def test_a_command_is_signed_addressed_and_short_lived(start_hub, enrol, broker, wait_for):
    """It names the device's run and expires soon, at the broker too; the reply comes back; the audit log knows who."""
    hub = start_hub(broker=broker)
    device = enrol(hub).connect()
    wait_for(lambda: hub.device(device)["online"], "the device's presence")
    answer = ask(hub, device, "logs", lines=3, timeout=20.0)
    (message,) = device.commands
    command = device.command(message)
    assert (command.fleet, command.device, command.run) == ("lab", device.id, "run")
    assert (command.name, command.arguments) == ("logs", {"lines": 3})
    assert parse_rfc3339(command.expires_at) - parse_rfc3339(command.issued_at) == timedelta(seconds=25)
    assert 0 < message.expiry <= 25
    assert (message.retain, message.correlation) == (False, command.id.encode())
    assert message.response_topic == topics.up("lab", device.id, "reply")
    assert answer == {"id": command.id, "result": {"pong": True}, "reason": None, "seconds": answer["seconds"]}
    assert 0 < answer["seconds"] < WAIT
    (entry,) = (each for each in hub.client.get("/audit") if each["action"] == "device.ask")
    assert (entry["actor"], entry["subject"]) == ("admin", device.id)
    assert entry["details"] == {"id": command.id, "command": "logs", "arguments": {"lines": 3}}


def test_an_offline_device_is_sent_nothing(start_hub, enrol, wait_for):
    """Never seen, or gone: the error says so and since when, however often that is said again; nothing is sent."""
    hub = start_hub()
    device = enrol(hub)
    assert "was never online" in refused(hub, device).message
    device.connect()
    wait_for(lambda: hub.device(device)["online"], "the device's presence")
    assert ask(hub, device)["result"] == {"pong": True}
    device.say_offline().result(WAIT)
    gone = wait_for(lambda: (found := hub.device(device))["online"] is False and found["presence_at"], "its absence")
    error = refused(hub, device)
    assert (error.code, error.exit_code) == ("device-offline", 8)
    since = error.message.split("is offline since ")[1].split(";")[0]
    assert parse_rfc3339(since).timestamp() == pytest.approx(gone / 1000, abs=1)
    device.say_offline().result(WAIT)
    device.send("event", b"{}").result(WAIT)
    wait_for(lambda: hub.rejected("message-invalid"), "what was said after it")
    assert hub.device(device)["presence_at"] == gone
    assert len(device.commands) == 1
    assert len([each for each in hub.client.get("/audit") if each["action"] == "device.ask"]) == 1


def test_a_device_that_does_not_listen_is_not_waited_for(start_hub, enrol, wait_for):
    """A device that says it is online but reads no commands is answered for by the broker, at once."""
    hub = start_hub(broker="devbroker")
    device = enrol(hub).connect()
    wait_for(lambda: hub.device(device)["online"], "the device's presence")
    device.link.unsubscribe(topics.down("lab", device.id, "cmd"))
    device.send("event", b"{}").result(WAIT)
    assert refused(hub, device, timeout=200.0).code == "device-offline"


@pytest.mark.parametrize("name", ["stranger", "revoked"])
def test_a_device_that_is_not_ours_is_unknown(start_hub, enrol, name):
    """A stranger and a revoked device are refused like everywhere, and sent nothing."""
    hub = start_hub()
    device = enrol(hub).connect()
    if name == "revoked":
        hub.client.post(f"/devices/{device.id}/revoke")
    else:
        device.identity = msgspec.structs.replace(device.identity, device="stranger")
    assert refused(hub, device).code == "device-unknown"
    assert device.commands == []


def nested(levels):
    """Return a result of so many levels."""
    return {"in": nested(levels - 1)} if levels else {}


def test_only_the_devices_own_reply_to_this_id_is_believed(start_hub, enrol, broker, wait_for):
    """Replies with another id, from or naming another device, neither yes nor no, or too deep change nothing."""
    hub = start_hub(broker=broker)
    device, other = enrol(hub).connect(), enrol(hub).connect()
    forged = {"forged": True}

    def reply(command):
        device.send("reply", encode(device.answer_to(command, id="0" * 32, result=forged))).result(WAIT)
        device.send("reply", encode(device.answer_to(command, device=other.id, result=forged))).result(WAIT)
        device.send("reply", encode(device.answer_to(command, ok=False, result=forged))).result(WAIT)
        device.send("reply", encode(device.answer_to(command, result=nested(200)))).result(WAIT)
        other.send("reply", encode(other.answer_to(command, result=forged))).result(WAIT)
        other.send("reply", encode(device.answer_to(command, result=forged))).result(WAIT)
        return None if command.name == "status" else device.answer_to(command)

    # the link's own thread must not wait for its acknowledgements
    device.reply = lambda command: threading.Thread(target=lambda: send(reply(command))).start()

    def send(made):
        if made is not None:
            device.send("reply", encode(made))

    wait_for(lambda: hub.device(device)["online"], "the device's presence")
    assert ask(hub, device)["result"] == {"pong": True}
    error = refused(hub, device, "status", timeout=BRIEF)
    assert (error.code, "status" in error.message) == ("command-unanswered", True)
    assert hub.rejected("audience") >= 2
    assert hub.rejected("message-invalid") >= 4


def test_a_refusal_is_an_answer(start_hub, enrol, wait_for):
    """What a device does not want to do comes back as its own reason."""
    hub = start_hub()
    device = enrol(hub).connect()
    reason = Reason(code="generation-missing", message="none is good here", hint="deploy one")
    device.reply = lambda command: device.answer_to(command, ok=False, result={}, reason=reason)
    wait_for(lambda: hub.device(device)["online"], "the device's presence")
    answer = ask(hub, device, "benchmark", model="digits")
    assert (answer["result"], answer["reason"]) == ({}, msgspec.to_builtins(reason))


def test_few_wait_and_a_stopping_hub_lets_them_go(start_hub, enrol, site, wait_for):
    """One device is asked for no more than a few things at once; a hub that stops answers those who wait, at once."""
    hub = start_hub()
    device, asked = enrol(hub).connect(), queue.Queue()
    device.reply = asked.put
    wait_for(lambda: hub.device(device)["online"], "the device's presence")

    def one():
        with HubClient(hub.running.url, site.folder.admin_token()) as client, pytest.raises(EdgeError) as caught:
            client.ask(device.id, "ping", {}, timeout=200)
        return caught.value

    with ThreadPoolExecutor(MAX_OF_DEVICE) as pool:
        waiting = [pool.submit(one) for _ in range(MAX_OF_DEVICE)]
        commands = [asked.get(timeout=WAIT) for _ in range(MAX_OF_DEVICE)]
        assert refused(hub, device).code == "command-busy"
        hub.hub.stop()
        assert {each.result(WAIT).code for each in waiting} == {"command-unanswered"}
    # The next hub neither asks again nor stumbles over late replies.
    wait_for(lambda: not device.link.online, "the end of its broker")
    again = start_hub()
    wait_for(lambda: device.link.online, "the broker of the next hub")
    device.link.subscribe(topics.down("lab", device.id, "cmd")).result(WAIT)
    for command in commands:
        device.send("reply", encode(device.answer_to(command))).result(WAIT)
    device.reply = None
    device.say_online().result(WAIT)
    wait_for(lambda: again.device(device)["online"], "the device's presence")
    assert ask(again, device)["result"] == {"pong": True}
    assert len({device.command(each).id for each in device.commands}) == len(device.commands) == MAX_OF_DEVICE + 1


BODIES = [
    {"name": "capture"},
    {"name": "ping", "timeout_s": 301},
    {"name": "ping", "timeout_s": 0},
    {"name": "logs", "arguments": {"lines": 2**70}},
    {"name": "logs", "arguments": {"lines": True}},
    {"name": "benchmark", "arguments": {"model": "x" * 300}},
    {"name": "benchmark", "arguments": {"model": "\ud800"}},
    {"name": "ping", "device": "other"},
]


@pytest.mark.parametrize("body", BODIES, ids=str)
def test_bounds_of_what_is_asked(quiet_hub, body):
    """A name that no agent carries out, a long wait and large arguments are refused before anything is signed."""
    answer = quiet_hub.raw(quiet_hub.client_token).post(
        "/api/v1/devices/dev/commands", content=json.dumps(body), headers={"content-type": "application/json"}
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (422, "argument-invalid")


@pytest.mark.parametrize(("role", "status"), [("viewer", 403), ("publisher", 403), ("operator", 404)])
def test_only_operators_ask(quiet_hub, role, status):
    """Who may only read may not ask; an operator may, and is told that there is no such device."""
    token = quiet_hub.client.post("/api-tokens", {"name": role, "role": role})["token"]
    answer = quiet_hub.raw(token).post("/api/v1/devices/none/commands", json={"name": "ping"})
    assert answer.status_code == status


@pytest.mark.mosquitto
def test_a_neighbour_reads_neither_question_nor_reply(start_hub, enrol, wait_for):
    """Over TLS the hub asks and hears; a device that subscribes to its neighbour's topics is sent nothing."""
    hub = start_hub(tls=True, broker="mosquitto")
    ca = Path(hub.running.ca)
    device, spy = enrol(hub).connect(ca=ca), enrol(hub).connect(ca=ca)
    for topic in (topics.down("lab", device.id, "cmd"), topics.up("lab", device.id, "reply")):
        spy.link.subscribe(topic).result(WAIT)
    for each in (device, spy):
        wait_for(lambda each=each: hub.device(each)["online"], "a presence")
    assert ask(hub, device)["result"] == {"pong": True}
    assert ask(hub, spy)["result"] == {"pong": True}  # what came before has come
    assert [message.topic for message in spy.commands] == [topics.down("lab", spy.id, "cmd")]
    assert len(device.commands) == 1


@pytest.fixture
def agent(site):
    """Enrol a real agent with a hub and run it."""
    running = []

    def start(hub):
        root = site.path / "agent"
        edge_agent = [sys.executable, "-m", "edgesdk_agent"]
        token = hub.client.post("/tokens")["token"]
        enrolled = subprocess.run(
            [*edge_agent, "enroll", token, "--root", str(root), "--json"], capture_output=True, text=True, check=True
        )
        log = (site.path / "agent.log").open("w")
        process = subprocess.Popen(
            [*edge_agent, "run", "--root", str(root), "--json"], stdout=subprocess.PIPE, stderr=log, text=True
        )
        running.append((process, log))
        assert process.stdout.readline()
        return json.loads(enrolled.stdout)["device"]

    yield start
    for process, log in running:
        process.terminate()
        process.communicate(timeout=WAIT)
        log.close()


@pytest.mark.mosquitto
@pytest.mark.timeout(180)
def test_a_real_agent_answers_the_command_line(start_hub, agent, site, edge, wait_for):
    """`edge fleet ask` to an agent: ping, logs, status and deploy-now answer; its refusals are told in its words."""
    hub = start_hub(broker="mosquitto")
    device = agent(hub)
    wait_for(lambda: hub.client.get(f"/devices/{device}")["online"], "the agent's presence")

    def fleet_ask(*arguments):
        process = edge("fleet", "ask", device, *arguments, "--timeout", "60", "--dir", str(site.folder.path))
        out, err = process.communicate(timeout=90)
        return process.returncode, out, err

    code, out, _ = fleet_ask("ping")
    assert (code, out.startswith(f"{device} answered in ")) == (0, True)
    code, out, _ = fleet_ask("logs", "--lines", "1")
    assert (code, len(out.splitlines()), " INFO edgesdk" in out) == (0, 1, True)
    code, out, _ = fleet_ask("status", "--json")
    answer = json.loads(out)
    assert (code, answer["result"]["device"], answer["reason"]) == (0, device, None)
    assert fleet_ask("deploy-now")[0] == 0
    code, out, err = fleet_ask("benchmark", "--model", "digits")
    assert (code, out) == (7, "")
    assert err.startswith(f"error: {device} says: no generation of 'digits' is good here [generation-missing]\n")
    assert "  do:  Deploy it again." in err
    code, _, err = fleet_ask("logs", "--lines", "501", "--json")
    assert (code, json.loads(err)["error"]["code"]) == (2, "argument-invalid")
    assert "expected 1 to 500" in err
    assert fleet_ask("dance")[0] == 2
