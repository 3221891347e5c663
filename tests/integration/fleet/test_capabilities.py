"""What devices say that they can do, and why they refuse, as operators see it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from edgesdk.fleet.devices import describe, describe_all
from edgesdk.fleet.inbox import MAX_CAPABILITIES, MAX_PROBLEM, Inbox
from edgesdk.fleet.registry import Registry
from edgesdk.fleet.rollout import progress_of
from edgesdk.fleet.tables import Device
from edgesdk.protocol import topics
from edgesdk.protocol.messages import Presence, Reason, Statement, encode
from edgesdk.targets.matching import Capabilities, InstalledRuntime

ABLE = Capabilities(
    architecture="aarch64",
    runtimes=(InstalledRuntime(name="onnxruntime", package="onnxruntime", version="1.18.0", max_opset=21, max_ir=10),),
    nodes=("/dev/apex_0",),
    memory_bytes=1 << 30,
    disk_free=1 << 28,
)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    """A registry with one device."""
    made = Registry(tmp_path / "hub.db")
    with made.writing() as session:
        session.add(Device(id="dev-1", fleet="lab", enrolment="e-1", statement_public="a" * 64, enrolled_at=1))
    yield made
    made.close()


def presence(able: Capabilities | None, *, online: bool = True) -> bytes:
    return encode(Presence(device="dev-1", fleet="lab", online=online, run="r", ts="", capabilities=able))


def test_capabilities_are_kept_and_shown(registry: Registry) -> None:
    """The manifest of the last online presence is in the list and in the detail; going offline does not forget it."""
    inbox, topic = Inbox(registry, fleet="lab"), topics.up("lab", "dev-1", "presence")
    assert describe(registry, "dev-1")["capabilities"] is None
    assert inbox.receive(topic, presence(ABLE))
    assert inbox.receive(topic, presence(None, online=False))
    shown = describe(registry, "dev-1")
    assert msgspec.convert(shown["capabilities"], Capabilities) == ABLE
    assert shown["capabilities_at"] <= registry.now()
    assert describe_all(registry)[0]["capabilities"] == shown["capabilities"]
    update = msgspec.structs.replace(ABLE, nodes=())
    assert inbox.receive(topic, presence(update))
    assert describe(registry, "dev-1")["capabilities"]["nodes"] == []


def test_a_manifest_of_absurd_size_is_refused(registry: Registry) -> None:
    """A device cannot fill the database with what it can do; nothing of the message is kept."""
    inbox, topic = Inbox(registry, fleet="lab"), topics.up("lab", "dev-1", "presence")
    huge = msgspec.structs.replace(ABLE, nodes=("x" * MAX_CAPABILITIES,))
    assert not inbox.receive(topic, presence(huge))
    shown = describe(registry, "dev-1")
    assert (shown["capabilities"], shown["online"]) == (None, False)


def test_a_problem_is_shown_until_it_is_over(registry: Registry) -> None:
    """Why a device does not act on what it was asked is in its description; its last will does not forget it."""
    inbox, topic = Inbox(registry, fleet="lab"), topics.up("lab", "dev-1", "presence")
    full = Reason(code="disk-full", message="no room", hint="Make room.")
    told = Presence(device="dev-1", fleet="lab", online=True, run="r", ts="", problem=full)
    assert inbox.receive(topic, encode(told))
    assert inbox.receive(topic, presence(None, online=False))
    shown = describe(registry, "dev-1")
    assert msgspec.convert(shown["problem"], Reason) == full
    assert describe_all(registry)[0]["problem"] == shown["problem"]
    assert inbox.receive(topic, presence(ABLE))
    assert describe(registry, "dev-1")["problem"] is None
    endless = msgspec.structs.replace(full, message="x" * MAX_PROBLEM)
    assert not inbox.receive(topic, encode(msgspec.structs.replace(told, problem=endless)))
    assert describe(registry, "dev-1")["problem"] is None


def test_a_refusal_carries_its_fix_to_the_rollout() -> None:
    """What the device says to do is part of where it stands, so that `edge fleet status` can show it."""
    reason = Reason(code="no-fitting-variant", message="needs onnxruntime", hint="Install edgesdk[onnx].")
    statement = Statement(
        device="dev-1",
        fleet="lab",
        enrolment="e-1",
        model="digits",
        deployment="r-1",
        serial=1,
        release="1.0.0",
        generation=None,
        state="refused",
        good=None,
        good_release=None,
        serving="none",
        counter=1,
        run="r",
        boot="b",
        ts="",
        time_floor="",
        reason=reason,
    )
    found = progress_of([statement])
    assert (found.standing, found.reason, found.hint) == ("refused", reason.code, reason.hint)
