"""The publisher's view of a repository: read from disk, verified from the pinned root, whatever its age.

Nothing is signed on top of what was not verified here: else whoever can write to the repository's folder could slip a
target into the next signed metadata. Expiry is not judged: expired metadata is what a publisher must be able to renew.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeVar

from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Signed, Snapshot, Targets, Timestamp

from edgesdk.errors import ConfigError, TrustError
from edgesdk.trust.mapping import tuf_errors

METADATA = "metadata"
TARGETS = "targets"
Role = Literal["root", "targets", "snapshot", "timestamp"]
ROLES: Final[tuple[Role, ...]] = ("root", "targets", "snapshot", "timestamp")

S = TypeVar("S", Root, Targets, Snapshot, Timestamp)


@dataclass(frozen=True, slots=True)
class Current:
    """The verified state of a repository."""

    root: Root
    root_bytes: bytes
    targets: Targets
    snapshot: Snapshot
    timestamp: Timestamp

    def versions(self) -> dict[str, int]:
        """Return the version of each role."""
        return {role: getattr(self, role).version for role in ROLES}


def root_path(repo: Path, version: int) -> Path:
    """Return where a root version lies."""
    return repo / METADATA / f"{version}.root.json"


def load_current(repo: Path, trusted_root: bytes, *, replacing: Collection[Role] = ()) -> Current:
    """Read and verify a repository, from the pinned root to the targets.

    Args:
        repo: Folder of the repository.
        trusted_root: Any root of its chain, pinned by the caller.
        replacing: Roles whose keys are being replaced: their metadata may be signed for an earlier root of the chain,
            which is what a rotation without the lost old key leaves behind when it is interrupted.

    Raises:
        ConfigError: ``file-missing`` if there is no repository.
        TrustError: ``signature-invalid``, ``tuf-metadata``, ``tuf-rollback``.
    """
    folder = repo / METADATA
    with tuf_errors(f"the repository {repo}"):
        roots, root_bytes = _root_chain(repo, trusted_root)
        believed = {role: roots if role in replacing else roots[-1:] for role in ROLES}
        timestamp = _verified(believed["timestamp"], Timestamp, _read(folder / "timestamp.json"))
        snapshot_data = _read(folder / f"{timestamp.snapshot_meta.version}.snapshot.json")
        timestamp.snapshot_meta.verify_length_and_hashes(snapshot_data)
        snapshot = _verified(believed["snapshot"], Snapshot, snapshot_data)
        entry = snapshot.meta.get("targets.json")
        if entry is None:
            raise TrustError("tuf-metadata", "the snapshot does not list targets.json")
        targets_data = _read(folder / f"{entry.version}.targets.json")
        entry.verify_length_and_hashes(targets_data)
        targets = _verified(believed["targets"], Targets, targets_data)
    _expect("snapshot", snapshot, timestamp.snapshot_meta.version)
    _expect("targets", targets, entry.version)
    return Current(roots[-1], root_bytes, targets, snapshot, timestamp)


def load_root(data: bytes) -> Root:
    """Parse root metadata and verify it by its own keys: a start of trust, pinned by whoever calls.

    Raises:
        tuf.api.exceptions.RepositoryError: If it is no root, or too few of its keys signed it.
    """
    metadata = Metadata[Root].from_bytes(data)
    _expect_type(metadata.signed, Root)
    metadata.signed.verify_delegate(Root.type, metadata.signed_bytes, metadata.signatures)
    return metadata.signed


def _root_chain(repo: Path, trusted_root: bytes) -> tuple[list[Root], bytes]:
    """Walk to the newest root; each step is signed by the root before it and by itself (TUF specification 5.3).

    Returns:
        The roots, oldest first, and the bytes of the newest.
    """
    chain, data = [load_root(trusted_root)], trusted_root
    while (path := root_path(repo, chain[-1].version + 1)).exists():
        data = path.read_bytes()
        expected = chain[-1].version + 1
        _verified(chain[-1:], Root, data)
        chain.append(load_root(data))
        _expect("root", chain[-1], expected)
    return chain, data


def _verified(roots: Sequence[Root], kind: type[S], data: bytes) -> S:
    """Return metadata that one of the roots accepts; the newest one's refusal is raised."""
    metadata = Metadata[S].from_bytes(data)
    _expect_type(metadata.signed, kind)
    refused: RepositoryError | None = None
    for root in reversed(roots):
        try:
            root.verify_delegate(kind.type, metadata.signed_bytes, metadata.signatures)
        except RepositoryError as error:
            refused = refused or error
        else:
            return metadata.signed
    assert refused is not None  # there is at least one root
    raise refused


def _expect_type(signed: Signed, kind: type[Signed]) -> None:
    if not isinstance(signed, kind):
        raise TrustError("tuf-metadata", f"expected {kind.type} metadata, got {signed.type}")


def _expect(role: str, signed: Signed, version: int) -> None:
    if signed.version != version:
        raise TrustError("tuf-metadata", f"expected {role} version {version}, got {signed.version}")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(
            "file-missing", f"there is no {path}", hint="Make the repository with `edge repo init`."
        ) from None
