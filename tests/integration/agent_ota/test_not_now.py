"""Deployments that must wait for a window, heat, memory or disk, on real files."""

from __future__ import annotations

import pytest
from agent_ota_world import World
from edgesdk_agent.ota.preflight import NotNow

from edgesdk.protocol.messages import Reason

CLOSED = NotNow(Reason(code="maintenance-window", message="closed", hint="wait"), 600.0)
HOT = NotNow(Reason(code="too-hot", message="hot", hint="cool it"))


def test_nothing_is_downloaded_before_the_window_opens(world: World) -> None:
    """Outside a window it waits exactly until the opening, transiently, and then goes its way."""
    offer = world.publish("1.0.0")
    world.not_now = CLOSED
    world.ask(offer)
    assert world.settle() == "failed"
    assert world.server.requests == []
    status = world.updater.snapshot()["wearable"]
    assert (status.reason, status.retry_in_s) == (CLOSED.reason, 600.0)
    assert world.asked_needs[0].disk == 2 * offer.index.variants[0].size
    world.clock.seconds += 599
    assert world.settle() == "failed"
    world.not_now = None
    world.clock.seconds += 2
    assert world.finish() == "committed"


def test_a_test_and_a_trial_wait_too_and_the_bytes_stay(world: World) -> None:
    """What was downloaded is not downloaded again; apps keep the good release while the next one waits."""
    world.ask(world.publish("1.0.0"))
    assert world.finish() == "committed"
    good = world.slots().good
    world.ask(world.publish("2.0.0"))
    world.run("staged")
    world.not_now = HOT
    world.run("failed")
    sent = world.server.sent
    assert world.slots().serving == good
    assert not world.workers.judged[1:]
    world.check_truth()
    world.not_now = None
    world.run("testing")
    world.not_now = CLOSED
    world.run("failed")
    assert (world.slots().trial, world.slots().serving) == (None, good)
    world.not_now = None
    assert world.finish() == "committed"
    assert world.server.sent == sent


@pytest.mark.parametrize("content", ["nan", "good"])
def test_a_trial_that_runs_ends_as_it_should_when_the_window_closes(world: World, content: str) -> None:
    """Rollback and commit are never kept waiting."""
    world.ask(world.publish("1.0.0", content))
    world.run("trial")
    world.not_now = CLOSED
    assert world.finish() == ("rolled_back" if content == "nan" else "committed")


def test_what_is_good_already_waits_for_nothing(world: World) -> None:
    """A new document that asks for what runs here is answered at once; a quarantined release is refused at once."""
    offer, bad = world.publish("1.0.0"), world.publish("2.0.0", "worse")
    world.ask(offer)
    assert world.finish() == "committed"
    world.ask(bad)
    assert world.finish() == "failed"
    world.not_now = CLOSED
    world.ask(offer)
    assert world.settle() == "committed"
    assert world.updater.snapshot()["wearable"].reason is None
    world.ask(bad)
    assert world.settle() == "failed"
    assert world.updater.snapshot()["wearable"].reason.code == "generation-quarantined"


def test_a_restart_while_it_waits_asks_again(world: World) -> None:
    """A power cut neither opens a window nor forgets what is wanted."""
    world.not_now = CLOSED
    world.ask(world.publish("1.0.0"))
    assert world.settle() == "failed"
    world.state.close()
    world.start()
    world.clock.seconds += 5
    assert world.settle() == "failed"
    assert world.server.requests == []
    world.not_now = None
    world.clock.seconds += 601
    assert world.finish() == "committed"
