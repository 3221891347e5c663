"""What a thief of the deployment key, or of the broker's password, can and cannot make a device do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from agent_world import NOW, World
from edgesdk_agent.workers.messages import VerifiedDesired

from edgesdk.errors import EdgeError
from edgesdk.protocol.messages import COMMAND_TYPE, DesiredModel
from edgesdk.trust.keys import generate_key, load_signer
from edgesdk.trust.repository import set_deployment_keys


def refusal(world: World, envelope: dict[str, Any], accepted: VerifiedDesired | None = None) -> str:
    with pytest.raises(EdgeError) as caught:
        world.verify(envelope, accepted=accepted)
    return caught.value.code


def wanted(release: str) -> dict[str, DesiredModel]:
    return {"tiny": DesiredModel(release=release, deployment="stolen", retry_quarantined=True)}


def test_a_stolen_deployment_key_chooses_among_published_releases_only(world: World) -> None:
    """It may want what is published; what is not published brings no bytes, whatever the document says."""
    published = world.verify(world.sign(world.desired(models=wanted("1.0.0"))))
    assert published.offers["tiny"].targets
    invented = world.verify(world.sign(world.desired(serial=11, models=wanted("6.6.6"))))
    offer = invented.offers["tiny"]
    assert offer.error is not None
    assert offer.error.code == "tuf-target-missing"
    assert not offer.targets


def test_a_stolen_deployment_key_signs_no_repository(world: World) -> None:
    """Metadata signed with it is a stranger's: it cannot put a release of its own beside the published ones."""
    path = next(world.repo.glob("metadata/*.targets.json"))
    targets = json.loads(path.read_bytes())
    signer = load_signer(world.folder / "deployment.pem")
    timestamp = world.repo / "metadata" / "timestamp.json"
    forged = json.loads(timestamp.read_bytes())
    forged["signed"]["version"] += 1
    forged["signatures"] = [{"keyid": signer.public_key.keyid, "sig": "00" * 64}]
    timestamp.write_text(json.dumps(forged))
    assert refusal(world, world.sign(world.desired())) == "signature-invalid"
    assert targets["signatures"][0]["keyid"] != signer.public_key.keyid


def test_a_stolen_deployment_key_ends_with_its_rotation(world: World) -> None:
    """After new deployment keys are published the thief's documents are refused, and his serial binds nobody."""
    thief = world.sign(world.desired(serial=2**63 - 1))
    accepted = world.verify(thief)
    fresh = generate_key(world.folder / "fresh.pem", None)
    set_deployment_keys(world.repo, world.keys, [fresh])
    assert refusal(world, thief, accepted) in {"signature-missing", "signature-invalid"}
    honest = world.sign(world.desired(serial=12), key="fresh")
    assert world.verify(honest, accepted=accepted).desired.serial == 12


@pytest.mark.parametrize("what", ["unsigned", "stranger", "other device", "other fleet", "replay", "other kind"])
def test_a_stolen_broker_password_commands_nothing(world: World, what: str) -> None:
    """Whoever can publish to a device's topics without the deployment key is refused, each way by its reason."""
    accepted = world.verify(world.sign(world.desired(serial=20)))
    document = world.desired(serial=21)
    attempts = {
        "unsigned": ({**world.sign(document), "signatures": []}, {"signature-missing"}),
        "stranger": (world.sign(document, key="stranger"), {"signature-missing", "signature-invalid"}),
        "other device": (world.sign(msgspec.structs.replace(document, device="dev-2")), {"audience"}),
        "other fleet": (world.sign(msgspec.structs.replace(document, fleet="other")), {"audience"}),
        "replay": (world.sign(world.desired(serial=19)), {"serial-replayed"}),
        "other kind": (world.sign(document, kind=COMMAND_TYPE), {"payload-type"}),
    }
    envelope, codes = attempts[what]
    assert refusal(world, envelope, accepted) in codes


def test_a_tampered_payload_keeps_no_signature(world: World, tmp_path: Path) -> None:
    """One changed character of a signed document that was read from the broker is enough."""
    del tmp_path
    envelope = world.sign(world.desired(issued_at=NOW.isoformat()))
    payload = envelope["payload"]
    changed = {**envelope, "payload": payload[:40] + ("A" if payload[40] != "A" else "B") + payload[41:]}
    assert refusal(world, changed) == "signature-invalid"
