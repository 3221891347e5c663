"""SIGKILL of the agent in every state of the deployment table; an app reads all along.

The kill is triggered by the agent's own words that a state was entered. What it died in is read from its durable
journal; where it got away too fast, the deployment is made again. After a restart a whole generation is served and the
deployment ends as it would have without the kill.
"""

from __future__ import annotations

import pytest
from e2e_world import LONG_TRIAL, MODEL, TRIAL, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

WORKING = ("offered", "downloading", "verified", "staged", "testing", "trial", "committed")
ATTEMPTS = 5
LATER = {state: set(WORKING[index:]) for index, state in enumerate(WORKING)}
NICE = 19
"""The agent gets a core after the test does, so that the kill follows the word at once."""
STEADY = TRIAL.replace("0.3", "2.0")
"""Long enough that a trial is still under way when the agent is back."""


def kill_in(site, device, app, release, state, *, trial=STEADY, expect="done"):
    """Deploy, kill the agent when it enters the state, restart it, follow the rollout to its end; say where it died."""
    device.agent.stop()
    device.start(nice=NICE).kill_at(rf"wearable {release}: {state}\b")
    rollout = site.deploy(release, device, trial=trial)
    device.agent.wait_killed()
    died_in = device.journal()["state"]
    app.wait_answer_by_anyone()
    assert app.failures() == []
    device.start()
    site.watch(rollout, expect=expect)
    return died_in


@pytest.mark.parametrize("state", WORKING)
def test_killed_on_the_way(lab, settled, state):
    """Whatever the agent was doing when it was killed, the release is committed after a restart, and no call failed."""
    device, app = settled.device, settled.app
    for _ in range(ATTEMPTS):
        release = device.next_release()
        died_in = kill_in(lab, device, app, release, state)
        assert died_in in LATER[state]
        app.wait_answer(release)
        assert device.good_release() == release
        if died_in == state:
            break
    else:
        pytest.fail(f"the agent was never caught in {state}")
    assert app.failures() == []
    assert not list((device.root / "state" / "downloads").iterdir())


def test_killed_after_it_failed(lab, settled):
    """A release that testing refused is quarantined before the device says so: a kill does not bring it back."""
    device, app = settled.device, settled.app
    before = device.good_release()
    assert kill_in(lab, device, app, "3.0.0", "failed", expect="halted") == "failed"
    found = device.status()
    assert found["agent"]["models"][MODEL]["reason"]["code"] == "golden-truth-loss"
    again = lab.roll_out("3.0.0", device, trial=STEADY, expect="halted")
    assert again["waves"][0]["devices"][0]["reason"] == "generation-quarantined"
    app.wait_answer(before)
    assert (device.good_release(), app.failures()) == (before, [])


def test_killed_after_it_rolled_back(lab, settled):
    """After the rollback of a bad trial the old release serves whole, and the newcomer stays out."""
    device, app = settled.device, settled.app
    before = device.good_release()
    assert kill_in(lab, device, app, "4.0.0", "rolled_back", trial=LONG_TRIAL, expect="halted") == "rolled_back"
    again = lab.roll_out("4.0.0", device, trial=LONG_TRIAL, expect="halted")
    assert again["waves"][0]["devices"][0]["reason"] == "generation-quarantined"
    app.wait_answer(before)
    assert (device.good_release(), app.failures()) == (before, [])


def test_killed_before_the_first_commit(lab):
    """Killed in the trial of its first release a device has nothing to fall back to: the trial goes on and commits."""
    device = lab.device("first")
    device.start(nice=NICE).kill_at(r"wearable 1\.0\.0: trial\b")
    app = device.start_app()
    rollout = lab.deploy("1.0.0", device, trial=TRIAL)
    device.agent.wait_killed()
    assert device.journal()["state"] == "trial"
    wait_for(lambda: any(call["release"] == "1.0.0" for call in app.calls()), "an answer while no agent runs")
    device.start()
    lab.watch(rollout)
    assert (device.good_release(), app.failures()) == ("1.0.0", [])
