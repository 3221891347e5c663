"""The trust worker on a real repository: what it accepts, and everything it must not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from agent_world import NOW, World
from edgesdk_agent.workers import trust
from edgesdk_agent.workers.client import ChildWorkers
from edgesdk_agent.workers.messages import (
    Sign,
    VerifyBundle,
    VerifyCommand,
    VerifyDesired,
)

from edgesdk.bundle.archive import BundleFile
from edgesdk.clock import parse_rfc3339, rfc3339
from edgesdk.errors import ConfigError, LinkError, ReleaseError, TrustError
from edgesdk.protocol.messages import (
    COMMAND_TYPE,
    STATEMENT_TYPE,
    Command,
    DesiredModel,
    MinTuf,
    Statement,
)
from edgesdk.trust.dsse import verify_document
from edgesdk.trust.keys import generate_key
from edgesdk.trust.repository import (
    publish_model_policy,
    set_deployment_keys,
)

Make = Callable[..., BundleFile]


def test_a_good_document_brings_offers(world: World) -> None:
    """An honest document is accepted; its offer has index and bundle target; the floor is its signed time."""
    found = world.verify(world.sign(world.desired()))
    offer = found.offers["tiny"]
    assert offer.index is not None
    assert offer.error is None
    target = offer.targets[offer.index.variants[0].bundle]
    assert (target.length, target.sha256) == (world.bundle.size, world.bundle.sha256)
    assert target.url.startswith(world.url)
    assert parse_rfc3339(found.time_floor) == NOW
    assert (found.keys_epoch, found.tuf.root) == (1, 1)


def test_the_child_process_answers_the_same(world: World) -> None:
    """Through a real child: one request, one answer, errors with their code."""
    workers = ChildWorkers()
    request = VerifyDesired(
        envelope=world.sign(world.desired()), repository=world.repository(), device="dev-1", fleet="lab"
    )
    assert workers.verify_desired(request).desired.serial == 10
    with pytest.raises(TrustError) as caught:
        workers.verify_desired(msgspec.structs.replace(request, device="dev-2"))
    assert caught.value.code == "audience"


def test_a_tampered_document_is_refused(world: World) -> None:
    """A payload that was changed after signing does not verify; neither does another's signature."""
    honest, other = world.sign(world.desired()), world.sign(world.desired(serial=99), key="stranger")
    for envelope, code in (
        ({**honest, "payload": other["payload"]}, "signature-invalid"),
        (other, "signature-missing"),
        (world.sign(world.desired(), COMMAND_TYPE), "payload-type"),
        ({**honest, "signatures": []}, "signature-missing"),
    ):
        with pytest.raises(TrustError) as caught:
            world.verify(envelope)
        assert caught.value.code == code


@pytest.mark.parametrize("change", [{"device": "dev-2"}, {"fleet": "other"}])
def test_a_misaddressed_document_is_refused(world: World, change: dict[str, str]) -> None:
    """A document for another device or fleet is not for us, however well it is signed."""
    with pytest.raises(TrustError) as caught:
        world.verify(world.sign(world.desired(**change)))
    assert caught.value.code == "audience"


def test_replays_are_refused_and_the_same_document_is_welcome(world: World) -> None:
    """Lower serials and another document with the same serial are refused; the accepted one is read again gladly."""
    envelope = world.sign(world.desired(serial=10))
    accepted = world.verify(envelope)
    assert world.verify(envelope, accepted=accepted) == accepted
    assert world.verify(world.sign(world.desired(serial=11)), accepted=accepted).desired.serial == 11
    for replay in (world.desired(serial=9), world.desired(serial=10, paused=True)):
        with pytest.raises(TrustError) as caught:
            world.verify(world.sign(replay), accepted=accepted)
        assert caught.value.code == "serial-replayed"


def test_new_deployment_keys_reset_the_floor_of_serials(world: World) -> None:
    """A thief's largest serial is not for ever: after a rotation a small one is accepted, the thief is not."""
    stolen = world.verify(world.sign(world.desired(serial=2**63 - 1)))
    public = generate_key(world.folder / "new.pem", None)
    set_deployment_keys(world.repo, world.keys, (public,))
    renewed = world.verify(world.sign(world.desired(serial=5), key="new"), accepted=stolen)
    assert (renewed.desired.serial, renewed.keys_epoch) == (5, 2)
    with pytest.raises(TrustError) as caught:
        world.verify(world.sign(world.desired(serial=2**63 - 1)), accepted=renewed)
    assert caught.value.code == "signature-missing"


def test_a_lost_record_of_the_accepted_document_does_not_open_the_floor(world: World) -> None:
    """Where state.db was lost but the floor survived, lower serials stay refused and the same one is accepted."""
    for serial, refused in ((9, True), (10, False), (11, False)):
        request = VerifyDesired(
            envelope=world.sign(world.desired(serial=serial)),
            repository=world.repository(),
            device="dev-1",
            fleet="lab",
            serial_floor=10,
        )
        if refused:
            with pytest.raises(TrustError, match="accepted was 10"):
                trust.verify_desired(request)
        else:
            assert trust.verify_desired(request).desired.serial == serial


def test_an_expired_document_is_refused(world: World) -> None:
    """Expiry is judged at the time that was passed, and at the document's own signed time at least."""
    expiring = world.sign(world.desired(expires_at=rfc3339(NOW + timedelta(hours=1))))
    assert world.verify(expiring, now=NOW)
    with pytest.raises(TrustError) as caught:
        world.verify(expiring, now=NOW + timedelta(hours=2))
    assert caught.value.code == "document-expired"
    already = world.sign(world.desired(serial=11, expires_at=rfc3339(NOW - timedelta(seconds=1))))
    with pytest.raises(TrustError) as caught:
        world.verify(already, now=datetime.fromtimestamp(0, UTC))
    assert caught.value.code == "document-expired"


def test_a_device_in_1970_is_neither_bricked_nor_fooled(world: World) -> None:
    """With a clock at zero honest metadata verifies; metadata that expired before the signed time does not."""
    epoch = datetime.fromtimestamp(0, UTC)
    assert parse_rfc3339(world.verify(world.sign(world.desired()), now=epoch).time_floor) == NOW
    later = world.desired(serial=11, issued_at=rfc3339(NOW + timedelta(days=400)))
    with pytest.raises(TrustError) as caught:
        world.verify(world.sign(later), now=epoch)
    assert caught.value.code == "tuf-expired"


def test_a_frozen_repository_is_seen(world: World) -> None:
    """The hub names the metadata it knows of; an older mirror is refused."""
    with pytest.raises(TrustError) as caught:
        world.verify(world.sign(world.desired(min_tuf=MinTuf(root=1, timestamp=99))))
    assert caught.value.code == "tuf-frozen"


def test_a_release_that_is_not_published_is_an_offer_with_a_reason(world: World) -> None:
    """One model that cannot be had does not spoil the document: its offer says why."""
    models = {
        "tiny": DesiredModel(release="1.0.0", deployment="d"),
        "other": DesiredModel(release="9.9.9", deployment="d"),
        "gone": DesiredModel(release=None, deployment="d"),
    }
    offers = world.verify(world.sign(world.desired(models=models))).offers
    assert set(offers) == {"tiny", "other"}
    assert offers["other"].error is not None
    assert offers["other"].error.code == "tuf-target-missing"
    assert offers["tiny"].index is not None


def test_the_anchor_set_of_the_policy_is_offered(world: World, make_bundle: Make) -> None:
    """A signed model policy brings its anchor set with the offer."""
    anchor = make_bundle("0.0.1")
    publish_model_policy(world.repo, world.keys, "tiny", anchor=anchor.path, reason="first anchor")
    offer = world.verify(world.sign(world.desired())).offers["tiny"]
    assert offer.policy is not None
    assert offer.anchor is not None
    assert offer.anchor.sha256 == anchor.sha256


def test_no_network_is_a_link_error(world: World) -> None:
    """A repository that cannot be reached is nobody's lie: it is tried again."""
    request = VerifyDesired(
        envelope=world.sign(world.desired()),
        repository=msgspec.structs.replace(world.repository(), url="http://127.0.0.1:9"),
        device="dev-1",
        fleet="lab",
    )
    with pytest.raises(LinkError):
        trust.verify_desired(request)


def test_commands_are_for_one_run_of_one_device(world: World) -> None:
    """A command is accepted for this device and run and before its expiry; nudges may go to all."""

    def command(**changes: Any) -> Command:
        base = Command(
            fleet="lab",
            device="dev-1",
            id="command-1",
            name="status",
            issued_at=rfc3339(NOW),
            expires_at=rfc3339(NOW + timedelta(minutes=1)),
            run="run-1",
        )
        return msgspec.structs.replace(base, **changes)

    def verify(document: Command, *, key: str = "deployment") -> Command:
        request = VerifyCommand(
            envelope=world.sign(document, COMMAND_TYPE, key),
            repository=world.repository(),
            device="dev-1",
            fleet="lab",
            run="run-1",
        )
        return trust.verify_command(request).command

    assert verify(command()).name == "status"
    assert verify(command(device="_all", name="ping", run=None)).name == "ping"
    for document, code in (
        (command(run="run-0"), "audience"),
        (command(run=None), "audience"),
        (command(device="dev-2"), "audience"),
        (command(device="_all", run=None), "audience"),
        (command(expires_at=rfc3339(NOW - timedelta(seconds=1))), "document-expired"),
    ):
        with pytest.raises(TrustError) as caught:
            verify(document)
        assert caught.value.code == code
    with pytest.raises(TrustError):
        verify(command(), key="stranger")


def bundle_request(world: World, folder: Path, **changes: Any) -> VerifyBundle:
    base = VerifyBundle(
        path=str(world.bundle.path),
        length=world.bundle.size,
        sha256=world.bundle.sha256,
        destination=str(folder / "staged"),
        model="tiny",
        release="1.0.0",
        variant="onnx-float32",
    )
    return msgspec.structs.replace(base, **changes)


def test_a_bundle_is_unpacked_when_it_is_the_signed_one(world: World, tmp_path: Path) -> None:
    """Length, hash, names and every file agree: it is unpacked."""
    found = trust.verify_bundle(bundle_request(world, tmp_path))
    assert (found.release, found.variant, found.contract_version) == ("1.0.0", "onnx-float32", "1.0")
    assert (tmp_path / "staged" / "manifest.json").is_file()
    assert (tmp_path / "staged" / "model.onnx").is_file()


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"length": 1}, "tuf-target-mismatch"),
        ({"sha256": "0" * 64}, "tuf-target-mismatch"),
        ({"model": "other"}, "manifest-invalid"),
        ({"release": "1.0.1"}, "manifest-invalid"),
        ({"variant": "other"}, "manifest-invalid"),
    ],
)
def test_another_bundle_is_not_unpacked(world: World, tmp_path: Path, changes: dict[str, Any], code: str) -> None:
    """What is not exactly the signed bundle leaves nothing behind."""
    with pytest.raises((TrustError, ReleaseError)) as caught:
        trust.verify_bundle(bundle_request(world, tmp_path, **changes))
    assert caught.value.code == code
    assert not (tmp_path / "staged").exists()


def test_statements_are_signed_by_the_devices_key(world: World) -> None:
    """A batch comes back in order, each verifiable with the public key; a key that others can read is refused."""
    public = generate_key(world.folder / "statement.pem", None)
    statements = tuple(
        Statement(
            device="dev-1",
            fleet="lab",
            enrolment="e-1",
            model="tiny",
            deployment="d",
            serial=1,
            release="1.0.0",
            generation=None,
            state="offered",
            good=None,
            good_release=None,
            serving="none",
            counter=counter,
            run="r",
            boot="b",
            ts=rfc3339(NOW),
            time_floor="",
        )
        for counter in (1, 2)
    )
    envelopes = trust.sign(Sign(statements=statements, key=str(world.folder / "statement.pem"))).envelopes
    payloads = [verify_document(envelope, STATEMENT_TYPE, [public]) for envelope in envelopes]
    assert [msgspec.json.decode(payload, type=Statement) for payload in payloads] == list(statements)
    (world.folder / "statement.pem").chmod(0o644)
    with pytest.raises((TrustError, ConfigError)) as caught:
        trust.sign(Sign(statements=statements, key=str(world.folder / "statement.pem")))
    assert caught.value.code == "key-permissions"
