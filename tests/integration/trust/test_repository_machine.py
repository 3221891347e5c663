"""Any order of publishing, rotating, copying and reading: a device never goes back and is never locked out."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface

from edgesdk.errors import TrustError
from edgesdk.trust.client import UpdateClient, Versions
from edgesdk.trust.keys import public_key_of
from edgesdk.trust.repository import Options, first_root, init_repository, refresh, rotate, set_deployment_keys

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
OPTIONS = Options(now=lambda: NOW)


class Folder(FetcherInterface):
    """Reads what a server of this folder would serve."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = self.folder / unquote(urlsplit(url).path).lstrip("/")
        if not path.exists():
            raise DownloadHTTPError(f"no {path.name}", 404)
        return iter([path.read_bytes()])


class RepositoryMachine(RuleBasedStateMachine):
    """One publisher, one device, and mirrors that keep what they once copied."""

    @initialize()
    def start(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="edgesdk-test-"))
        self.repo, self.keys = self.home / "repo", self.home / "keys"
        self.published = init_repository(self.repo, self.keys, options=OPTIONS).versions
        self.mirrors: list[tuple[Path, dict[str, int]]] = []
        self.seen = Versions(root=0, timestamp=0)

    @rule(role=st.sampled_from(["targets", "snapshot", "timestamp"]))
    def renew(self, role: str) -> None:
        self.published = refresh(self.repo, self.keys, role=role, options=OPTIONS).versions

    @rule(role=st.sampled_from(["root", "targets", "snapshot", "timestamp"]))
    def replace_keys(self, role: str) -> None:
        self.published = rotate(self.repo, self.keys, role, options=OPTIONS).versions

    @rule()
    def publish(self) -> None:
        key = public_key_of(CryptoSigner.generate_ed25519())
        self.published = set_deployment_keys(self.repo, self.keys, [key], options=OPTIONS).versions

    @rule()
    def copy(self) -> None:
        mirror = self.home / f"mirror-{len(self.mirrors)}"
        shutil.copytree(self.repo, mirror)
        self.mirrors.append((mirror, self.published))

    @rule()
    def read(self) -> None:
        """The true repository is always believed, and at exactly what was published."""
        versions = self._client(self.repo).refresh()
        assert versions == Versions(root=self.published["root"], timestamp=self.published["timestamp"])
        self._note(versions)

    @precondition(lambda self: self.mirrors)
    @rule(data=st.data())
    def read_mirror(self, data: st.DataObject) -> None:
        """A mirror is believed if it is not older than what the device saw, and else refused."""
        mirror, _ = data.draw(st.sampled_from(self.mirrors))
        try:
            versions = self._client(mirror).refresh()
        except TrustError as error:
            assert error.code in {"tuf-rollback", "signature-invalid"}
        else:
            self._note(versions)

    @invariant()
    def nothing_private_is_served(self) -> None:
        assert not [path for path in self.repo.rglob("*") if path.is_file() and b"PRIVATE" in path.read_bytes()]

    def teardown(self) -> None:
        shutil.rmtree(self.home, ignore_errors=True)

    def _client(self, folder: Path) -> UpdateClient:
        return UpdateClient(
            self.home / "device",
            "http://repository.test",
            trusted_root=first_root(self.repo),
            now=lambda: NOW,
            fetcher=Folder(folder),
        )

    def _note(self, versions: Versions) -> None:
        assert versions.root >= self.seen.root
        assert versions.timestamp >= self.seen.timestamp
        self.seen = versions


TestRepositoryMachine = RepositoryMachine.TestCase
TestRepositoryMachine.settings = settings(max_examples=15, stateful_step_count=15, deadline=None)
