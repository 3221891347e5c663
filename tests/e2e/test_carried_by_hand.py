"""A device without network: a technician carries the release and the hub's signed wish to it in one file."""

from __future__ import annotations

import pytest
from e2e_world import MODEL, command, edge, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_a_file_is_tested_tried_and_told_later(site):
    """Exported for this device, imported while hub and broker are gone, committed by its trial; the hub is told."""
    site.start_hub("--broker", "devbroker")
    device, other = site.device(), site.device("other")
    rollout = site.deploy("1.0.0", device)
    file = site.folder / "carried.export"
    made = edge(
        "bundle", "export", MODEL, "1.0.0", "--repo", site.repo, "--device", device.id, "--dir", site.hub_folder,
        "-o", file,
    )  # fmt: skip
    assert made.json["device"] == device.id
    site.hub.kill()
    refused = command("edgesdk_agent", "import", file, "--config", other.config, "--json").error
    assert refused["code"] == "audience"
    taken = command("edgesdk_agent", "import", file, "--config", device.config, "--json").json
    assert (taken["deployed"], taken["state"]) == (True, "testing")
    device.start()
    app = device.start_app()
    wait_for(lambda: device.look()["agent"].get("models", {}).get(MODEL, {}).get("state") == "committed", "the commit")
    app.wait_answer("1.0.0")
    said = command("edgesdk_agent", "why", MODEL, "--config", device.config, "--json").json["models"][0]
    assert said["updated"]
    assert "The broker cannot be reached" in said["text"]
    site.start_hub("--broker", "devbroker")
    site.watch(rollout)
    assert app.failures() == []
