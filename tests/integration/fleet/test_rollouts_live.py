"""Rollouts on a real hub, over real brokers, to devices that sign what they say."""

from __future__ import annotations

import pytest

from edgesdk.errors import EdgeError


def behave(table):
    """Return a device's behaviour by release; other releases commit."""
    return lambda wanted: table.get(wanted.release, "committed")


def test_waves_open_on_commits_and_bad_release_halts(start_hub, enrol, broker):
    """v1 reaches both devices in two waves; v2 is rolled back by the first and never reaches the second."""
    hub = start_hub(broker=broker)
    devices = [enrol(hub, f"cam {n}", behave({"2.0.0": "rolled_back"})).connect() for n in range(2)]
    first = hub.end(hub.deploy("1.0.0", devices, waves=["50%", "100%"])["id"])
    assert (first["state"], first["reason"]) == ("done", "2 of 2 devices committed")
    assert [wave["tally"]["committed"] for wave in first["waves"]] == [1, 1]

    second = hub.end(hub.deploy("2.0.0", devices, waves=["1", "100%"])["id"])
    assert second["state"] == "halted"
    assert f"{devices[0].id}: rolled_back (trial-evidence)" in second["reason"]
    assert second["waves"][1]["opened_at"] is None
    assert [desired.models["digits"].release for desired in devices[1].desired] == ["1.0.0"]
    said = hub.device(devices[0])["models"]["digits"]
    assert (said["state"], said["good_release"], said["reason"]["code"]) == ("rolled_back", "1.0.0", "trial-evidence")
    asked = [hub.device(device)["desired"]["digits"] for device in devices]
    assert [(each["release"], each["rollout"]) for each in asked] == [("2.0.0", "halted"), ("1.0.0", "done")]
    assert said["age_seconds"] >= 0


def test_halt_withdraws_what_is_undecided(start_hub, enrol, wait_for):
    """When a device of the wave goes bad, the one that has not decided is asked for the older release again."""
    hub = start_hub()
    bad = enrol(hub, "bad", behave({"2.0.0": "rolled_back"}))
    slow = enrol(hub, "slow", behave({"2.0.0": ""})).connect()
    bad.connect()
    hub.end(hub.deploy("1.0.0", [bad, slow])["id"])
    assert hub.end(hub.deploy("2.0.0", [slow, bad])["id"])["state"] == "halted"
    wait_for(lambda: slow.desired[-1].models["digits"].release == "1.0.0", "the withdrawal")
    serials = [desired.serial for desired in slow.desired]
    assert serials == sorted(set(serials))


def test_rollback_returns_to_the_release_before(start_hub, enrol):
    """`rollback` is a newer desired with the older release; the undone rollout says so."""
    hub = start_hub()
    device = enrol(hub).connect()
    hub.end(hub.deploy("1.0.0", [device])["id"])
    second = hub.end(hub.deploy("2.0.0", [device])["id"])
    back = hub.end(hub.client.post("/rollback", {"model": "digits"})["id"])
    assert (back["state"], back["release"], back["undoes"]) == ("done", "1.0.0", second["id"])
    assert back["policy"]["max_slowdown"] is None  # what was good is not timed against what is fled
    assert hub.client.rollout(second["id"])["state"] == "rolled_back"
    assert device.good["digits"] == "1.0.0"


def test_only_one_rollout_of_a_model_is_active(start_hub, enrol):
    """A second rollout of a model is refused until the first has ended; halt ends it."""
    hub = start_hub()
    device = enrol(hub, behave=lambda _: "")
    first = hub.deploy("1.0.0", [device])
    with pytest.raises(EdgeError) as caught:
        hub.deploy("2.0.0", [device])
    assert caught.value.code == "rollout-conflict"
    assert hub.client.post(f"/rollouts/{first['id']}/halt")["state"] == "halted"
    hub.deploy("2.0.0", [device])


def test_pause_holds_the_next_wave_and_resume_opens_it(start_hub, enrol, wait_for):
    """A paused rollout opens no wave although the first has committed; resume opens it."""
    hub = start_hub()
    devices = [enrol(hub, behave=lambda _: ""), enrol(hub).connect()]
    plan = hub.deploy("1.0.0", devices, waves=["1", "100%"])
    hub.client.post(f"/rollouts/{plan['id']}/pause")
    devices[0].behave = lambda _: "committed"
    devices[0].connect()
    wait_for(lambda: hub.client.rollout(plan["id"])["waves"][0]["tally"]["committed"] == 1, "the commit")
    assert hub.client.rollout(plan["id"])["opened"] == 1
    hub.client.post(f"/rollouts/{plan['id']}/resume")
    assert hub.end(plan["id"])["state"] == "done"


def test_offline_device_is_set_aside_and_served_when_it_comes(start_hub, enrol, wait_for):
    """A device that never answers does not block the next wave for ever, and still finds its desired later."""
    hub = start_hub()
    absent, present = enrol(hub, "absent"), enrol(hub, "present").connect()
    other = enrol(hub, "other").connect()
    gate = {"timeout_seconds": 0.2, "min_committed_share": 1.0}
    plan = hub.deploy("1.0.0", [absent, present, other], waves=["2", "100%"], gates=[gate])
    ended = hub.end(plan["id"])
    assert (ended["state"], "1 silent" in ended["reason"]) == ("done", True)
    absent.connect()
    wait_for(lambda: hub.device(absent)["models"].get("digits", {}).get("state") == "committed", "the late commit")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"model": "digits", "release": "9.9.9"}, "tuf-target-missing"),
        ({"model": "other", "release": "1.0.0"}, "tuf-target-missing"),
        ({"model": "digits", "release": "1.0.0", "devices": ["nobody"]}, "device-unknown"),
        ({"model": "digits", "release": "1.0.0", "waves": ["half"]}, "argument-invalid"),
        ({"model": "digits", "release": "1.0.0", "gates": [{"max_bd": 1}]}, "argument-invalid"),
        ({"model": "digits", "release": "1.0.0", "policy": {"alpha": 7}}, "argument-invalid"),
        ({"model": "digits", "release": "1.0.0", "typo": 1}, "argument-invalid"),
    ],
)
def test_what_cannot_be_deployed_is_refused(start_hub, enrol, body, code):
    """Unlisted releases, unknown devices and wrong plans are refused with their code, and nothing is written."""
    hub = start_hub()
    enrol(hub)
    with pytest.raises(EdgeError) as caught:
        hub.client.post("/rollouts", body)
    assert caught.value.code == code
    assert hub.client.rollouts() == []


def test_unlisted_deployment_key_is_refused_before_devices_do(site, start_hub, enrol, tmp_path):
    """When the repository names another deployment key, the hub says so instead of signing what is refused."""
    from edgesdk.trust.keys import generate_key  # noqa: PLC0415
    from edgesdk.trust.repository import set_deployment_keys  # noqa: PLC0415

    hub = start_hub()
    device = enrol(hub)
    set_deployment_keys(site.repo, site.keys, [generate_key(tmp_path / "other.pem", None)])
    with pytest.raises(EdgeError) as caught:
        hub.deploy("1.0.0", [device])
    assert caught.value.code == "deployment-key-unlisted"


def test_desired_names_the_repository_that_the_hub_knows(site, start_hub, enrol, wait_for):
    """`min_tuf` is the repository's present metadata, so that a frozen mirror is seen through."""
    hub = start_hub()
    device = enrol(hub).connect()
    site.publish("digits", "4.0.0")
    hub.end(hub.deploy("4.0.0", [device])["id"])
    timestamp = hub.raw().get("/repo/metadata/timestamp.json").json()["signed"]["version"]
    assert (device.desired[-1].min_tuf.root, device.desired[-1].min_tuf.timestamp) == (1, timestamp)
