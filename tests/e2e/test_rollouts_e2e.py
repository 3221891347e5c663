"""The way of an update as users walk it: hub, devices, rollouts, rollback; with apps that read all along."""

from __future__ import annotations

import pytest
from e2e_world import LONG_TRIAL, MODEL, edge

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("broker", [pytest.param("mosquitto", marks=pytest.mark.mosquitto), "devbroker"])
def test_two_releases_and_back(site, broker):
    """Two devices with different runtimes take two releases and go back to the first, bytes unmoved, no call failed."""
    said = site.start_hub("--broker", broker)
    assert said["broker_kind"] == broker
    devices = [site.device("tflite"), site.device("onnx", runtime="onnxruntime")]
    for device in devices:
        device.start()
    apps = [device.start_app() for device in devices]

    first = site.roll_out("1.0.0")
    assert first["waves"][0]["tally"] == {"size": 2, "silent": 0, "committed": 2, "bad": 0, "refused": 0}
    for app in apps:
        app.wait_answer("1.0.0")
    site.roll_out("2.0.0")
    for app in apps:
        app.wait_answer("2.0.0")
    _check_device(devices[0])
    _check_hub(site, devices)

    moved = [sum("downloading" in line for line in device.agent.lines) for device in devices]
    assert moved == [2, 2]
    back = site.fleet("rollback", MODEL).json
    assert back["release"] == "1.0.0"
    assert site.watch(back["id"])["state"] == "done"
    for device, app in zip(devices, apps, strict=True):
        app.wait_answer("1.0.0")
        assert sum("downloading" in line for line in device.agent.lines) == 2
        assert app.failures() == []
        assert _order(app) == ["1.0.0", "2.0.0", "1.0.0"]
    assert [each["state"] for each in site.fleet("status").json] == ["done", "rolled_back", "done"]


def _check_device(device):
    found = device.status()
    assert (found["running"], found["agent"]["online"]) == (True, True)
    model = found["agent"]["models"][MODEL]
    assert (model["state"], model["good_release"], model["serving"]) == ("committed", "2.0.0", "good")
    slots = found["slots"][MODEL]
    assert (slots["serve"], slots["trial"]) == ("good", None)
    assert slots["previous"] not in {None, slots["good"]}


def _check_hub(site, devices):
    found = {each["id"]: each for each in site.fleet("devices").json}
    assert set(found) == {device.id for device in devices}
    for each in found.values():
        stated = each["models"][MODEL]
        assert (each["online"], stated["state"], stated["good_release"]) == (True, "committed", "2.0.0")
        assert stated["age_seconds"] >= 0
    again = edge("repo", "publish", site.releases["2.0.0"], "--repo", site.repo).json
    assert again["changed"] is False


def _order(app):
    """The releases that answered, in their order, without repetitions."""
    answered = [call["release"] for call in app.calls()]
    return [each for index, each in enumerate(answered) if index == 0 or answered[index - 1] != each]


def test_bad_releases_are_refused_and_rolled_back(lab, settled):
    """v3 fails the good generation's truth, v4 its trial; both halt (exit 7), stay quarantined, and no call fails."""
    device, app = settled.device, settled.app
    refused = lab.roll_out("3.0.0", device, expect="halted")
    standing = refused["waves"][0]["devices"][0]
    assert (standing["standing"], standing["state"]) == ("bad", "failed")
    assert standing["reason"] == "golden-truth-loss"
    rolled_back = lab.roll_out("4.0.0", device, expect="halted", trial=LONG_TRIAL)
    standing = rolled_back["waves"][0]["devices"][0]
    assert (standing["state"], standing["reason"]) == ("rolled_back", "trial-evidence")
    app.wait_answer("1.0.0")
    again = lab.roll_out("4.0.0", device, expect="halted", trial=LONG_TRIAL)
    assert again["waves"][0]["devices"][0]["reason"] == "generation-quarantined"
    assert app.failures() == []
    assert any(call["served"] == "4.0.0" and call["release"] == "1.0.0" for call in app.calls())
