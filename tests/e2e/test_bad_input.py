"""What must not get through: each bad thing gives one clear error with a code and a hint, and nothing is lost by it."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from e2e_world import MODEL, command, edge, wait_for
from edgesdk_agent.store.state import StateDb
from paho.mqtt import client as mqtt
from paho.mqtt import publish

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def flip(data: bytes) -> bytes:
    """Change one byte in the middle."""
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 0xFF]) + data[middle + 1 :]


@contextmanager
def replaced(path: Path, content: bytes) -> Iterator[None]:
    """Give a file other bytes for a while."""
    whole = path.read_bytes()
    path.write_bytes(content)
    try:
        yield
    finally:
        path.write_bytes(whole)


def stated_reason(site, device, code):
    """Wait until the hub knows from the device's signed statement why it does not go on."""

    def found():
        reason = site.stated(device).get("reason")
        return reason if reason and reason["code"] == code else None

    reason = wait_for(found, f"{code} at the hub")
    assert reason["message"]
    assert reason["hint"]
    return reason


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        pytest.param(flip, "tuf-target-mismatch", id="tampered"),
        pytest.param(lambda data: data[: len(data) // 2], "download-length", id="truncated"),
        pytest.param(lambda data: data + b"\0" * 4096, "download-length", id="oversized"),
    ],
)
def test_spoiled_bundle(lab, settled, spoil, code):
    """A bundle whose bytes are not what was signed is refused by its code; with the right bytes it is committed."""
    device, app = settled.device, settled.app
    before, release = device.good_release(), device.next_release()
    (bundle,) = (lab.repo / "targets" / "models" / MODEL / release).glob("*tflite*.edge")
    with replaced(bundle, spoil(bundle.read_bytes())):
        rollout = lab.deploy(release, device)
        reason = stated_reason(lab, device, code)
        assert not reason.get("permanent", False)
        assert device.good_release() == before
        assert device.look()["slots"][MODEL]["trial"] is None
    lab.watch(rollout)
    app.wait_answer(release)
    assert app.failures() == []


def test_unsigned_release(lab, settled):
    """A release that lies in the repository's folder but in no signed metadata cannot be deployed."""
    shutil.copytree(lab.releases["2.0.0"], lab.repo / "targets" / "models" / MODEL / "9.9.9")
    error = lab.fleet("deploy", MODEL, "9.9.9", "--devices", settled.device.id).error
    assert error["code"] == "tuf-target-missing"
    assert "9.9.9" in error["message"]


def test_tampered_metadata(lab, settled):
    """Signed metadata with one changed byte is refused by hub and device, and both go on when it is whole again."""
    device = settled.device
    release = device.next_release()
    timestamp = lab.repo / "metadata" / "timestamp.json"
    whole = timestamp.read_bytes()
    tampered = whole.replace(b'"expires":"20', b'"expires":"21')
    assert tampered != whole
    with replaced(timestamp, tampered):
        error = lab.fleet("deploy", MODEL, release, "--devices", device.id).error
        assert error["code"] in {"signature-invalid", "tuf-metadata"}, error
    rollout = lab.deploy(release, device)
    lab.watch(rollout)
    assert (device.good_release(), settled.app.failures()) == (release, [])


def test_downgraded_repository(lab, settled):
    """A repository put back to older, rightly signed metadata is refused by the device until it is renewed."""
    device = settled.device
    before, release = device.good_release(), device.next_release()
    timestamp = lab.repo / "metadata" / "timestamp.json"
    old = timestamp.read_bytes()
    edge("repo", "refresh", "--role", "timestamp", "--repo", lab.repo).json  # noqa: B018 - it asserts success
    start = len(device.agent.lines)
    lab.roll_out(before, device)  # the device sees the newer metadata
    with replaced(timestamp, old):
        rollout = lab.deploy(release, device)
        line = device.agent.wait_line(r"not acted on.*\[tuf-(rollback|frozen)\]", start=start)
        assert "timestamp" in line
        assert device.good_release() == before
    lab.watch(rollout)
    assert (device.good_release(), settled.app.failures()) == (release, [])


def test_wrong_target(lab, settled):
    """A release for arm64 only is refused before anything is downloaded; the hub says why and what to do."""
    device = settled.device
    before, start = device.good_release(), len(device.agent.lines)
    ended = lab.roll_out("5.0.0", device, expect="halted")
    standing = ended["waves"][0]["devices"][0]
    assert (standing["standing"], standing["reason"]) == ("refused", "no-fitting-variant")
    assert "aarch64" in standing["message"]
    assert "x86_64" in standing["message"]
    reason = stated_reason(lab, device, "no-fitting-variant")
    assert reason["permanent"]
    assert not any("downloading" in line for line in device.agent.lines[start:])
    assert (device.good_release(), settled.app.failures()) == (before, [])


def test_wrong_contract(lab, settled):
    """A release with another contract major than the app asks for is rolled back: the app says so, and never fails."""
    device, app = settled.device, settled.app
    before = device.good_release()
    ended = lab.roll_out("6.0.0", device, expect="halted")
    standing = ended["waves"][0]["devices"][0]
    assert (standing["state"], standing["reason"]) == ("rolled_back", "trial-evidence")
    assert "contract-major" in standing["message"]
    app.wait_answer(before)
    assert app.failures() == []


def _to_broker(site, topic, payload, *, client_id, username=None, retain=False):
    """Publish as anybody may who reaches a broker that asks nobody who they are."""
    where = urlsplit(site.broker)
    publish.single(
        topic, payload, qos=1, retain=retain, hostname=where.hostname, port=where.port, client_id=client_id,
        auth={"username": username} if username else None, protocol=mqtt.MQTTv5,
    )  # fmt: skip


def _send_desired(site, device, payload, *, retain=False):
    """Publish on a device's topic for desired documents, in the hub's name."""
    topic = f"edge/v1/lab/{device.id}/down/desired"
    _to_broker(site, topic, payload, client_id="hub-intruder", username="hub", retain=retain)


def _accepted(device):
    """Return the signed desired document that the device obeys."""
    state = StateDb(device.root / "state" / "state.db")
    try:
        return json.dumps(state.accepted().envelope)
    finally:
        state.close()


def test_replayed_desired(lab, settled):
    """An older desired document, signed and retained on the broker, is refused, and by a restarted agent too."""
    device, app = settled.device, settled.app
    old = _accepted(device)
    release = device.next_release()
    lab.roll_out(release, device)
    start = len(device.agent.lines)
    _send_desired(lab, device, old, retain=True)
    device.agent.wait_line(r"not acted on.*\[serial-replayed\]", start=start)
    assert wait_for(lambda: device.look()["agent"]["intake"]["replayed"], "the count of replays")
    device.agent.stop()
    device.start().wait_line(r"not acted on.*\[serial-replayed\]")
    assert device.good_release() == release
    following = device.next_release()
    lab.roll_out(following, device)
    assert (device.good_release(), app.failures()) == (following, [])


def test_forged_desired(lab, settled):
    """A desired document that nobody signed who may is refused, and a genuine one is obeyed after it."""
    device, app = settled.device, settled.app
    before, genuine = device.good_release(), _accepted(device)
    envelope = json.loads(genuine)
    document = json.loads(base64.b64decode(envelope["payload"]))
    document["serial"] += 1_000_000
    document["models"][MODEL]["release"] = device.next_release()
    envelope["payload"] = base64.b64encode(json.dumps(document).encode()).decode()
    start = len(device.agent.lines)
    _send_desired(lab, device, json.dumps(envelope))
    device.agent.wait_line(r"not acted on.*\[signature-(invalid|missing)\]", start=start)
    assert device.good_release() == before
    release = device.next_release()
    lab.roll_out(release, device)
    assert (device.good_release(), app.failures()) == (release, [])


@pytest.fixture(scope="module")
def mute(lab):
    """An enrolled device without an agent: the tests speak in its name."""
    return lab.device("mute")


@pytest.mark.parametrize(
    "payload",
    [b"{", b"\xff\xfe", b'{"payload": 7}', b"[]", b"[" * 50_000, b'"' + b"x" * 100_000 + b'"'],
    ids=["cut", "no-text", "wrong-type", "wrong-shape", "deep", "large"],
)
def test_malformed_messages(lab, settled, mute, payload):
    """Whatever comes down or up malformed is counted and dropped; agent and hub go on."""
    device = settled.device
    start, heard = len(device.agent.lines), len(lab.hub.lines)
    _send_desired(lab, device, payload)
    for channel in ("event", "state"):
        _to_broker(lab, f"edge/v1/lab/{mute.id}/up/{channel}", payload, client_id=mute.id)
    line = device.agent.wait_line(r"dropped a message on", start=start)
    assert "[message-invalid]" in line
    assert not any("Traceback" in each for each in device.agent.lines[start:])
    wait_for(lambda: sum("was rejected" in each for each in lab.hub.lines[heard:]) >= 2, "the hub's words")
    assert settled.app.failures() == []


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A file system of 12 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=12m", "none", str(folder)], check=False)
    if made.returncode != 0:
        pytest.skip("only root may mount a small file system")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_full_disk(lab, small_disk):
    """With the disk full a deployment fails for now, the good release serves on, and space given back ends it well.

    First there is room for what is small, so that the device can say it; then for nothing at all.
    """
    device = lab.device("small", root=small_disk / "root", maintenance="disk_reserve_bytes = 0")
    device.start()
    app = device.start_app()
    lab.roll_out("1.0.0", device)
    with filled(small_disk, leave=1_200_000):
        rollout = lab.deploy("2.0.0", device)
        assert not stated_reason(lab, device, "disk-full").get("permanent", False)
        assert device.good_release() == "1.0.0"
    lab.watch(rollout)
    app.wait_answer("2.0.0")
    with filled(small_disk, leave=0):
        rollout = lab.deploy("2.1.0", device)
        device.agent.wait_line(r"not acted on.*\[disk-full\]")
        assert wait_for(lambda: _told(lab, device, rollout), "the hub to know") == "disk-full"
        why = command("edgesdk_agent", "why", MODEL, "--config", device.config, "--json").json["models"][0]
        assert "not in force" in why["text"]
        assert "[disk-full]" in why["text"]
        assert device.good_release() == "2.0.0"
    lab.watch(rollout)
    app.wait_answer("2.1.0")
    assert app.failures() == []
    app.program.end()
    device.agent.stop()


def _told(lab, device, rollout):
    """Return why the device does not act, as the hub shows it with the rollout and with the device."""
    standing = lab.fleet("status", rollout).json["waves"][0]["devices"][0]
    problem = lab.fleet("devices", device.id).json["problem"] or {}
    assert (standing["state"], standing["standing"]) == ("", "silent")
    return standing["reason"] if standing["reason"] == problem.get("code") else ""


@contextmanager
def filled(folder: Path, *, leave: int) -> Iterator[None]:
    """Fill a file system for a while."""
    filler = folder / "filler"
    with filler.open("wb") as file, suppress(OSError):
        file.write(b"\0" * (shutil.disk_usage(folder).free - leave))
    try:
        yield
    finally:
        filler.unlink()


def test_disk_budget(lab):
    """A generation beyond the configured budget is refused for now with both figures; a larger budget lets it in."""
    device = lab.device("budget", store="disk_budget_bytes = 100000")
    device.start()
    app = device.start_app()
    rollout = lab.deploy("1.0.0", device)
    reason = stated_reason(lab, device, "disk-full")
    assert "budget" in reason["message"]
    device.agent.stop()
    device.configure(store="disk_budget_bytes = 50000000")
    device.start()
    lab.watch(rollout)
    app.wait_answer("1.0.0")
    assert app.failures() == []
