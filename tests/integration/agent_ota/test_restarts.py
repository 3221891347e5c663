"""Restarts in the middle of a deployment: whose fault they are decides what becomes of the release."""

from __future__ import annotations

import pytest
from agent_ota_world import World
from edgesdk_agent.ota.updater import MAX_CUTS, MAX_RESUMES


def restart(world: World, ended) -> None:
    world.state.close()
    world.start(ended=ended)


@pytest.mark.parametrize("ended", ["power loss", "planned", "stopped", "killed"])
def test_a_trial_survives_restarts_that_are_not_its_fault(world: World, ended) -> None:
    """However often the power goes in a trial, nothing counts against the release, and it is committed."""
    world.ask(world.publish("1.0.0"))
    world.run("trial")
    for _ in range(4):
        restart(world, ended)
    assert world.current() == "trial"
    assert world.finish() == "committed"


@pytest.mark.parametrize("ended", ["watchdog", "crash"])
def test_a_release_that_takes_the_device_down_twice_goes(world: World, ended) -> None:
    """One reset may be chance; at the second, apps get the good release back and the bad one is quarantined."""
    world.ask(world.publish("1.0.0"))
    assert world.finish() == "committed"
    good = world.slots().good
    world.ask(world.publish("2.0.0"))
    world.run("trial")
    restart(world, ended)
    world.updater.step()
    assert world.current() == "trial"
    restart(world, "power loss")
    world.updater.step()
    assert world.current() == "trial"
    restart(world, ended)
    world.updater.step()
    status = world.updater.snapshot()["wearable"]
    assert (status.state, status.reason.code) == ("rolled_back", "trial-evidence")
    assert "2 times" in status.reason.message
    assert world.slots().serving == good
    assert len(world.state.quarantined()) == 1


def test_a_test_that_takes_the_agent_down_is_quarantined(world: World) -> None:
    """Restarts that the model may have caused are counted; after the last one it is not tested again."""
    world.ask(world.publish("1.0.0"))
    world.run("testing")
    for _ in range(MAX_RESUMES + 1):
        restart(world, "killed")
    status = world.updater.snapshot()["wearable"]
    assert (status.state, status.reason.code, status.reason.permanent) == ("failed", "testing-crashed", True)


def test_power_cuts_in_a_test_only_make_it_wait(world: World) -> None:
    """Very many power cuts are a back-off, not a verdict: the release is tested when the power stays."""
    world.ask(world.publish("1.0.0"))
    world.run("testing")
    for _ in range(MAX_CUTS):
        restart(world, "power loss")
    assert world.current() == "testing"
    restart(world, "power loss")
    status = world.updater.snapshot()["wearable"]
    assert (status.state, status.reason.code, status.reason.permanent) == ("failed", "worker-failed", False)
    assert not world.state.quarantined()
    assert world.finish() == "committed"
