"""Nothing is believed that the device's own key did not sign, about itself, in order; each refusal is counted."""

from __future__ import annotations

import msgspec
import pytest

from edgesdk.protocol.link import Link
from edgesdk.protocol.messages import DesiredModel, Event, Statement, StateReport, encode
from edgesdk.trust.enrolment import STATEMENT_KEY
from edgesdk.trust.keys import generate_key, load_signer

WANTED = DesiredModel(release="1.0.0", deployment="r-x")


@pytest.fixture
def hub(start_hub):
    return start_hub()


@pytest.fixture
def device(hub, enrol):
    return enrol(hub, behave=lambda _: "").connect()


def model_of(hub, device):
    return hub.device(device)["models"].get("digits")


def test_signed_statement_is_believed_once(hub, device, wait_for):
    """A good statement counts; the same one again changes nothing and is no offence."""
    envelope = device.sign(device.statement("digits", WANTED, "trial"))
    for _ in range(2):
        device.report("digits", envelope).result(10)
    wait_for(lambda: model_of(hub, device), "the statement")
    device.report("digits", device.sign(device.statement("digits", WANTED, "testing"))).result(10)
    wait_for(lambda: model_of(hub, device)["state"] == "testing", "the next one")
    assert len(hub.device(device)["history"]) == 2
    assert hub.rejected("counter-contradicted") == 0


def test_forged_statement_is_rejected(hub, device, wait_for, tmp_path):
    """A statement signed by another key, or changed after signing, is rejected and counted."""
    generate_key(tmp_path / "thief.pem", None)
    (device.folder / STATEMENT_KEY).rename(tmp_path / "own.pem")
    (tmp_path / "thief.pem").rename(device.folder / STATEMENT_KEY)
    device.report("digits", device.sign(device.statement("digits", WANTED, "committed")))
    wait_for(lambda: hub.rejected("signature-missing") == 1, "the rejection")
    assert load_signer(tmp_path / "own.pem")
    (tmp_path / "own.pem").rename(device.folder / STATEMENT_KEY)
    envelope = device.sign(device.statement("digits", WANTED, "committed"))
    other = device.sign(device.statement("digits", WANTED, "rolled_back"))
    device.report("digits", {**envelope, "payload": other["payload"]})
    wait_for(lambda: hub.rejected("signature-invalid") == 1, "the second rejection")
    assert model_of(hub, device) is None


def test_statement_of_another_device_is_rejected(hub, device, enrol, wait_for):
    """A device cannot speak for another one, neither by name nor by passing on what the other signed."""
    other = enrol(hub, "other", behave=lambda _: "").connect()
    stolen = other.sign(other.statement("digits", WANTED, "committed"))
    device.report("digits", stolen)
    wait_for(lambda: hub.rejected("signature-missing") == 1, "the rejection of the other's words")
    device.report("digits", device.sign(device.statement("digits", WANTED, "committed", device=other.id)))
    wait_for(lambda: hub.rejected("audience") == 1, "the rejection of another name")
    report = StateReport(device=other.id, fleet="lab", statements={"digits": stolen})
    device.send("state", encode(report))
    wait_for(lambda: hub.rejected("audience") == 2, "the rejection of another envelope")
    assert model_of(hub, device) is None
    assert model_of(hub, other) is None


def test_older_statement_does_not_replace_a_newer_one(hub, device, wait_for):
    """A replayed older statement is kept as history at most; the newest counter stays the device's word."""
    old = device.sign(device.statement("digits", WANTED, "committed"))
    device.report("digits", device.sign(device.statement("digits", WANTED, "rolled_back")))
    wait_for(lambda: model_of(hub, device), "the newer statement")
    device.report("digits", old)
    wait_for(lambda: len(hub.device(device)["history"]) == 2, "the older one, late")
    assert model_of(hub, device)["state"] == "rolled_back"


def test_two_truths_under_one_counter_are_a_contradiction(hub, device, wait_for):
    """A second, different statement with a counter that was used is rejected, counted, and changes nothing."""
    first = device.statement("digits", WANTED, "trial")
    device.report("digits", device.sign(first))
    wait_for(lambda: model_of(hub, device), "the statement")
    device.report("digits", device.sign(msgspec.structs.replace(first, state="committed")))
    wait_for(lambda: hub.rejected("counter-contradicted") == 1, "the rejection")
    assert model_of(hub, device)["state"] == "trial"


def test_revoked_device_is_not_heard(hub, device, wait_for):
    """After revocation a well-signed statement is rejected, whatever the broker lets through."""
    hub.client.post(f"/devices/{device.id}/revoke")
    device.disconnect()
    before = hub.rejected("device-unknown")
    device.connect()  # without TLS nothing keeps it out
    device.report("digits", device.sign(device.statement("digits", WANTED, "committed"))).result(30)
    wait_for(lambda: hub.rejected("device-unknown") >= before + 2, "the rejection of presence and statement")
    assert (model_of(hub, device), hub.device(device)["revoked"]) == (None, True)


def test_ended_enrolment_is_not_heard(hub, device, wait_for):
    """A statement of an earlier enrolment is rejected: re-enrolment resets the counter."""
    device.report("digits", device.sign(device.statement("digits", WANTED, "committed", enrolment="older")))
    wait_for(lambda: hub.rejected("device-unknown") == 1, "the rejection")


def test_strangers_are_dropped(hub, device, wait_for):
    """Messages of a client that is not enrolled are dropped and counted, and make no device."""
    host, port = device.identity.broker_url.removeprefix("mqtt://").split(":")
    link = Link(host, int(port), "stranger")
    with link:
        assert link.wait_online(10)
        link.publish("edge/v1/lab/stranger/up/state", b"{}").future.result(10)
        wait_for(lambda: hub.rejected("device-unknown") == 1, "the stranger's rejection")
    assert [each["id"] for each in hub.client.devices()] == [device.id]


@pytest.mark.parametrize("payload", [b"", b"\xff", b"[]", b'{"device": 1}', b"[" * 10_000])
def test_malformed_messages_are_counted(hub, device, wait_for, payload):
    """Garbage is counted as message-invalid and the hub goes on to hear the next message."""
    device.send("event", payload)
    wait_for(lambda: hub.rejected("message-invalid") == 1, "the rejection")
    device.report("digits", device.sign(device.statement("digits", WANTED, "trial")))
    wait_for(lambda: model_of(hub, device), "the good statement")


def test_wrong_evidence_digest_is_rejected(hub, device, wait_for):
    """A statement whose digest is not that of its evidence is rejected."""
    statement = device.statement("digits", WANTED, "trial", evidence={"nan": 3}, evidence_sha256="0" * 64)
    device.report("digits", device.sign(statement))
    wait_for(lambda: hub.rejected("message-invalid") == 1, "the rejection")


def test_events_carry_statements_too(hub, device, wait_for):
    """A statement in an event counts as one in the state does, and both together count once."""
    statement: Statement = device.statement("digits", WANTED, "trial")
    envelope = device.sign(statement)
    event = Event(
        schema="edge.event/1",
        device=device.id,
        fleet="lab",
        run="run",
        seq=1,
        ts="",
        mono_ms=0,
        model="digits",
        state="trial",
        statement=envelope,
    )
    device.send("event", encode(event)).result(10)
    device.report("digits", envelope).result(10)
    wait_for(lambda: model_of(hub, device), "the statement")
    assert len(hub.device(device)["history"]) == 1


def test_one_wrong_statement_does_not_take_the_others_with_it(hub, device, wait_for):
    """In a report with a forged and a good statement the good one counts."""
    good = device.sign(device.statement("other", WANTED, "trial"))
    forged = {**good, "payload": good["payload"][:-4]}
    report = StateReport(device=device.id, fleet="lab", statements={"digits": forged, "other": good})
    device.send("state", encode(report))
    wait_for(lambda: "other" in hub.device(device)["models"], "the good statement")
    assert model_of(hub, device) is None
