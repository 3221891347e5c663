"""The hub's machine burns: a backup is restored, or a new hub takes the fleet over. Devices serve all the while."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

import pytest
from e2e_world import FLEET, edge, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def running(site):
    """A device that runs 1.0.0, with an app."""
    site.start_hub("--broker", "devbroker")
    device = site.device()
    device.start()
    app = device.start_app()
    site.roll_out("1.0.0", device)
    return device, app


def seen(site, device):
    """The device's row of ``edge fleet devices --json``."""
    (row,) = (row for row in site.fleet("devices").json if row["id"] == device.id)
    return row


def test_a_backup_is_restored(site, running, tmp_path):
    """A restored hub sees that the device obeys a later word and moves nothing; its next word is later still."""
    device, app = running
    database = site.hub_folder / "hub.db"
    with closing(sqlite3.connect(database)) as source, closing(sqlite3.connect(tmp_path / "backup.db")) as backup:
        source.backup(backup)
    site.roll_out("2.0.0", device)
    site.hub.kill()
    shutil.copy(tmp_path / "backup.db", database)
    for journal in ("hub.db-wal", "hub.db-shm"):
        (site.hub_folder / journal).unlink(missing_ok=True)
    site.start_hub("--broker", "devbroker")
    wait_for(lambda: site.stated(device).get("good_release") == "2.0.0", "the device's word")
    row = seen(site, device)
    assert (row["ahead"], row["desired"]["wearable"]["release"]) == (True, "1.0.0")
    app.wait_answer("2.0.0")
    site.roll_out("2.1.0", device)
    app.wait_answer("2.1.0")
    assert (seen(site, device)["ahead"], app.failures()) == (False, [])


def test_a_new_hub_takes_the_fleet_over(site, running):
    """Without a backup: a new hub, its key named by the repository, its device enrolled anew; it serves all along."""
    device, app = running
    before = device.id
    site.hub.kill()
    shutil.rmtree(site.hub_folder)
    made = edge("hub", "init", site.hub_folder, "--fleet", FLEET, "--repo", site.repo).json
    assert edge("repo", "deployment-keys", made["deployment_public"], "--repo", site.repo).code == 0
    site.start_hub("--broker", "devbroker")
    app.wait_answer("1.0.0")
    device.agent.stop()
    assert device.enrol(site.fleet("token").json["token"], "--force", "--name", "dev").code == 0
    assert device.id != before
    device.start()
    wait_for(lambda: site.stated(device).get("good_release") == "1.0.0", "the device's word")
    assert seen(site, device)["ahead"]
    site.roll_out("2.0.0", device)
    app.wait_answer("2.0.0")
    assert (seen(site, device)["ahead"], app.failures()) == (False, [])
