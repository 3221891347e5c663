"""What `edge-agent status` reads: never another life's words, and on a full disk still the newest."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import msgspec
import pytest
from edgesdk_agent.identity import IDENTITY_SCHEMA, Identity
from edgesdk_agent.lock import only_agent, tenure
from edgesdk_agent.paths import Paths
from edgesdk_agent.report import describe, read_facts, read_status
from edgesdk_agent.status_file import SLACK, write_status
from edgesdk_agent.why import explain

from edgesdk.generation import empty_slots


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """An enrolled device with slots for one model."""
    paths = Paths(tmp_path / "device")
    paths.make()
    addresses = dict.fromkeys(("hub", "broker", "repository"), "mqtt://127.0.0.1:9")
    identity = Identity(schema=IDENTITY_SCHEMA, device="dev-1", fleet="lab", enrolment="e-1", **addresses)
    paths.device.write_bytes(msgspec.json.encode(identity))
    folder = paths.store / "models" / "digits"
    folder.mkdir()
    (folder / "slots.json").write_bytes(msgspec.json.encode(empty_slots("digits")))
    return paths


def test_an_earlier_life_is_not_believed(paths: Paths) -> None:
    """Right after a restart the agent is starting; what it said before it ended is shown only while none runs."""
    with only_agent(paths.lock):
        write_status(paths.status, {"online": True, "serial": 7}, tenure=tenure(paths.lock))
        assert read_status(paths)["agent"]["serial"] == 7
        assert "running, online" in describe(read_status(paths))
    assert read_status(paths)["agent"]["serial"] == 7
    with only_agent(paths.lock):
        found = read_status(paths)
        assert (found["running"], found["agent"]) == (True, {})
        assert "starting" in describe(found)
        answer = explain(read_facts(paths, "digits")[0])
        assert "just starting" in answer.text
        assert "again" in answer.next
        write_status(paths.status, {"online": True, "serial": 8}, tenure=tenure(paths.lock))
        assert read_status(paths)["agent"]["serial"] == 8


def test_a_full_disk_keeps_the_newest_words(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no new file can be written the old one is written over, longer words included, up to its slack."""
    write_status(paths.status, {"serial": 7}, tenure="t")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(Path, "write_bytes", full)
    write_status(paths.status, {"serial": 8, "problem": "x" * (SLACK // 2)}, tenure="t")
    assert json.loads(paths.status.read_bytes())["serial"] == 8
    with pytest.raises(OSError, match="room"):
        write_status(paths.status, {"problem": "x" * 2 * SLACK}, tenure="t")
    assert json.loads(paths.status.read_bytes())["serial"] == 8
