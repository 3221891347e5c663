"""The updater after kills, restarts, power cuts and lost or damaged files; else as in test_updater.py."""

from __future__ import annotations

import os

import pytest
from agent_ota_world import MODEL, POLICY, World
from edgesdk_agent.workers.messages import Offer, VerifiedBundle, VerifyBundle

from edgesdk.errors import DeploymentError


def states(world: World) -> list[str]:
    return [draft.state for draft in world.emitted]


def commit(world: World, offer: Offer) -> str:
    world.ask(offer)
    assert world.finish() == "committed"
    return world.generation(offer)


def test_a_trial_that_was_begun_at_a_kill_is_ended_by_a_newer_desired(world: World) -> None:
    """Killed between the slots' move and its statement, then asked for something else: no trial goes on unwatched."""
    commit(world, world.publish("1.0.0"))

    def killed(what: str) -> None:
        if what == "begin trial: made":
            raise KeyboardInterrupt

    second, bad = world.publish("2.0.0"), world.publish("3.0.0", "worse")
    world.on_enter = killed
    world.start()
    world.ask(second)
    with pytest.raises(KeyboardInterrupt):
        world.run("trial")
    assert world.slots().serve == "trial"
    world.on_enter = lambda _: None
    world.start()
    world.emitted.clear()
    world.ask(bad)
    world.updater.adopt()
    assert states(world) == ["trial", "rolled_back", "offered"]
    assert world.slots().serve == "good"
    assert world.finish() == "failed"
    assert world.slots().serve == "good"
    world.check_truth()


def test_pause_survives_a_restart(world: World) -> None:
    """After a restart a paused device does not begin before it has read desired again."""
    world.ask(world.publish("1.0.0"), paused=True)
    world.settle()
    world.start()
    assert world.settle() == "offered"


def test_trial_time_survives_restarts(world: World) -> None:
    """Restarts neither end a trial nor extend it for ever: each counts as one checkpoint."""
    offer = world.publish("1.0.0")
    world.ask(offer)
    world.run("trial")
    restart = 0
    while restart < 30 and not any(draft.evidence.get("thin") for draft in world.emitted):
        restart += 1
        world.start()
        world.updater.step()
    assert POLICY.max_seconds / 5 - 2 <= restart <= POLICY.max_seconds / 5 + 2
    assert world.current() == "trial"


def test_trial_evidence_survives_a_restart_of_the_agent(world: World) -> None:
    """Bad calls of a session that has ended still count after the agent was killed."""
    offer = world.publish("1.0.0")
    world.ask(offer)
    world.run("trial")
    generation = world.generation(offer)
    world.say("loading", generation, session="session-a", pid=2**22 + 1)
    world.updater.step()
    world.start(boot=f"boot-{world.boots}")
    world.say("loading", generation, session="session-b", pid=2**22 + 1)
    assert world.run("rolled_back") == "rolled_back"


def test_power_cut_while_loading_is_innocent(world: World) -> None:
    """After a reboot an app that was loading when the power went is not held to have crashed."""
    offer = world.publish("1.0.0")
    world.ask(offer)
    world.run("trial")
    generation = world.generation(offer)
    world.say("loading", generation, session="session-a", pid=2**22 + 1)
    world.updater.step()
    world.start(boot="another boot")
    world.say("loading", generation, session="session-b", pid=2**22 + 1)
    world.updater.step()
    assert world.current() == "trial"


def test_what_is_unpacked_is_durable_before_it_is_relied_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder of unpacked bundles is synced after the unpacking, before the journal says that it was done."""
    seen: list[str] = []
    fsync, verify = os.fsync, world.workers.verify_bundle

    def noted(handle: int) -> None:
        seen.append(os.readlink(f"/proc/self/fd/{handle}"))  # noqa: PTH115 - a path of the kernel's
        fsync(handle)

    def unpacked(request: VerifyBundle) -> VerifiedBundle:
        seen.clear()
        return verify(request)

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(world.workers, "verify_bundle", unpacked)
    world.ask(world.publish("1.0.0"))
    world.run("verified")
    assert str(world.paths.staging) in seen


def test_lost_state_db_is_rebuilt_from_slots(world: World) -> None:
    """Without `state.db` the device still serves, states the truth above old counters, and keeps its quarantine."""
    first = world.publish("1.0.0")
    one = commit(world, first)
    bad = world.publish("2.0.0", "worse")
    world.ask(bad)
    world.finish()
    highest = world.emitted[-1].counter
    world.state.close()
    world.paths.state_db.write_bytes(b"not a database" * 100)
    world.start()
    stated = world.emitted[-1]
    assert (stated.state, stated.good, stated.serving) == ("committed", one, "good")
    assert stated.counter > highest
    world.ask(first)
    world.settle()
    assert world.current() == "committed"
    world.ask(bad)
    assert world.finish() == "failed"
    assert world.emitted[-1].reason.code == "generation-quarantined"


def test_trial_without_a_journal_goes_on_watched(world: World) -> None:
    """If `state.db` is lost in a trial, the trial goes on from the slots and can still be rolled back."""
    offer = world.publish("1.0.0", "nan")
    world.ask(offer)
    world.run("trial")
    world.state.close()
    world.paths.state_db.unlink()
    world.start()
    assert world.current() == "trial"
    assert world.finish() == "rolled_back"


def test_damaged_slots_are_restored_from_what_was_stated(world: World) -> None:
    """A slots file that cannot be read is replaced by one that serves the good generation."""
    one = commit(world, world.publish("1.0.0"))
    (world.paths.store / "models" / MODEL / "slots.json").write_bytes(b"\0" * 64)
    world.start()
    assert (world.slots().good, world.slots().serve) == (one, "good")
    world.check_truth()


def test_agent_that_dies_again_and_again_in_testing_gives_up(world: World) -> None:
    """A model whose test brings the device down is quarantined after some restarts, not tested for ever."""
    world.ask(world.publish("1.0.0"))
    world.run("testing")
    for _ in range(6):
        world.start()
    assert world.current() == "failed"
    assert world.emitted[-1].reason.code == "testing-crashed"
    assert len(world.state.quarantined()) == 1


def test_shutdown_is_not_held_against_the_model(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that ends because the agent ends fails nothing; the next run tests again and commits."""
    world.ask(world.publish("1.0.0"))
    world.run("testing")

    def ended(_: object) -> None:
        world.updater.stop()
        raise DeploymentError("testing-crashed", "the child was ended by signal 15")

    monkeypatch.setattr(world.workers, "test", ended)
    world.updater.step()
    assert world.current() == "testing"
    assert world.state.quarantined() == {}
    monkeypatch.undo()
    world.start()
    assert world.finish() == "committed"
