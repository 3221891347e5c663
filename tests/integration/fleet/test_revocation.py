"""A revoked device on a real Mosquitto with TLS: put out, kept out, asked for nothing; and names nobody may take."""

from __future__ import annotations

import json
import queue
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest

from edgesdk.errors import EdgeError
from edgesdk.fleet.controller import broker_link
from edgesdk.protocol import topics
from edgesdk.protocol.backoff import Backoff
from edgesdk.protocol.link import Link, LinkTLS
from edgesdk.trust.ca import make_request_pem
from edgesdk.trust.enrolment import TLS_KEY, EnrolResponse, make_request, parse_token
from edgesdk.trust.keys import generate_tls_key

WAIT = 30.0


@pytest.fixture
def hub(start_hub):
    return start_hub(tls=True, broker="mosquitto")


def can_connect(device, hub) -> bool:
    """Try to connect with the device's certificate, once."""
    cert = device.folder / "device.pem"
    cert.write_text(device.identity.certificate_pem)
    host, port, tls = broker_link(
        hub.running.broker, LinkTLS(ca=Path(hub.running.ca), cert=cert, key=device.folder / TLS_KEY)
    )
    states = queue.Queue()
    with Link(host, port, device.id, tls=tls, on_state=states.put, backoff=Backoff(base=60)):
        return states.get(timeout=WAIT).online


@pytest.mark.mosquitto
def test_a_revoked_device_is_put_out_and_kept_out(hub, enrol, wait_for):
    """Its live connection ends, its certificate opens none again, and its neighbour notices nothing."""
    ca = Path(hub.running.ca)
    device, neighbour = enrol(hub).connect(ca=ca), enrol(hub).connect(ca=ca)
    hub.client.post(f"/devices/{device.id}/revoke")
    wait_for(lambda: not device.link.online, "the end of the connection")
    device.disconnect()
    assert not can_connect(device, hub)
    assert neighbour.link.online
    assert hub.device(device)["online"] is False


@pytest.mark.mosquitto
def test_two_revocations_in_one_second_both_hold(hub, enrol):
    """The broker takes the newer list although both are of the same second, and every certificate of a device goes."""
    first, second, other = (enrol(hub) for _ in range(3))
    for device in (first, second):
        hub.client.post(f"/devices/{device.id}/revoke")
    assert [can_connect(device, hub) for device in (first, second, other)] == [False, False, True]


@pytest.mark.mosquitto
def test_an_older_certificate_of_a_revoked_device_is_revoked_too(hub, enrol):
    """A device that enrolled twice holds two certificates: neither opens the broker after its revocation."""
    device = enrol(hub)
    request = make_request(parse_token(hub.client.post("/tokens")["token"]), device.folder, "cam")
    answer = hub.raw().post("/api/v1/enroll", content=msgspec.json.encode(request))
    again = msgspec.json.decode(answer.content, type=EnrolResponse)
    assert again.device == device.id
    assert can_connect(device, hub)
    hub.client.post(f"/devices/{device.id}/revoke")
    assert not can_connect(device, hub)
    device.identity = again
    assert not can_connect(device, hub)


@pytest.mark.mosquitto
def test_a_restarted_hub_still_refuses(hub, enrol, start_hub):
    """The revocation list is made from the database at each start."""
    device = enrol(hub)
    hub.client.post(f"/devices/{device.id}/revoke")
    hub.hub.stop()
    assert not can_connect(device, start_hub(tls=True, broker="mosquitto"))


def retained_for(hub, device):
    """Return the topics that a device finds when it subscribes: all have come when a later word of it is answered."""
    found = []
    host, port, _ = broker_link(hub.running.broker, None)
    with Link(host, port, device.id, on_message=lambda message: found.append(message.topic)) as link:
        assert link.wait_online(WAIT)
        link.subscribe(topics.down("lab", device.id, "desired")).result(WAIT)
        link.publish(topics.up("lab", device.id, "reply"), b"{}").wait(WAIT)
    return found


def test_a_revoked_device_is_asked_for_nothing(start_hub, enrol, wait_for, broker):
    """Its retained desired document is taken off the broker; a neighbour's stays."""
    hub = start_hub(broker=broker)
    device, neighbour = enrol(hub), enrol(hub)
    hub.deploy("1.0.0", [device, neighbour])
    for each in (device, neighbour):
        wait_for(lambda each=each: hub.device(each)["published"], "the document's publication")
        assert len(retained_for(hub, each)) == 1
    hub.client.post(f"/devices/{device.id}/revoke")
    wait_for(lambda: hub.device(device)["published"], "the document's removal")
    assert (retained_for(hub, device), len(retained_for(hub, neighbour))) == ([], 1)


def test_a_rollout_goes_on_without_a_revoked_device(start_hub, enrol):
    """A rollout neither waits for a device that was revoked in it nor asks it in a later wave."""
    hub = start_hub()
    good, mute, late = enrol(hub).connect(), enrol(hub, behave=lambda _: "").connect(), enrol(hub).connect()
    plan = hub.deploy("1.0.0", [good, mute, late], waves=["2", "100%"])
    for device in (late, mute):
        hub.client.post(f"/devices/{device.id}/revoke")
    ended = hub.end(plan["id"])
    standings = {each["device"]: each["standing"] for wave in ended["waves"] for each in wave["devices"]}
    assert standings[good.id] == "committed"
    assert (standings[mute.id], standings[late.id]) == ("refused", "refused")
    assert late.desired == []


@pytest.mark.parametrize("name", ["hub", "subscriber", "hub.a", "_all"])
def test_reserved_names_are_no_device_ids(start_hub, enrol, name):
    """A device may be called so, its id is another: no role's name, and nothing with a dot or underscore."""
    device = enrol(start_hub(), name)
    assert device.id not in {"hub", "subscriber", "_all"}
    assert not set(device.id) & set("._")


def test_a_reserved_id_gets_no_certificate(site):
    """Whatever the hub's naming does, the authority gives no device a role's certificate."""
    request = make_request_pem(generate_tls_key(site.path / "key.pem"))
    for name in ("hub", "subscriber", "subscriber.x"):
        with pytest.raises(EdgeError) as caught:
            site.folder.authority(None).issue_device(request, name)
        assert caught.value.code == "argument-invalid"


@pytest.mark.mosquitto
@pytest.mark.skipif(shutil.which("mosquitto_sub") is None, reason="needs mosquitto_sub, of mosquitto-clients")
def test_a_subscriber_certificate_opens_telemetry_until_it_is_revoked(hub, site, enrol, edge, wait_for):
    """`edge hub certificate` makes what mosquitto_sub needs, for several at once; the running hub follows at once."""
    device = enrol(hub).connect(ca=Path(hub.running.ca))
    where = ("--dir", str(site.folder.path))
    made = {}
    for name in ("dash", "store"):
        command = ("hub", "certificate", "subscriber", "--name", name, "-o", str(site.path / name), "--json", *where)
        out, error = edge(*command).communicate(timeout=60)
        made[name] = json.loads(out) if out else error
    _, port, _ = broker_link(hub.running.broker, LinkTLS(ca=Path(hub.running.ca)))

    def subscriber_command(name, *more):
        files = made[name]
        secured = ("--cafile", files["ca"], "--cert", files["cert"], "--key", files["key"])
        where = ("-h", "127.0.0.1", "-p", str(port), *secured, "-t", "edge/v1/+/+/up/telemetry")
        return ["mosquitto_sub", *where, *more]

    def subscriber(name, *more):
        command = subscriber_command(name, "-C", "1", *more)
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    # Until both are subscribed what the device says may come too early: it repeats itself.
    readers = [subscriber("dash"), subscriber("store")]
    wait_for(
        lambda: (
            device.send("telemetry", b"hello").result(WAIT) is not None
            and all(reader.poll() is not None for reader in readers)
        ),
        "both readers",
    )
    assert [reader.communicate()[0] for reader in readers] == [b"hello\n", b"hello\n"]
    listening = Path(made["dash"]["cert"]).with_name("dash.log")
    with listening.open("wb") as log:
        open_one = subprocess.Popen(subscriber_command("dash"), stdout=log, stderr=subprocess.STDOUT)
    wait_for(
        lambda: device.send("telemetry", b"live").result(WAIT) is not None and b"live" in listening.read_bytes(),
        "an open connection",
    )
    process = edge("hub", "revoke-certificate", "subscriber.dash", *where)
    assert "revoked 1" in process.communicate(timeout=60)[0]
    assert open_one.wait(WAIT) != 0
    wait_for(lambda: subscriber("dash", "-W", "1").wait(WAIT) not in {0, 27}, "the refusal")
    assert subscriber("store", "-W", "1").wait(WAIT) == 27
    assert edge("hub", "revoke-certificate", device.id, *where).wait(60) == 2
