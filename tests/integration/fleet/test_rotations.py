"""Devices change their keys at a real hub; the old ones count until the new ones were heard."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from edgesdk_agent import rotation
from edgesdk_agent.identity import CA, CERTIFICATE, IDENTITY_SCHEMA, MOVED_KEYS, Identity
from edgesdk_agent.paths import Paths
from edgesdk_agent.rotation import finish_rotation, rotate

from edgesdk.errors import EdgeError
from edgesdk.protocol.messages import DesiredModel
from edgesdk.trust.rotation import make_rotation

WANTED = DesiredModel(release="1.0.0", deployment="r-1")


@pytest.fixture
def hub(start_hub):
    """A hub with nothing on it."""
    return start_hub()


@pytest.fixture
def device(hub, enrol):
    """A device that is online."""
    return enrol(hub).connect()


@pytest.fixture
def paths(tmp_path: Path, hub, device) -> Paths:
    """The device's folder, as the agent has it; `device` signs with the keys in it."""
    paths = Paths(tmp_path / "agent")
    paths.make()
    shutil.copytree(device.folder, paths.keys, dirs_exist_ok=True)
    (paths.keys / CERTIFICATE).write_text(device.identity.certificate_pem)
    (paths.keys / CA).write_text(device.identity.ca_pem)
    identity = Identity(
        schema=IDENTITY_SCHEMA,
        device=device.id,
        fleet="lab",
        enrolment=device.identity.enrolment,
        hub=hub.running.url,
        broker=device.identity.broker_url,
        repository=device.identity.repository_url,
    )
    paths.device.write_bytes(msgspec.json.encode(identity))
    device.folder = paths.keys
    return paths


def say(device, state: str):
    """Sign a statement with the keys that are in force on the device."""
    return device.sign(device.statement("digits", WANTED, state))


def heard(hub, device) -> int:
    """Return the counter of the newest statement that the hub believes."""
    return hub.device(device)["models"].get("digits", {}).get("counter", 0)


def test_the_old_key_counts_until_the_new_one_was_heard(hub, device, paths, wait_for) -> None:
    """A statement signed before the change is believed after it; the first of the new key ends the old."""
    before = say(device, "offered")
    rotate(paths)
    after = say(device, "downloading")
    device.report("digits", before).result(10)
    wait_for(lambda: heard(hub, device) == 1, "the statement of the old key")
    device.report("digits", after).result(10)
    wait_for(lambda: heard(hub, device) == 2, "the statement of the new key")
    actions = [each["action"] for each in hub.client.get("/audit")]
    assert actions.count("device.rotated") == 1
    assert "device.rotate" in actions


def test_the_old_key_is_refused_after_that(hub, device, paths, tmp_path, wait_for) -> None:
    """A thief with a copy of the old keys is not believed, and cannot rotate, once the new ones were heard."""
    old = tmp_path / "stolen"
    shutil.copytree(paths.keys, old)
    rotate(paths)
    device.report("digits", say(device, "offered")).result(10)
    wait_for(lambda: heard(hub, device) == 1, "the statement of the new key")
    device.folder = old
    device.report("digits", say(device, "committed")).result(10)
    wait_for(lambda: hub.rejected("signature-missing") + hub.rejected("signature-invalid") > 0, "the refusal")
    assert heard(hub, device) == 1
    stolen = tmp_path / "next"
    stolen.mkdir()
    forged = make_rotation(
        old, stolen, device=device.id, fleet="lab", enrolment=device.identity.enrolment, number=2**61
    )
    answer = hub.raw().post("/api/v1/rotate", content=msgspec.json.encode(forged))
    assert answer.json()["error"]["code"] == "possession"


def test_a_rotation_may_be_cut_anywhere(hub, device, paths, monkeypatch, wait_for) -> None:
    """Before the answer the old keys stay; after it the change is finished by whoever comes next, at any file."""
    with monkeypatch.context() as cut:
        cut.setattr(rotation, "http", lambda *_, **__: (_ for _ in ()).throw(OSError("the power is gone")))
        with pytest.raises(OSError, match="power"):
            rotate(paths)
    assert not finish_rotation(paths)
    device.report("digits", say(device, "offered")).result(10)
    wait_for(lambda: heard(hub, device) == 1, "the statement of the old key")
    for number, name in enumerate(MOVED_KEYS, start=2):
        with monkeypatch.context() as cut:

            def fall(folder: Path, *, at: str = name) -> None:
                if folder == paths.keys and not (paths.next_keys / at).exists():
                    raise OSError("the power is gone")

            cut.setattr(rotation, "fsync_folder", fall)
            with pytest.raises(OSError, match="power"):
                rotate(paths)
        finish_rotation(paths)
        assert not paths.next_keys.exists() or not (paths.next_keys / CERTIFICATE).exists()
        device.report("digits", say(device, "offered")).result(10)
        wait_for(lambda number=number: heard(hub, device) == number, f"the statement after a cut at {name}")


def test_two_rotations_without_a_word_between(hub, device, paths, wait_for) -> None:
    """A device that rotated and was not heard since signs the next rotation with keys that are still pending."""
    rotate(paths)
    rotate(paths)
    device.report("digits", say(device, "offered")).result(10)
    wait_for(lambda: heard(hub, device) == 1, "the statement of the newest key")


def test_what_the_hub_refuses(hub, device, paths, tmp_path) -> None:
    """An old request, another enrolment, a stranger, a revoked device, nonsense."""
    fresh = tmp_path / "next"
    fresh.mkdir()

    def ask(**changes) -> str:
        facts = {"device": device.id, "fleet": "lab", "enrolment": device.identity.enrolment, "number": 7}
        body = msgspec.json.encode(make_rotation(paths.keys, fresh, **(facts | changes)))
        answer = hub.raw().post("/api/v1/rotate", content=body).json()
        return answer.get("error", {}).get("code", "")

    assert ask() == ""
    assert ask() == "rotation-replayed"
    assert ask(number=6) == "rotation-replayed"
    assert ask(number=8, enrolment="another") == "device-unknown"
    assert ask(number=8, device="nobody") == "device-unknown"
    assert ask(number=8, fleet="other") == "device-unknown"
    assert hub.raw().post("/api/v1/rotate", content=b"{").json()["error"]["code"] == "argument-invalid"
    hub.client.post(f"/devices/{device.id}/revoke")
    assert ask(number=9) == "device-unknown"


def test_why_tells_a_revoked_device_the_operators_fix(hub, device, paths) -> None:
    """The device asks what its enrolment is worth when its broker is gone, and says how to come back."""

    def why() -> str:
        words = [sys.executable, "-m", "edgesdk_agent", "why", "digits", "--json", "--root", str(paths.root)]
        done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
        return json.loads(done.stdout)["models"][0]["next"]

    assert "Start the agent" in why()
    hub.client.post(f"/devices/{device.id}/revoke")
    assert "edge-agent enroll TOKEN --force" in why()
    with pytest.raises(EdgeError) as caught:
        rotate(paths)
    assert caught.value.code == "device-unknown"
