"""A release carried in a file: exported from a repository, verified and taken over by a device without network."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from agent_world import NOW, World
from edgesdk_agent.config import AgentConfig, OfflineConfig, RuntimeConfig
from edgesdk_agent.identity import IDENTITY_SCHEMA, TRUSTED_ROOT, Identity
from edgesdk_agent.importing import Imported, import_file
from edgesdk_agent.lock import only_agent
from edgesdk_agent.ota.download import imported
from edgesdk_agent.paths import Paths
from edgesdk_agent.store.state import StateDb

from edgesdk.bundle.export import DESIRED_NAME, open_export, write_export
from edgesdk.bundle.release import write_release
from edgesdk.clock import rfc3339
from edgesdk.errors import EdgeError
from edgesdk.generation import read_slots
from edgesdk.protocol.messages import DesiredModel, MinTuf
from edgesdk.trust.carried import export_release
from edgesdk.trust.repository import Options, publish_release, refresh, rotate

SETTINGS = AgentConfig(runtime=RuntimeConfig(packages=("onnxruntime",)))
UNREACHABLE = "http://127.0.0.1:9/repo"


@pytest.fixture
def device(world: World, tmp_path: Path) -> Paths:
    """An enrolled device whose repository and broker cannot be reached."""
    paths = Paths(tmp_path / "device")
    paths.make()
    (paths.keys / TRUSTED_ROOT).write_bytes((world.folder / "root.json").read_bytes())
    identity = Identity(
        schema=IDENTITY_SCHEMA,
        device="dev-1",
        fleet="lab",
        enrolment="e-1",
        hub="http://127.0.0.1:9",
        broker="mqtt://127.0.0.1:9",
        repository=UNREACHABLE,
    )
    paths.device.write_bytes(msgspec.json.encode(identity))
    return paths


def export(world: World, name: str = "tiny.export", *, release: str = "1.0.0", **options: Any) -> Path:
    made = export_release(world.repo, "tiny", release, world.folder / name, now=NOW, **options)
    return made.path


def take(file: Path, device: Paths, config: AgentConfig = SETTINGS) -> Imported:
    return import_file(file, paths=device, config=config)


def refusal(work: Callable[[], Any]) -> str:
    with pytest.raises(EdgeError) as caught:
        work()
    return caught.value.code


def test_a_file_with_a_desired_document_is_deployed(world: World, device: Paths) -> None:
    """It is verified and staged without network; the tests are left to the agent, and the serial is in force."""
    file = export(world, desired=world.sign(world.desired(serial=10)), device="dev-1")
    found = take(file, device)
    assert found == Imported(
        model="tiny", release="1.0.0", deployed=True, serial=10, state="testing", reason="", bundles=1
    )
    state = StateDb(device.state_db)
    assert state.serial_floor == 10
    assert [draft.state for draft in state.latest_drafts().values()] == ["testing"]
    state.close()
    assert len(list((device.store / "generations").iterdir())) == 1
    assert take(file, device).state == "testing"  # the accepted document is welcome again


KILLED_AT = ("ChildWorkers.verify_import", "adopt", "StateDb.accept", "Updater.adopt", "Updater.step")
KILLED_IMPORT = """
import os, signal, sys
from pathlib import Path
from edgesdk_agent import importing
from edgesdk_agent.config import AgentConfig, RuntimeConfig
from edgesdk_agent.paths import Paths

root, file, point = sys.argv[1:]
*owner, name = point.split(".")
owner = getattr(importing, owner[0]) if owner else importing
real = getattr(owner, name)

def done_and_killed(*arguments, **options):
    real(*arguments, **options)
    os.kill(os.getpid(), signal.SIGKILL)

setattr(owner, name, done_and_killed)
config = AgentConfig(runtime=RuntimeConfig(packages=("onnxruntime",)))
importing.import_file(Path(file), paths=Paths(Path(root)), config=config)
"""


def test_an_import_that_was_killed_is_done_again(world: World, device: Paths) -> None:
    """Killed right after each of its steps, one after the other, it ends like an undisturbed one in the end."""
    file = export(world, desired=world.sign(world.desired()))
    for point in KILLED_AT:
        killed = subprocess.run(
            [sys.executable, "-c", KILLED_IMPORT, str(device.root), str(file), point], check=False, timeout=60
        )
        assert killed.returncode == -signal.SIGKILL
    found = take(file, device)
    assert (found.deployed, found.serial, found.state, found.reason) == (True, 10, "testing", "")
    state = StateDb(device.state_db)
    assert state.serial_floor == 10
    state.close()


def test_a_file_without_a_desired_document_is_only_kept_ready(world: World, device: Paths) -> None:
    """Nothing is deployed; when the desired document comes in a second file, its bundle needs no download."""
    found = take(export(world), device)
    assert (found.deployed, found.state, found.bundles) == (False, "", 1)
    assert read_slots(device.store, "tiny") is None
    assert imported(device.downloads) == {world.bundle.sha256}
    wish = write_without_bundles(world, world.sign(world.desired(serial=10)))
    assert take(wish, device).state == "testing"
    assert not any(device.downloads.iterdir())


def write_without_bundles(world: World, desired: dict[str, Any]) -> Path:
    """A file of the same repository with metadata and a desired document, but without the bundle."""
    whole = export(world, "whole.export", desired=desired, device="dev-1")
    with open_export(whole) as opened:
        bundle = f"targets/{world.bundle.sha256}"
        files: dict[str, bytes | Path] = {name: opened.read(name) for name in opened.entries if name != bundle}
    thin = world.folder / "thin.export"
    write_export(thin, files, model="tiny", release="1.0.0", variants=(), device="dev-1")
    return thin


def test_local_policy_may_permit_more(world: World, device: Paths) -> None:
    """`offline.activate_without_desired` deploys what the publisher signed; the serial stays the hub's."""
    config = msgspec.structs.replace(SETTINGS, offline=OfflineConfig(activate_without_desired=True))
    found = take(export(world), device, config)
    assert (found.deployed, found.serial, found.state) == (True, None, "testing")
    state = StateDb(device.state_db)
    assert state.serial_floor == 0
    assert {draft.deployment for draft in state.latest_drafts().values()} == {"import"}
    state.close()


def test_a_file_that_lacks_the_bundle_says_so(world: World, device: Paths) -> None:
    """The desired document is in force, and the download is tried over the network, transiently."""
    found = take(write_without_bundles(world, world.sign(world.desired(serial=10))), device)
    assert found.state == "failed"
    assert "[http-failed]" in found.reason


def test_what_an_online_device_would_refuse_is_refused(world: World, device: Paths) -> None:
    """Another device's document, a stranger's signature, an old serial, metadata older than asked for, expiry."""
    cases = {
        "audience": world.sign(world.desired(device="dev-2")),
        "signature-missing": world.sign(world.desired(), key="stranger"),
        "tuf-frozen": world.sign(world.desired(min_tuf=MinTuf(root=1, timestamp=99))),
        "document-expired": world.sign(world.desired(expires_at=rfc3339(NOW - timedelta(days=1)))),
    }
    for code, envelope in cases.items():
        file = export(world, f"{code}.export", desired=envelope, device="dev-1")
        assert refusal(functools.partial(take, file, device)) == code
    assert not any(device.downloads.iterdir())
    accepted = export(world, desired=world.sign(world.desired(serial=20)), device="dev-1")
    take(accepted, device)
    older = export(world, "older.export", desired=world.sign(world.desired(serial=19)), device="dev-1")
    assert refusal(lambda: take(older, device)) == "serial-replayed"
    later = world.sign(world.desired(serial=21, issued_at=rfc3339(NOW + timedelta(days=4000))))
    assert refusal(lambda: take(export(world, "late.export", desired=later), device)) == "tuf-expired"


def test_rollback_is_refused_across_files_and_roots_rotate(world: World, device: Paths) -> None:
    """A newer file raises the floor of the metadata, through a root rotation; the older file is refused after it."""
    old = export(world, "old.export")
    rotate(world.repo, world.keys, "root")
    rotate(world.repo, world.keys, "timestamp")
    refresh(world.repo, world.keys)
    new = export(world, "new.export")
    with open_export(new) as opened:
        assert {"metadata/1.root.json", "metadata/2.root.json", "metadata/3.root.json"} <= set(opened.entries)
    take(new, device)
    assert refusal(lambda: take(old, device)) in {"tuf-rollback", "signature-invalid"}


def test_a_damaged_or_foreign_file_is_refused(world: World, device: Paths) -> None:
    """Every flipped byte is noticed before anything is kept: by the layout, a hash, or a signature."""
    data = bytearray(export(world, desired=world.sign(world.desired(serial=10)), device="dev-1").read_bytes())
    broken = world.folder / "broken.export"
    for at in range(0, len(data), max(1, len(data) // 9)):
        broken.write_bytes(bytes(data[:at]) + bytes([data[at] ^ 0x41]) + bytes(data[at + 1 :]))
        assert refusal(functools.partial(take, broken, device))
    broken.write_bytes(bytes(data[: len(data) // 2]))
    assert refusal(lambda: take(broken, device)).startswith("bundle-")
    assert refusal(lambda: take(world.bundle.path, device)) == "manifest-schema"
    assert refusal(lambda: take(world.folder / "none", device)) == "file-missing"
    assert not any(device.downloads.iterdir())
    assert not any((device.store / "generations").iterdir())


def test_a_target_that_is_not_the_signed_one_is_not_taken_over(world: World, device: Paths) -> None:
    """A file that swaps the bundle's bytes under the signed name is refused, and leaves nothing behind."""
    with open_export(export(world)) as opened:
        files: dict[str, bytes | Path] = {name: opened.read(name) for name in opened.entries}
    files[f"targets/{world.bundle.sha256}"] = b"another model"
    forged = world.folder / "forged.export"
    write_export(forged, files, model="tiny", release="1.0.0", variants=())
    assert refusal(lambda: take(forged, device)) == "tuf-target-mismatch"
    files[DESIRED_NAME] = b"{"
    write_export(forged, files, model="tiny", release="1.0.0", variants=())
    assert refusal(lambda: take(forged, device)) == "message-invalid"
    assert not any(device.downloads.iterdir())


def test_only_one_import_is_kept_and_not_beside_an_agent(world: World, device: Paths, make_bundle) -> None:
    """A later file takes the place of an unused one; a running agent is not disturbed."""
    take(export(world), device)
    bundle = make_bundle("1.1.0")
    folder = world.folder / "second"
    folder.mkdir()
    bundle.path.rename(folder / bundle.path.name)
    write_release(folder, [folder / bundle.path.name], built_at=rfc3339(NOW - timedelta(hours=1)))
    publish_release(world.repo, world.keys, folder, options=Options(now=lambda: NOW))
    newer = export(world, "newer.export", release="1.1.0")
    take(newer, device)
    assert imported(device.downloads) == {bundle.sha256}
    with only_agent(device.lock):
        assert refusal(lambda: take(newer, device)) == "agent-running"


def test_the_commands_as_a_person_types_them(world: World, device: Paths) -> None:
    """`edge bundle export`, then `edge-agent import`, then `edge-agent why`; wrong words are refused with a code."""
    wish = world.folder / "desired.json"
    wish.write_text(json.dumps(world.sign(world.desired(serial=10))))
    out = world.folder / "typed.export"
    words = ["tiny", "1.0.0", "--repo", str(world.repo), "-o", str(out), "--desired", str(wish), "--json"]
    made = command("edgesdk", "bundle", "export", *words)
    assert json.loads(made.stdout)["device"] == "dev-1"
    done = command("edgesdk_agent", "import", str(out), "--root", str(device.root), "--json")
    assert json.loads(done.stdout)["state"] in {"testing", "refused"}, done.stderr
    explained = json.loads(command("edgesdk_agent", "why", "tiny", "--root", str(device.root), "--json").stdout)
    assert "asks for release 1.0.0" in explained["models"][0]["text"]
    assert "Start the agent" in explained["models"][0]["next"]
    again = command("edgesdk_agent", "import", str(wish), "--root", str(device.root), "--json")
    assert json.loads(again.stderr)["error"]["code"] == "bundle-not-a-bundle"
    wish.write_text(
        json.dumps(world.sign(world.desired(models={"tiny": DesiredModel(release="2.0.0", deployment="d")})))
    )
    refused = command("edgesdk", "bundle", "export", *words)
    assert json.loads(refused.stderr)["error"]["code"] == "argument-invalid"


def command(module: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *words], capture_output=True, text=True, check=False, timeout=120
    )


def test_the_agent_goes_on_where_the_import_ended(world: World, device: Paths) -> None:
    """Without any network the agent tests what was imported and serves it on trial; `why` says so."""
    take(export(world, desired=world.sign(world.desired(serial=10)), device="dev-1"), device)
    words = [sys.executable, "-m", "edgesdk_agent", "run", "--root", str(device.root), "--json"]
    environment = {**os.environ, "EDGE_AGENT_RUNTIME_PACKAGES": "onnxruntime"}
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as agent:
        pause, waited = threading.Event(), 0.0
        while (slots := read_slots(device.store, "tiny")) is None or slots.serve != "trial":
            assert agent.poll() is None
            assert waited < 90, "it is not on trial"
            pause.wait(0.1)
            waited += 0.1
        agent.terminate()
    said = json.loads(command("edgesdk_agent", "why", "tiny", "--root", str(device.root), "--json").stdout)
    assert "tiny 1.0.0 on trial" in said["models"][0]["text"]
