"""The updater on a real file system, SQLite and HTTP, with scripted children."""

from __future__ import annotations

import os
import stat

import msgspec
import pytest
from agent_ota_world import MODEL, POLICY, World
from edgesdk_agent.ota.updater import TRIAL_POLL_S
from edgesdk_agent.workers.messages import Offer, TargetFile

from edgesdk.app.follower import POLL_S, REPORT_S
from edgesdk.generation import generation_dir
from edgesdk.protocol.messages import Reason


def states(world: World) -> list[str]:
    return [draft.state for draft in world.emitted]


def commit(world: World, offer: Offer) -> str:
    world.ask(offer)
    assert world.finish() == "committed"
    return world.generation(offer)


def test_first_release_goes_the_whole_way(world: World) -> None:
    """A release is offered, downloaded, verified, staged, tested, tried and committed, and each step is stated."""
    one = commit(world, world.publish("1.0.0"))
    assert states(world) == ["offered", "downloading", "verified", "staged", "testing", "trial", "committed"]
    assert [draft.counter for draft in world.emitted] == list(range(1, 8))
    assert world.emitted[5].serving == "trial"
    assert world.emitted[5].good is None
    slots = world.slots()
    assert (slots.good, slots.previous, slots.trial, slots.serve) == (one, None, None, "good")
    world.check_whole()
    world.check_truth()


def test_second_release_is_judged_by_the_good_one(world: World) -> None:
    """The incumbent's folder is given to testing, and becomes previous on commit."""
    one = commit(world, world.publish("1.0.0"))
    two = commit(world, world.publish("2.0.0"))
    assert world.workers.judged[0].incumbent is None
    assert world.workers.judged[1].incumbent == str(generation_dir(world.paths.store, one))
    assert (world.slots().good, world.slots().previous) == (two, one)


def test_generation_is_read_only_and_readable_by_apps(world: World) -> None:
    """Files are 0444 and folders 0555 in a store of 0755; the private state is 0700."""
    folder = generation_dir(world.paths.store, commit(world, world.publish("1.0.0")))
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))}
    assert {modes[name] for name in ("model.json", "generation.json", "truth.txt")} == {0o444}
    assert {modes[folder.name], modes["golden"]} == {0o555}
    assert stat.S_IMODE(world.paths.state.stat().st_mode) == 0o700


def test_refused_before_any_download(world: World) -> None:
    """Without a fitting variant the device says why, and not one byte is fetched."""
    world.ask(world.publish("1.0.0", runtime="tflite"))
    assert world.finish() == "refused"
    assert world.server.requests == []
    reason = world.emitted[-1].reason
    assert reason is not None
    assert reason.code == "no-fitting-variant"
    assert reason.hint


@pytest.mark.parametrize(("content", "code"), [("worse", "golden-truth-loss"), ("crash", "testing-crashed")])
def test_bad_in_testing_is_quarantined(world: World, content: str, code: str) -> None:
    """What testing refuses fails for good, is never served, and is not tried again by a new deployment."""
    one = commit(world, world.publish("1.0.0"))
    bad = world.publish("2.0.0", content)
    world.ask(bad)
    assert world.finish() == "failed"
    assert world.emitted[-1].reason.code == code
    assert world.slots().good == one
    tested = len(world.workers.judged)
    world.ask(bad, deployment="another try")
    assert world.finish() == "failed"
    assert world.emitted[-1].reason.code == "generation-quarantined"
    assert len(world.workers.judged) == tested


def test_retry_quarantined_tries_again(world: World) -> None:
    """An operator may force a quarantined generation to be tested once more."""
    bad = world.publish("2.0.0", "worse")
    world.ask(bad)
    world.finish()
    world.ask(bad, retry=True)
    assert world.finish() == "failed"
    assert len(world.workers.judged) == 2
    assert world.emitted[-1].reason.code == "golden-truth-loss"


def test_bad_in_trial_is_rolled_back(world: World) -> None:
    """NaN in live calls ends the trial with its figures; the good generation is served again."""
    one = commit(world, world.publish("1.0.0"))
    world.ask(world.publish("2.0.0", "nan"))
    assert world.finish() == "rolled_back"
    last = world.emitted[-1]
    assert (last.reason.code, last.evidence["bad"], last.serving) == ("trial-evidence", 50, "good")
    assert (world.slots().good, world.slots().trial) == (one, None)
    assert world.state.quarantined()[last.generation].reason.code == "trial-evidence"


def test_a_rollback_needs_one_step_and_no_network(world: World) -> None:
    """With the network gone one step after the evidence apps are given the good release; the waits add up to 1.75 s.

    An app reports at most so late, the updater looks at most so late, the app follows at most so late.
    """
    commit(world, world.publish("1.0.0"))
    offer = world.publish("2.0.0")
    world.ask(offer)
    world.run("trial")
    world.server.close()
    world.say("loaded", world.generation(offer))
    assert world.updater.step() <= TRIAL_POLL_S
    world.say("counters", world.generation(offer), calls=100, nan=50)
    world.updater.step()
    assert (world.slots().serve, world.current()) == ("good", "rolled_back")
    assert REPORT_S + TRIAL_POLL_S + POLL_S < 2.0  # seconds


def test_first_release_that_fails_its_trial_serves_none(world: World) -> None:
    """Without a good generation a rollback serves nothing."""
    world.ask(world.publish("1.0.0", "nan"))
    assert world.finish() == "rolled_back"
    assert (world.slots().good, world.slots().serve) == (None, "none")


def test_crash_loop_and_failed_load_roll_back(world: World) -> None:
    """Two apps that end while loading, or one that cannot load, end the trial at once."""
    offer = world.publish("1.0.0")
    world.ask(offer)
    world.run("trial")
    gone = 2**22 + 1  # above the kernel's largest process id
    world.say("loading", world.generation(offer), session="session-a", pid=gone)
    world.updater.step()
    assert world.current() == "trial"
    world.say("loading", world.generation(offer), session="session-b", pid=gone)
    assert world.run("rolled_back") == "rolled_back"

    offer = world.publish("2.0.0")
    world.ask(offer)
    world.run("trial")
    world.say("load-failed", world.generation(offer))
    assert world.run("rolled_back") == "rolled_back"


MISFIT = {"code": "contract-major", "message": "the app asks for contract 9.x"}


def test_a_first_release_serves_the_apps_that_it_fits(world: World) -> None:
    """An app of another contract does not take a first release from the apps it serves, a restart included."""
    offer = world.publish("1.0.0")
    world.ask(offer)
    world.run("trial")
    world.say("load-failed", world.generation(offer), session="session-misfit", app="misfit", reason=MISFIT)
    world.updater.step()
    world.start()
    world.say("load-failed", world.generation(offer), session="session-misfit", app="misfit", reason=MISFIT)
    assert world.finish() == "committed"
    assert world.emitted[-1].evidence["misfits"] == {"misfit": MISFIT["message"]}


def test_a_first_release_that_fits_no_app_goes(world: World) -> None:
    """Where the only app asks for another contract the trial ends after its shortest time, and says why."""
    offer = world.publish("1.0.0")
    world.ask(offer)
    world.run("trial")
    world.say("load-failed", world.generation(offer), app="misfit", reason=MISFIT)
    assert world.run("rolled_back") == "rolled_back"
    assert MISFIT["message"] in world.emitted[-1].reason.message
    assert world.emitted[-1].evidence["seconds"] < POLICY.max_seconds


def test_an_app_of_another_contract_keeps_its_good_release(world: World) -> None:
    """With a good release to give back, an app of another contract ends the trial at once."""
    commit(world, world.publish("1.0.0"))
    offer = world.publish("2.0.0")
    world.ask(offer)
    world.run("trial")
    world.live(world.generation(offer))
    world.say("load-failed", world.generation(offer), session="session-misfit", app="misfit", reason=MISFIT)
    assert world.run("rolled_back") == "rolled_back"
    assert world.slots().serve == "good"


def test_new_desired_ends_the_trial_first(world: World) -> None:
    """A newer desired withdraws the trial (no quarantine), states that, and only then begins."""
    one = commit(world, world.publish("1.0.0"))
    second, third = world.publish("2.0.0"), world.publish("3.0.0")
    world.ask(second)
    world.run("trial")
    world.emitted.clear()
    three = commit(world, third)
    assert states(world)[:2] == ["rolled_back", "offered"]
    assert world.emitted[0].reason.code == "superseded"
    assert world.emitted[0].serving == "good"
    assert (world.slots().good, world.slots().previous) == (three, one)
    assert world.state.quarantined() == {}


def test_operators_rollback_downloads_nothing(world: World) -> None:
    """An older release that is still here goes the whole way but is not downloaded again."""
    first = world.publish("1.0.0")
    one = commit(world, first)
    commit(world, world.publish("2.0.0"))
    requests = len(world.server.requests)
    world.emitted.clear()
    commit(world, first)
    assert world.slots().good == one
    assert len(world.server.requests) == requests
    assert states(world) == ["offered", "verified", "staged", "testing", "trial", "committed"]


def test_other_policy_is_another_generation_of_the_same_bytes(world: World) -> None:
    """A changed policy is tried like a release, from the bytes that are here."""
    offer = world.publish("1.0.0")
    one = commit(world, offer)
    desired = world.ask(offer)
    wanted = desired.models[MODEL]
    policy = msgspec.structs.replace(POLICY, min_calls=20)
    changed = msgspec.structs.replace(desired, models={MODEL: msgspec.structs.replace(wanted, policy=policy)})
    world.updater.offer(changed, {MODEL: offer})
    assert world.finish() == "committed"
    assert world.slots().good == world.generation(offer, policy) != one
    assert len(world.server.requests) == 1
    world.check_whole()


def test_desired_that_is_good_already_is_acknowledged(world: World) -> None:
    """The same release in a new document is stated under its serial and deployment, without any work."""
    offer = world.publish("1.0.0")
    commit(world, offer)
    world.emitted.clear()
    world.ask(offer, deployment="again")
    world.settle()
    assert [(draft.state, draft.deployment, draft.serial) for draft in world.emitted] == [("committed", "again", 2)]


def test_good_generation_after_a_failure_is_committed_without_work(world: World) -> None:
    """Going back to what is good after a failed release needs no test."""
    first = world.publish("1.0.0")
    commit(world, first)
    world.ask(world.publish("2.0.0", "worse"))
    world.finish()
    world.emitted.clear()
    world.ask(first)
    assert world.finish() == "committed"
    assert states(world) == ["offered", "committed"]


def test_removal(world: World) -> None:
    """No release means that nothing is served and the generations go."""
    commit(world, world.publish("1.0.0"))
    world.ask(None)
    assert world.finish() == "idle"
    assert (world.slots().good, world.slots().serve) == (None, "none")
    assert list((world.paths.store / "generations").iterdir()) == []
    world.check_truth()


def test_garbage_is_collected_but_not_what_an_app_holds(world: World) -> None:
    """Of four releases only good and previous stay, and the one that an app has locked."""
    import fcntl  # noqa: PLC0415 - only here

    first = world.publish("1.0.0")
    one = commit(world, first)
    handle = os.open(generation_dir(world.paths.store, one), os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_SH)
    rest = [commit(world, world.publish(f"{n}.0.0")) for n in (2, 3, 4)]
    left = {path.name for path in (world.paths.store / "generations").iterdir()}
    assert left == {one, *rest[1:]}
    os.close(handle)
    commit(world, world.publish("5.0.0"))
    assert one not in {path.name for path in (world.paths.store / "generations").iterdir()}


def test_transient_failure_backs_off_and_recovers(world: World) -> None:
    """A server in trouble costs waits that grow; then the deployment succeeds and the failures are forgotten."""
    world.server.status = 503
    world.ask(world.publish("1.0.0"))
    waits = []
    for _ in range(4):
        world.run("failed")
        waits.append(world.updater.step())
        assert world.emitted[-1].reason.code == "http-status"
        assert not world.emitted[-1].reason.permanent
        world.clock.seconds += waits[-1]
        world.updater.step()
    assert waits == sorted(waits)
    assert waits[-1] >= 4 * waits[0]
    assert world.asked_again == 4
    world.server.status = None
    assert world.finish() == "committed"
    assert world.updater.snapshot()[MODEL].attempts == 0


def test_offer_with_an_error_waits_for_a_better_one(world: World) -> None:
    """A repository that cannot be read is asked again; the next offer is acted on at once."""
    offer = world.publish("1.0.0")
    desired = world.ask(offer)
    error = Reason(code="http-failed", message="no route to the repository")
    world.updater.offer(desired, {MODEL: Offer(error=error)})
    assert world.run("failed") == "failed"
    world.updater.offer(desired, {MODEL: offer})
    assert world.finish() == "committed"


def test_paused_begins_nothing_and_commits_nothing_but_rolls_back(world: World) -> None:
    """Pause holds work at the next step and withholds commits; a bad trial still ends."""
    offer = world.publish("1.0.0")
    world.ask(offer, paused=True)
    assert world.settle() == "offered"
    assert world.server.requests == []
    world.ask(offer)
    world.run("trial")
    world.ask(offer, paused=True)
    world.settle()
    world.live(world.generation(offer))
    world.clock.seconds += 50
    assert world.settle() == "trial"
    world.say("counters", world.generation(offer), session="another-session", calls=50, errors={"output-nan": 50})
    assert world.run("rolled_back") == "rolled_back"


def test_thin_evidence_is_held_and_said_once(world: World) -> None:
    """At the deadline without calls the default policy holds, states it once, and still commits later."""
    offer = world.publish("1.0.0")
    world.ask(offer)
    world.run("trial")
    world.clock.seconds += POLICY.max_seconds + 1
    for _ in range(3):
        world.updater.step()
        world.clock.seconds += 10
    held = [draft for draft in world.emitted if draft.state == "trial" and draft.evidence.get("thin")]
    assert len(held) == 1
    assert "the policy says hold" in held[0].reason.message
    assert world.finish() == "committed"


def test_anchor_set_is_fetched_verified_and_given_to_testing(world: World) -> None:
    """The anchor set of the signed policy is downloaded once and judges every release."""
    anchor = next(iter(world.publish("0.0.1", "anchor").targets.values()))
    for release in ("1.0.0", "2.0.0"):
        commit(world, msgspec.structs.replace(world.publish(release), anchor=anchor))
    folders = {request.anchor for request in world.workers.judged}
    assert folders == {str(world.paths.staging / f"anchor-{anchor.sha256}")}
    assert sum(path == anchor.path for path, _ in world.server.requests) == 1


def test_an_anchor_set_that_is_a_bundle_here_does_not_come_again(world: World) -> None:
    """Where the anchor set is the first release's own bundle its bytes come once, and judge from its generation."""
    first = world.publish("1.0.0")
    bundle = first.targets["cpu.edge"]
    anchor = msgspec.structs.replace(bundle, path="anchors/first.edge", url=world.server.url + "/anchors/first.edge")
    one = commit(world, msgspec.structs.replace(first, anchor=anchor))
    commit(world, msgspec.structs.replace(world.publish("2.0.0"), anchor=anchor))
    assert [request.anchor for request in world.workers.judged] == [str(generation_dir(world.paths.store, one))] * 2
    assert not [path for path, _ in world.server.requests if "anchor" in path]
    commit(world, msgspec.structs.replace(world.publish("3.0.0"), anchor=bundle))
    commit(world, msgspec.structs.replace(world.publish("4.0.0"), anchor=bundle))  # the first generation has gone
    assert world.workers.judged[-1].anchor == str(world.paths.staging / f"anchor-{bundle.sha256}")


def test_wrong_bytes_are_discarded_and_fetched_again(world: World) -> None:
    """A mirror with other bytes of the same length is seen by the hash; the next try starts from nothing."""
    offer = world.publish("1.0.0")
    (target,) = offer.targets.values()
    good = world.server.files[target.path]
    world.server.files[target.path] = b"x" * len(good)
    world.ask(offer)
    world.run("failed")
    assert world.emitted[-1].reason.code == "tuf-target-mismatch"
    world.server.files[target.path] = good
    assert world.finish() == "committed"
    world.check_whole()


def test_malformed_bundle_fails_for_good_without_quarantine(world: World) -> None:
    """What the trust worker refuses is not retried until a new desired asks again."""
    world.ask(world.publish("1.0.0", "truncated"))
    assert world.finish() == "failed"
    assert world.emitted[-1].reason.code == "bundle-truncated"
    assert world.state.quarantined() == {}
    assert list(world.paths.staging.iterdir()) == []


def test_two_models_do_not_disturb_each_other(world: World) -> None:
    """A second model is deployed while the first is on trial."""
    offer = world.publish("1.0.0")
    desired = world.ask(offer)
    world.run("trial")
    index = msgspec.structs.replace(offer.index, model="digits", release="5.0.0")
    other = msgspec.structs.replace(desired.models[MODEL], release="5.0.0")
    both = msgspec.structs.replace(desired, serial=9, models={**desired.models, "digits": other})
    world.updater.offer(both, {MODEL: offer, "digits": msgspec.structs.replace(offer, index=index)})
    world.settle()
    snapshot = world.updater.snapshot()
    assert snapshot[MODEL].state == "trial"
    assert snapshot["digits"].state == "trial"


def test_bad_trial_is_ended_while_another_model_downloads(world: World) -> None:
    """A download does not delay the rollback of another model's trial; afterwards it is gone on with."""
    offer = world.publish("1.0.0", "nan")
    desired = world.ask(offer)
    world.run("trial")
    large = world.publish("5.0.0", size=1 << 20)
    index = msgspec.structs.replace(large.index, model="digits")
    other = msgspec.structs.replace(desired.models[MODEL], release="5.0.0")
    both = msgspec.structs.replace(desired, serial=9, models={**desired.models, "digits": other})
    world.live(world.generation(offer))
    world.updater.offer(both, {MODEL: offer, "digits": msgspec.structs.replace(large, index=index)})
    world.run("rolled_back")
    for _ in range(10):
        world.updater.step()
    assert world.updater.snapshot()["digits"].state == "trial"


def test_target_that_metadata_does_not_list_is_asked_for_again(world: World) -> None:
    """A bundle missing from signed metadata is a transient failure that asks the repository again."""
    offer = world.publish("1.0.0")
    world.ask(msgspec.structs.replace(offer, targets={}))
    world.run("failed")
    assert world.emitted[-1].reason.code == "http-failed"
    other = TargetFile(path="x", url="http://127.0.0.1:1/x", length=1, sha256="0" * 64)
    world.ask(msgspec.structs.replace(offer, targets={"cpu.edge": other}))
    world.run("failed")
    assert world.emitted[-1].reason.code == "http-failed"
