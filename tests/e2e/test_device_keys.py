"""A device's own keys in a fleet over TLS: they are changed, a copy of the old ones is worth nothing, and they end."""

from __future__ import annotations

import shutil
import ssl
from urllib.parse import urlsplit

import pytest
from e2e_world import MODEL, command, wait_for
from paho.mqtt import client as mqtt

from edgesdk.fleet.client import HubClient

pytestmark = [pytest.mark.slow, pytest.mark.mosquitto, pytest.mark.timeout(600)]


def rotate(device):
    """Run ``edge-agent rotate-keys``."""
    return command("edgesdk_agent", "rotate-keys", "--config", device.config, "--json")


def keys_of(device):
    """The folder of the keys that are in force."""
    return device.root / "state" / "keys"


def lets_in(site, device, keys):
    """Say whether the broker takes a client with these keys, under the device's name."""
    where = urlsplit(site.broker)
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, device.id, protocol=mqtt.MQTTv5)
    client.tls_set(str(keys / "ca.pem"), str(keys / "device.pem"), str(keys / "tls.pem"))
    try:
        client.connect(where.hostname, where.port)
        while client.loop(1.0) == mqtt.MQTT_ERR_SUCCESS:
            if client.is_connected():
                client.disconnect()
                return True
    except (ssl.SSLError, ConnectionError):  # TLS 1.3 refuses a client's certificate after the handshake
        pass
    return False


def audited(site, device):
    """What the audit log says was done with a device."""
    with HubClient.find(folder=site.hub_folder) as client:
        return [entry["action"] for entry in client.get("/audit") if entry["subject"] == device.id]


def test_keys_are_changed_in_service(protected, tmp_path):
    """Under new keys the device is heard and updated; with a copy of the old ones nobody gets to the broker."""
    device = protected.device()
    device.start()
    app = device.start_app()
    protected.roll_out("1.0.0", device)
    assert rotate(device).error["code"] == "agent-running"
    assert device.agent.stop() == 0
    old = shutil.copytree(keys_of(device), tmp_path / "stolen")
    assert lets_in(protected, device, old)
    assert rotate(device).code == 0
    changed = {name: (keys_of(device) / name).read_bytes() for name in ("tls.pem", "statement.pem", "device.pem")}
    assert all((old / name).read_bytes() != now for name, now in changed.items())
    device.start()
    protected.roll_out("2.0.0", device)
    app.wait_answer("2.0.0")
    wait_for(lambda: "device.rotated" in audited(protected, device), "the first word under the new key")
    wait_for(lambda: not lets_in(protected, device, old), "the broker's refusal of the old certificate")
    wait_for(lambda: device.look()["agent"]["online"], "the device, whose name the thief had taken")
    protected.roll_out("2.1.0", device)
    assert app.failures() == []


def test_a_revoked_device_comes_back_by_enrolling(protected, tmp_path):
    """Revoked in service it is put out and `why` says how to come back; enrolled anew it goes on with what it ran."""
    device = protected.device()
    device.start()
    app = device.start_app()
    protected.roll_out("1.0.0", device)
    revoked = device.id
    old = shutil.copytree(keys_of(device), tmp_path / "old")
    assert protected.fleet("revoke", revoked).code == 0
    wait_for(lambda: not device.look()["agent"]["online"], "the end of its connection")
    said = command("edgesdk_agent", "why", MODEL, "--config", device.config, "--json").json["models"][0]
    assert "revoked" in said["text"]
    assert "edge-agent enroll TOKEN --force" in said["next"]
    token = protected.fleet("token").json["token"]
    assert device.enrol(token, "--force").error["code"] == "agent-running"
    assert device.agent.stop() == 0
    assert rotate(device).error["code"] == "device-unknown"
    assert device.enrol(token, "--force").code == 0
    assert device.id != revoked
    device.start()
    assert device.good_release() == "1.0.0"
    protected.roll_out("2.0.0", device)
    app.wait_answer("2.0.0")
    known = {row["id"]: row["revoked"] for row in protected.fleet("devices").json}
    assert known == {revoked: True, device.id: False}
    device_before = type(device)(protected, device.folder, device.root, revoked)
    assert not lets_in(protected, device_before, old)
    assert app.failures() == []
