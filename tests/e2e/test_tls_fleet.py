"""A fleet beyond plain loopback: HTTPS and MQTT with client certificates, from the first token to a revocation."""

from __future__ import annotations

import json
import ssl
from urllib.parse import urlsplit

import msgspec
import pytest
from e2e_world import MODEL, command, edge
from paho.mqtt import client as mqtt

from edgesdk.trust.enrolment import parse_token

pytestmark = [pytest.mark.slow, pytest.mark.mosquitto, pytest.mark.timeout(600)]


def test_fleet_over_tls(protected):
    """Enrolment trusts the token's authority, MQTT the certificate; a rollout commits; a revoked one is not heard."""
    device = protected.device()
    device.start()
    app = device.start_app()
    protected.roll_out("1.0.0")
    app.wait_answer("1.0.0")
    assert device.status()["agent"]["online"]

    stranger = protected.fleet("devices").json
    refused = edge("fleet", "devices", "--hub", protected.url, "--token", "none").error
    assert refused["code"] in {"hub-unreachable", "link-tls"}
    assert len(stranger) == 1

    revoked = protected.fleet("revoke", device.id).json
    assert revoked["revoked"]
    error = protected.fleet("deploy", MODEL, "2.0.0", "--devices", device.id).error
    assert error["code"] == "device-unknown"
    before = protected.fleet("devices").json[0]["models"][MODEL]["counter"]
    device.agent.stop()
    device.start()
    device.agent.wait_line(r"\[link-(refused|tls|offline)\]")  # the broker knows the revocation list
    assert not device.status()["agent"]["online"]
    assert protected.fleet("devices").json[0]["models"][MODEL]["counter"] == before
    app.wait_answer("1.0.0")
    assert app.failures() == []


def test_token_with_another_authority(protected):
    """A token that pins another authority than the hub's is refused before anything secret is sent to that hub."""
    token = parse_token(protected.fleet("token").json["token"])
    wrong = msgspec.structs.replace(token, ca_sha256="0" * 64)
    device = protected.device("right")
    folder = device.folder.parent / "wrong"
    other = type(device)(protected, folder, folder / "root")
    other.configure()
    error = other.enrol(wrong.to_text()).error
    assert error["code"] == "ca-mismatch"
    assert token.secret not in json.dumps(error)
    status = command("edgesdk_agent", "status", "--config", other.config, "--json").error
    assert status["code"] == "not-enrolled"
    assert other.enrol(token.to_text()).code == 0  # the token was not spent
    assert other.enrol(token.to_text(), "--force").error["code"] == "token-invalid"


def test_broker_wants_a_certificate(protected):
    """Without a certificate of the fleet's authority nobody speaks with the broker."""
    where = urlsplit(protected.broker)
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, "hub", protocol=mqtt.MQTTv5)
    client.tls_set(ca_certs=str(protected.hub_folder / "ca" / "ca.pem"))
    with pytest.raises((ssl.SSLError, ConnectionError, OSError)):  # noqa: PT012 - TLS 1.3 refuses after the handshake
        client.connect(where.hostname, where.port)
        while client.loop(1.0) == mqtt.MQTT_ERR_SUCCESS:
            assert not client.is_connected()
        raise ConnectionError
