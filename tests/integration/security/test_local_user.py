"""Another user of the device can read what is served and change nothing of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from edgesdk_agent.evidence_socket import EvidenceSocket
from edgesdk_agent.paths import Paths
from edgesdk_agent.store.atomic import write_atomic
from edgesdk_agent.store.disk import Reserve
from edgesdk_agent.store.generations import GenerationStore
from edgesdk_agent.store.slots import SlotsStore
from edgesdk_agent.store.state import StateDb

from edgesdk.generation import GENERATION_SCHEMA, Generation, TrialPolicy, generation_id, slots_file

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")
NOBODY = 65534
ATTEMPT = """
import json, os, socket, sys
os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[2]))
root = sys.argv[1]
def tried(name, action):
    try:
        action()
    except OSError as error:
        results[name] = error.strerror
    else:
        results[name] = "DONE"
results = {}
store, state = root + "/store", root + "/state"
generation = store + "/generations/" + os.listdir(store + "/generations")[0]
door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
tried("list state", lambda: os.listdir(state))
tried("read the journal", lambda: open(state + "/state.db", "rb"))
tried("read keys", lambda: os.listdir(state + "/keys"))
tried("overwrite slots", lambda: open(store + "/models/m/slots.json", "r+"))
tried("put slots in place", lambda: os.rename("/tmp", store + "/models/m/slots.json"))
tried("plant the temporary slots as a link", lambda: os.symlink("/etc/passwd", store + "/models/m/.slots.json.tmp"))
tried("remove slots", lambda: os.unlink(store + "/models/m/slots.json"))
tried("plant a model", lambda: os.mkdir(store + "/models/evil"))
tried("plant a generation", lambda: os.symlink("/tmp", store + "/generations/" + "0" * 64))
tried("change the artifact", lambda: open(generation + "/model.onnx", "r+"))
tried("make it writable", lambda: os.chmod(generation + "/model.onnx", 0o666))
tried("add to a generation", lambda: open(generation + "/extra", "w"))
tried("move a generation", lambda: os.rename(generation, store + "/generations/gone"))
tried("replace the store", lambda: os.rename(store, root + "/old"))
tried("remove the socket", lambda: os.unlink(store + "/evidence.sock"))
tried("bind another socket", lambda: socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).bind(store + "/evidence2.sock"))
tried("speak to the agent", lambda: door.sendto(b"{}", store + "/evidence.sock"))
tried("read slots", lambda: open(store + "/models/m/slots.json").read())
tried("read the artifact", lambda: open(generation + "/model.onnx").read())
print(json.dumps(results))
"""


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """A device's folders with one generation that serves; every parent can be entered by everybody."""
    made = Paths(tmp_path / "agent")
    made.make()
    for parent in made.root.parents:  # pytest's own folders are closed to others
        if parent in {Path(tempfile.gettempdir()), Path("/")}:
            break
        parent.chmod(0o755)
    StateDb(made.state_db).close()
    policy = TrialPolicy()
    digest = "ab" * 32
    record = Generation(
        schema=GENERATION_SCHEMA, generation=generation_id(digest, {}, policy), model="m", release="1.0.0",
        variant="v", bundle_sha256=digest, config={}, policy=policy,
    )  # fmt: skip
    unpacked = made.staging / "new"
    unpacked.mkdir()
    (unpacked / "model.onnx").write_bytes(b"model")
    GenerationStore(made.store).stage(unpacked, record)
    slots = SlotsStore(made.store, Reserve(made.reserve))
    slots.begin_trial("m", record.generation)
    slots.commit("m", record.generation)
    return made


def test_another_user_changes_nothing(paths: Paths) -> None:
    """Nineteen games with files, links, permissions and the socket: only reading what is served succeeds."""
    door = EvidenceSocket(paths.evidence_socket, lambda _: None)
    door.start()
    before = slots_file(paths.store, "m").read_bytes()
    done = subprocess.run(
        [sys.executable, "-S", "-c", ATTEMPT, str(paths.root), str(NOBODY)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    door.close()
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    allowed = {name for name, result in results.items() if result == "DONE"}
    assert allowed == {"read slots", "read the artifact"}, results
    assert slots_file(paths.store, "m").read_bytes() == before
    assert door.counts.received == 0


def test_a_planted_link_is_replaced_not_followed(tmp_path: Path) -> None:
    """A link in place of a file that is replaced loses its place; what it points to stays as it was."""
    victim, link = tmp_path / "victim", tmp_path / "slots.json"
    victim.write_text("untouched")
    link.symlink_to(victim)
    write_atomic(link, b"new")
    assert (victim.read_text(), link.is_symlink(), link.read_bytes()) == ("untouched", False, b"new")


def test_a_planted_temporary_link_is_not_followed(tmp_path: Path) -> None:
    """Nor is one in place of the temporary file: writing through it would change a file of somebody else's choice."""
    victim = tmp_path / "victim"
    victim.write_text("untouched")
    (tmp_path / ".slots.json.tmp").symlink_to(victim)
    write_atomic(tmp_path / "slots.json", b"new")
    assert victim.read_text() == "untouched"
    assert (tmp_path / "slots.json").read_bytes() == b"new"


def test_a_socket_in_the_way_is_replaced(paths: Paths) -> None:
    """A socket, or a link to a file, that lies where the agent's is to be goes; the file stays."""
    victim = paths.root / "victim"
    victim.write_text("untouched")
    paths.evidence_socket.symlink_to(victim)
    door = EvidenceSocket(paths.evidence_socket, lambda _: None)
    assert paths.evidence_socket.is_socket()
    door.close()
    assert victim.read_text() == "untouched"
