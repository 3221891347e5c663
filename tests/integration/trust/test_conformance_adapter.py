"""The update client as a command, driven as the public conformance suite drives one: as a process, by its exit code."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from edgesdk.trust.repository import Options, first_root, init_repository, publish_release, refresh, rotate

RELEASE = "models/digits/1.0.0/release.json"
BUNDLE = "models/digits/1.0.0/digits-1.0.0.edge"


@dataclass
class Driven:
    """A client under test, and the repository that it is pointed at."""

    folder: Path
    repo: Path
    keys: Path
    server: object

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "edgesdk.trust.conformance", "--metadata-dir", str(self.folder / "md"), *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    def init(self) -> int:
        root = self.folder / "root.json"
        root.write_bytes(first_root(self.repo))
        return self.run("init", str(root)).returncode

    def refresh(self) -> subprocess.CompletedProcess[str]:
        return self.run("--metadata-url", f"{self.server.url}/metadata", "refresh")

    def download(self, *names: str) -> subprocess.CompletedProcess[str]:
        words = [word for name in names for word in ("--target-name", name)]
        places = ("--target-dir", str(self.folder / "targets"), "--target-base-url", f"{self.server.url}/targets")
        return self.run("--metadata-url", f"{self.server.url}/metadata", *places, *words, "download")

    def version(self, role: str) -> int:
        """The version that the client trusts, as the suite reads it."""
        return json.loads((self.folder / "md" / f"{role}.json").read_bytes())["signed"]["version"]

    def code(self, done: subprocess.CompletedProcess[str]) -> str:
        assert done.returncode == 1
        return json.loads(done.stderr.splitlines()[-1])["error"]["code"]


@pytest.fixture
def driven(tmp_path: Path, serve, make_release) -> Driven:
    """A repository with one release, by the real clock."""
    repo, keys = tmp_path / "repository", tmp_path / "publisher"
    init_repository(repo, keys)
    publish_release(repo, keys, make_release("1.0.0"))
    (tmp_path / "client").mkdir()
    return Driven(tmp_path / "client", repo, keys, serve(repo))


def test_init_asks_nothing_of_the_network(driven: Driven) -> None:
    """The trusted root is kept under its name without version; a file that is no root is refused."""
    assert driven.init() == 0
    assert driven.version("root") == 1
    assert driven.server.seen == []
    (driven.folder / "root.json").write_text("{}")
    assert driven.run("init", str(driven.folder / "root.json")).returncode == 1


def test_refresh_follows_the_repository(driven: Driven) -> None:
    """All four roles are kept; a root rotation is walked; the second time only what changed is fetched."""
    driven.init()
    assert driven.refresh().returncode == 0
    assert {role: driven.version(role) for role in ("root", "timestamp", "snapshot", "targets")}["root"] == 1
    before = driven.version("timestamp")
    rotate(driven.repo, driven.keys, "root")
    refresh(driven.repo, driven.keys)
    assert driven.refresh().returncode == 0
    assert driven.version("root") == 2
    assert driven.version("timestamp") > before


def test_attacks_end_with_exit_code_one_and_change_nothing(driven: Driven) -> None:
    """A rolled-back and a forged timestamp, and a missing one: refused with a code, the trusted metadata stays."""
    driven.init()
    driven.refresh()
    old = (driven.repo / "metadata" / "timestamp.json").read_bytes()
    refresh(driven.repo, driven.keys)
    assert driven.refresh().returncode == 0
    trusted = driven.version("timestamp")
    driven.server.replace("/metadata/timestamp.json", old)
    assert driven.code(driven.refresh()) == "tuf-rollback"
    driven.server.replace("/metadata/timestamp.json", old.replace(b'"version":', b'"version":9'))
    assert driven.code(driven.refresh()) in {"signature-invalid", "tuf-metadata"}
    driven.server.status("/metadata/timestamp.json", 404)
    assert driven.code(driven.refresh()) == "http-status"
    assert driven.version("timestamp") == trusted


def test_expired_metadata_is_refused(driven: Driven, tmp_path: Path, serve, make_release) -> None:
    """The adapter judges by the system's clock, as the suite expects of a client."""
    repo, keys = tmp_path / "stale", tmp_path / "stale-keys"
    past = Options(now=lambda: datetime.now(UTC) - timedelta(days=4000))
    init_repository(repo, keys, options=past)
    stale = Driven(tmp_path / "stale-client", repo, keys, serve(repo))
    stale.folder.mkdir()
    assert stale.init() == 0
    assert stale.code(stale.refresh()) == "tuf-expired"


def test_download_verifies_and_caches(driven: Driven) -> None:
    """Targets are stored once, in the order asked; a second download asks for none; a wrong one ends the command."""
    driven.init()
    assert driven.download(RELEASE, BUNDLE).returncode == 0
    kept = sorted(file.name for file in (driven.folder / "targets").iterdir())
    assert len(kept) == 2
    asked = len([path for path in driven.server.seen if path.startswith("/targets/")])
    assert asked == 2
    assert driven.download(RELEASE, BUNDLE).returncode == 0
    assert len([path for path in driven.server.seen if path.startswith("/targets/")]) == asked
    assert driven.code(driven.download("models/digits/9.9.9/release.json", RELEASE)) == "tuf-target-missing"
    file = next((driven.folder / "targets").iterdir())
    file.write_bytes(b"rotten")
    assert driven.download(RELEASE, BUNDLE).returncode == 0
    assert file.read_bytes() != b"rotten"


def test_wrong_words_are_refused(driven: Driven) -> None:
    """A download that does not say what, and a command that is none."""
    driven.init()
    assert driven.code(driven.download()) == "argument-invalid"
    assert driven.run("explode").returncode != 0
