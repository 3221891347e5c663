"""The repository's keys are replaced under a running fleet: devices follow every root, one by one, and update on."""

from __future__ import annotations

import json

import pytest
from e2e_world import MODEL, edge

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def rotate(site, *roles):
    """Run ``edge repo rotate``; return the version of root after it."""
    version: int = edge("repo", "rotate", *roles, "--repo", site.repo).json["versions"]["root"]
    return version


def sign_something(site):
    """Publish with the keys that are in force; what a device would not trust it could not deploy after this."""
    reason = "signed by the newest keys"
    assert edge("repo", "policy", MODEL, "--no-anchor", "--reason", reason, "--repo", site.repo).code == 0


def trusted(device, role):
    """The version of a role's metadata that the device has verified."""
    metadata = json.loads((device.root / "state" / "tuf" / "metadata" / f"{role}.json").read_bytes())["signed"]
    found: int = metadata["version"]
    return found


def test_a_device_follows_every_root(site):
    """Two rotations while the agent is away, one while it runs: both updates commit, and no call fails meanwhile."""
    site.start_hub("--broker", "devbroker")
    device = site.device()
    device.start()
    app = device.start_app()
    site.roll_out("1.0.0", device)
    first = trusted(device, "root")
    device.agent.stop()
    rotate(site, "root", "targets")
    assert rotate(site, "root", "targets", "snapshot", "timestamp") == first + 2
    sign_something(site)
    device.start()
    site.roll_out("2.0.0", device)
    assert trusted(device, "root") == first + 2
    newest = rotate(site, "root", "targets")
    edge("repo", "refresh", "--role", "targets", "--repo", site.repo).json  # noqa: B018 - it asserts success
    site.roll_out("2.1.0", device)
    app.wait_answer("2.1.0")
    assert trusted(device, "root") == newest == first + 3
    assert app.failures() == []
