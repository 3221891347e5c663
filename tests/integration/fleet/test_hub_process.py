"""The hub as a process: started, killed, restored, protected; and `edge fleet` as an operator types it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from edgesdk.clock import SystemClock
from edgesdk.errors import EdgeError
from edgesdk.fleet.client import HubClient
from edgesdk.fleet.folder import HubFolder, Running
from edgesdk.fleet.hub import Hub, Options
from edgesdk.protocol.link import Link


class Ahead(SystemClock):
    """A clock that is an hour fast."""

    def now(self):
        return super().now() + timedelta(hours=1)


def start(edge, site, *arguments):
    """Start a hub process and return it with what it printed."""
    process = edge("hub", "start", str(site.folder.path), "--repo", str(site.repo), "--json", *arguments)
    line = process.stdout.readline()
    assert line, process.stderr.read()
    return process, Running(**json.loads(line))


def said(process):
    """Return exit code and output of a command that ends."""
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def test_init_makes_private_files_and_says_what_is_next(edge, tmp_path):
    """`edge hub init` leaves keys and token readable by the owner only, and names the next command."""
    code, out, _ = said(edge("hub", "init", str(tmp_path / "hub"), "--fleet", "lab"))
    assert (code, "edge repo deployment-keys" in out) == (0, True)
    for name in ("keys/deployment.pem", "ca/ca.key.pem", "admin.token"):
        assert stat.S_IMODE((tmp_path / "hub" / name).stat().st_mode) == 0o600
    assert HubFolder(tmp_path / "hub").admin_token() not in out
    assert said(edge("hub", "init", str(tmp_path / "hub"), "--fleet", "lab"))[0] == 2
    assert said(edge("hub", "init", str(tmp_path / "other"), "--fleet", "No Name"))[0] == 2
    assert not (tmp_path / "other").exists()


def test_terminated_hub_ends_cleanly(edge, site, broker):
    """SIGTERM ends the hub with exit code 0, its broker with it, and a second start listens where the first did."""
    process, first = start(edge, site, "--broker", broker)
    again = edge("hub", "start", str(site.folder.path), "--repo", str(site.repo), "--broker", broker, "--json")
    code, _, error = said(again)
    assert (code, json.loads(error)["error"]["code"]) == (7, "hub-running")
    process.send_signal(signal.SIGTERM)
    assert said(process)[0] == 0
    if broker == "mosquitto":
        pid = int((site.folder.path / "broker" / "pid").read_text())
        assert not Path(f"/proc/{pid}").exists()
    _, second = start(edge, site, "--broker", broker)
    assert (second.url, second.broker) == (first.url, first.broker)


@pytest.mark.mosquitto
def test_a_broker_that_dies_is_started_again(edge, site, enrol, start_hub, wait_for):
    """The hub starts its killed Mosquitto anew where it was; devices come back, and a rollout goes through it."""
    hub = start_hub(broker="mosquitto")
    device = enrol(hub).connect()
    before = int((site.folder.path / "broker" / "pid").read_text())
    for _ in range(2):
        pid = int((site.folder.path / "broker" / "pid").read_text())
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda pid=pid: int((site.folder.path / "broker" / "pid").read_text()) != pid, "another broker")
    hub.deploy("1.0.0", [device], waves=["100%"])
    wait_for(lambda: hub.client.rollouts()[0]["state"] == "done", "the rollout's end")
    last = int((site.folder.path / "broker" / "pid").read_text())
    hub.hub.stop()
    assert last != before
    assert not Path(f"/proc/{last}").exists()


@pytest.mark.slow
def test_killed_hub_goes_on_with_its_rollout(edge, site, broker, enrol, start_hub, wait_for):  # noqa: PLR0917 - fixtures
    """SIGKILL in the middle of a rollout: the next hub ends the left-behind broker and finishes the rollout."""
    held = {"hold": True}
    hub = start_hub(broker=broker)
    devices = [enrol(hub), enrol(hub, behave=lambda _: "" if held["hold"] else "committed")]
    hub.hub.stop()
    process, running = start(edge, site, "--broker", broker)
    client = HubClient(running.url, site.folder.admin_token())
    for device in devices:
        device.connect()
    plan = client.post(
        "/rollouts",
        {"model": "digits", "release": "1.0.0", "devices": [d.id for d in devices], "waves": ["1", "100%"]},
    )
    wait_for(lambda: devices[1].desired, "the second wave")
    process.send_signal(signal.SIGKILL)
    process.wait(30)
    held["hold"] = False
    _, after = start(edge, site, "--broker", broker)
    assert after.url == running.url
    wait_for(lambda: devices[1].link.online, "the device's return")
    devices[1].answer("digits", devices[1].desired[-1].models["digits"])
    wait_for(lambda: client.rollout(plan["id"])["state"] == "done", "the end of the rollout")
    assert [len(device.desired) for device in devices] == [1, 1]


def test_desired_written_before_a_crash_is_published_after_it(site, start_hub, enrol, wait_for):
    """What was written but not published when the hub died is published by the next one."""
    hub = start_hub()
    device = enrol(hub)
    hub.deploy("1.0.0", [device])
    hub.hub.stop()
    start_hub()
    device.connect()
    wait_for(lambda: device.desired, "the desired document")
    assert device.desired[-1].models["digits"].release == "1.0.0"


def test_hub_restored_from_a_backup_starts_above_its_devices(site, start_hub, enrol, wait_for):
    """After a restore the hub's next document has a higher serial than its devices report, and nothing moves before."""
    hub = start_hub()
    device = enrol(hub).connect()
    hub.end(hub.deploy("1.0.0", [device])["id"])
    hub.hub.stop()
    backup = site.path / "backup.db"
    shutil.copy(site.folder.path / "hub.db", backup)

    later = start_hub(clock=Ahead())
    wait_for(lambda: device.link.online, "the device's return")
    later.end(later.deploy("2.0.0", [device])["id"])
    serial = device.serial
    later.hub.stop()
    shutil.copy(backup, site.folder.path / "hub.db")

    restored = start_hub()
    wait_for(lambda: device.link.online, "the device's return")
    device.report("digits", device.latest["digits"]).result(30)
    wait_for(lambda: restored.device(device)["ahead"], "the device's serial")
    assert device.good["digits"] == "2.0.0"
    restored.end(restored.deploy("3.0.0", [device])["id"])
    assert device.serial > serial
    assert restored.device(device)["ahead"] is False


@pytest.mark.mosquitto
def test_fleet_with_tls(site, start_hub, enrol, wait_for):
    """With --tls everything is TLS: enrolment checked by the fleet's authority, MQTT by client certificates."""
    hub = start_hub(tls=True, broker="mosquitto")
    assert (hub.running.url[:8], hub.running.broker[:8]) == ("https://", "mqtts://")
    device = enrol(hub).connect(ca=Path(hub.running.ca))
    assert hub.end(hub.deploy("1.0.0", [device])["id"])["state"] == "done"
    with pytest.raises(EdgeError) as caught:
        HubClient(hub.running.url, hub.client_token).devices()
    assert caught.value.code == "hub-unreachable"
    host, port = hub.running.broker.removeprefix("mqtts://").split(":")
    with Link(host, int(port), device.id) as plain:
        assert not plain.wait_online(1.0)


@pytest.mark.parametrize(
    "options",
    [
        {"host": "0.0.0.0"},
        {"host": "192.0.2.1"},
        {"broker": "mqtt://broker.example.org:1883"},
        {"tls": True, "broker": "devbroker"},
    ],
)
def test_unprotected_hub_is_refused(site, options):
    """Beyond this machine there is no hub without TLS, and no plain MQTT."""
    with pytest.raises(EdgeError) as caught:
        Hub(site.folder, Options(repo=site.repo, **options))
    assert caught.value.code == "insecure-bind"


@pytest.mark.parametrize("broker_url", ["ftp://127.0.0.1", "mqtt://", "mqtts://127.0.0.1:8883x", "nonsense"])
def test_wrong_broker_is_refused(site, broker_url):
    """A broker that cannot be one is refused with a code, and everything that was started stops again."""
    with pytest.raises(EdgeError) as caught, Hub(site.folder, Options(repo=site.repo, broker=broker_url)) as hub:
        hub.start()
    assert caught.value.code == "argument-invalid"
    os.close(site.folder.lock())


def test_external_broker(site, start_hub, enrol):
    """A hub works with a broker that somebody else runs."""
    from edgesdk.devbroker.server import DevBroker  # noqa: PLC0415

    with DevBroker.running() as other:
        hub = start_hub(broker=f"mqtt://127.0.0.1:{other.port}")
        device = enrol(hub).connect()
        assert hub.end(hub.deploy("1.0.0", [device])["id"])["state"] == "done"
        device.disconnect()
        hub.hub.stop()


@pytest.mark.slow
def test_an_operators_day(edge, site, start_hub, enrol):
    """Token, deploy, watch (0), a bad release (7), status, devices, rollback: commands, JSON and exit codes."""
    hub = start_hub()
    behave = {"2.0.0": "rolled_back"}
    device = enrol(hub, "cam", lambda wanted: behave.get(wanted.release, "committed")).connect()
    where = ("--hub", hub.running.url, "--token", hub.client_token)
    code, out, _ = said(edge("fleet", "token", *where))
    assert (code, out.startswith("edge1.")) == (0, True)
    policy = site.path / "policy.toml"
    policy.write_text("[trial]\nmin_seconds = 5.0\n[gate]\ntimeout_seconds = 600\n")
    deploy = ("--all", "--policy", str(policy), "--trial-min-calls", "7", "--json")
    code, out, error = said(edge("fleet", "deploy", "digits", "1.0.0", *deploy, *where))
    assert code == 0, error
    assert json.loads(out)["policy"] | {"min_seconds": 5.0, "min_calls": 7} == json.loads(out)["policy"]
    code, out, _ = said(edge("fleet", "watch", "--json", *where))
    assert (code, json.loads(out.splitlines()[-1])["state"]) == (0, "done")
    code, out, _ = said(edge("fleet", "deploy", "digits", "2.0.0", "--devices", device.id, "--watch", *where))
    assert (code, "halted" in out, "trial-evidence" in out) == (7, True, True)
    code, out, _ = said(edge("fleet", "status", "--json", *where))
    assert [each["state"] for each in json.loads(out)] == ["halted", "done"]
    code, out, _ = said(edge("fleet", "devices", "--dir", str(site.folder.path), COLUMNS="200"))
    assert (code, device.id in out, "rolled_back" in out) == (0, True, True)
    code, out, _ = said(edge("fleet", "rollback", "digits", "--watch", "--json", *where))
    assert (code, json.loads(out.splitlines()[-1])["release"]) == (0, "1.0.0")
    code, _, error = said(edge("fleet", "status", "r-none", "--json", *where))
    assert (code, json.loads(error)["error"]["code"]) == (2, "rollout-unknown")


@pytest.mark.slow
def test_what_a_device_says_does_not_steer_the_terminal(edge, start_hub, enrol, wait_for):
    """Escape sequences and markup in a device's reason are shown harmless."""
    hub = start_hub()
    device = enrol(hub, behave=lambda _: "").connect()
    plan = hub.deploy("1.0.0", [device])
    wait_for(lambda: device.desired, "the desired document")
    from edgesdk.protocol.messages import Reason  # noqa: PLC0415

    nasty = Reason(code="\x1b]0;owned\x07", message="[red]\x1b[2J[/bold]", permanent=True)
    wanted = device.desired[-1].models["digits"]
    device.report("digits", device.sign(device.statement("digits", wanted, "failed", reason=nasty)))
    hub.end(plan["id"])
    for command in (("watch",), ("status", plan["id"]), ("status",), ("devices",)):
        _, out, error = said(edge("fleet", *command, "--hub", hub.running.url, "--token", hub.client_token))
        assert "\x1b]0" not in out + error
        assert "\x1b[2J" not in out + error
        assert "Traceback" not in error


def test_unreachable_hub_and_missing_token(edge, site, start_hub):
    """The commands say that the hub does not answer, that it refuses, or that nobody named one."""
    code, _, error = said(edge("fleet", "devices", "--hub", "http://127.0.0.1:9", "--json"))
    assert (code, json.loads(error)["error"]["code"]) == (8, "hub-unreachable")
    hub = start_hub()
    code, _, error = said(edge("fleet", "devices", "--hub", hub.running.url, "--json"))
    assert (code, json.loads(error)["error"]["code"]) == (8, "hub-refused")
    code, _, error = said(edge("fleet", "devices", "--json"))
    assert (code, json.loads(error)["error"]["code"]) == (2, "argument-invalid")
