"""An update that is offered outside the maintenance window waits for it, by the wall clock of another zone.

Two things of the device are made for the test, because a test can wait neither for the night nor for NTP: the zone, a
file as every other in a folder of `PYTHONTZPATH`, whose wall shows what is needed; and a kernel that says that its
clock is disciplined.
"""

from __future__ import annotations

import struct
import subprocess
from datetime import UTC, datetime, timedelta

import pytest
from e2e_world import MODEL, command, wait_for

from edgesdk.clock import parse_rfc3339

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

ZONE = "Test/Harbour"
OPENING = timedelta(hours=22)
LEADS_S = (12, 30, 60)
"""How long before the opening the agent is started; more when a busy machine let the opening pass before it looked."""
DISCIPLINED = "int adjtimex(void *timex) { (void)timex; return 0; }\n"


@pytest.fixture
def disciplined(tmp_path, monkeypatch):
    """A kernel that says that its clock is synchronised; processes that start from now on believe it."""
    source, library = tmp_path / "adjtimex.c", tmp_path / "adjtimex.so"
    source.write_text(DISCIPLINED)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, source], check=True)
    monkeypatch.setenv("LD_PRELOAD", str(library))


def make_zone(folder, opens_at):
    """Write a zone (RFC 8536) without changes of clocks whose wall shows `OPENING` at that moment."""
    utc = timedelta(hours=opens_at.hour, minutes=opens_at.minute, seconds=opens_at.second)
    east = int((OPENING - utc).total_seconds())
    east -= 86400 * round(east / 86400)
    name = b"TST\0"
    header = struct.pack(">4sc15x6I", b"TZif", b"\0", 0, 0, 0, 0, 1, len(name))
    path = folder / ZONE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + struct.pack(">i?B", east, False, 0) + name)


def start_before_it_opens(site, device, lead):
    """Start the agent so many seconds before its maintenance window opens; return the moment of the opening."""
    opens_at = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=lead)
    make_zone(site.folder / "zones", opens_at)
    device.configure(maintenance=f'windows = ["* 22:00-05:00 {ZONE}"]')
    device.start()
    return opens_at


def why(device, rollout):
    """Return what ``edge-agent why`` says once the agent's status tells of a rollout."""
    wait_for(lambda: device.look()["agent"].get("models", {}).get(MODEL, {}).get("deployment") == rollout, "its status")
    return command("edgesdk_agent", "why", MODEL, "--config", device.config, "--json").json["models"][0]


@pytest.mark.usefixtures("disciplined")
def test_an_update_waits_for_the_window(site, monkeypatch):
    """Nothing is fetched before the window opens, `why` and the hub say so, apps are served; then it goes its way."""
    monkeypatch.setenv("PYTHONTZPATH", str(site.folder / "zones"))
    site.start_hub("--broker", "devbroker")
    device = site.device()
    device.start()
    app = device.start_app()
    site.roll_out("1.0.0", device)
    for lead, release in zip(LEADS_S, ("2.0.0", "2.1.0", "1.0.0"), strict=True):
        device.agent.stop()
        rollout = site.deploy(release, device)
        opens_at = start_before_it_opens(site, device, lead)
        said = why(device, rollout)
        if said["because"] == "maintenance-window":
            break
        site.watch(rollout)
    else:
        pytest.fail("the machine is too busy to look before a window opens")
    assert f"* 22:00-05:00 {ZONE}" in said["text"]
    assert "It waits" in said["text"]
    assert device.good_release() != release
    site.watch(rollout)
    app.wait_answer(release)
    history = site.fleet("devices", device.id).json["history"]
    told = [(each["state"], parse_rfc3339(each["ts"])) for each in history if each["deployment"] == rollout]
    assert {state for state, ts in told if ts < opens_at} == {"offered", "failed"}
    assert {"downloading", "testing", "trial", "committed"} <= {state for state, ts in told if ts >= opens_at}
    assert app.failures() == []
