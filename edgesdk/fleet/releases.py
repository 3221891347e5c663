"""What the hub knows of the repository: releases, metadata versions, deployment keys; read from its folder, verified.

Devices verify for themselves. The hub checks the same signatures so that it never asks for what they would refuse.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import msgspec
from securesystemslib.exceptions import StorageError
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Root, Snapshot, TargetFile, Targets, Timestamp
from tuf.api.serialization import DeserializationError

from edgesdk.bundle.manifest import DEPLOYMENT_KEYS_TARGET, ReleaseIndex, release_target
from edgesdk.clock import Clock, SystemClock, rfc3339
from edgesdk.errors import TrustError
from edgesdk.protocol.messages import MinTuf
from edgesdk.trust.deployment import decode_deployment_keys

RELEASE = re.compile(r"models/([^/]+)/([^/]+)/release\.json")
MAX_TARGET = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Published:
    """One release that the repository lists."""

    model: str
    release: str


@dataclass(frozen=True, slots=True)
class _Trusted:
    root: Root
    timestamp: Timestamp
    snapshot: Snapshot
    targets: Targets


class RepositoryView:
    """A TUF repository's folder, as `edge repo` writes it.

    Args:
        folder: Holds ``metadata/`` and ``targets/``.
        clock: Judges expiry.
    """

    def __init__(self, folder: Path, *, clock: Clock | None = None) -> None:
        self.folder = folder
        self._clock = clock or SystemClock()
        self._cached: tuple[tuple[int, bytes], _Trusted] | None = None

    def root_bytes(self) -> bytes:
        """Return the first root, which devices pin.

        Raises:
            TrustError: ``tuf-metadata`` if there is none.
        """
        return self._read_metadata("1.root.json")

    def versions(self) -> MinTuf:
        """Return the versions that a device must at least see."""
        trusted = self._load()
        return MinTuf(root=trusted.root.version, timestamp=trusted.timestamp.version)

    def releases(self) -> list[Published]:
        """List every release, by model and then version."""
        found = (RELEASE.fullmatch(path) for path in self._load().targets.targets)
        return sorted(
            (Published(match[1], match[2]) for match in found if match), key=lambda each: (each.model, each.release)
        )

    def release(self, model: str, release: str) -> ReleaseIndex:
        """Return a listed release's index, its hash checked.

        Raises:
            TrustError: ``tuf-target-missing``, ``tuf-target-mismatch``, ``tuf-metadata`` or ``tuf-expired``.
        """
        data = self._target(release_target(model, release), what=f"no release {release} of {model}")
        try:
            return msgspec.json.decode(data, type=ReleaseIndex)
        except msgspec.DecodeError as error:
            raise TrustError("tuf-target-mismatch", f"the index of {model} {release} is invalid: {error}") from error

    def require_deployment_key(self, keyid: str) -> None:
        """Check that devices will accept what this key signs.

        Raises:
            TrustError: ``deployment-key-unlisted``.
        """
        try:
            listed = decode_deployment_keys(self._target(DEPLOYMENT_KEYS_TARGET, what="no deployment keys"))
        except TrustError as error:
            if error.code != "tuf-target-missing":
                raise
            raise TrustError("deployment-key-unlisted", "the repository names no deployment keys yet") from error
        if keyid not in {key.keyid for key in listed.keys}:
            raise TrustError(
                "deployment-key-unlisted",
                f"the hub's deployment key {keyid[:12]} is not among the {len(listed.keys)} that the repository lists",
            )
        if listed.threshold > 1:
            raise TrustError(
                "deployment-key-unlisted",
                f"the repository wants {listed.threshold} deployment keys; a hub signs with one",
            )

    def _target(self, path: str, *, what: str) -> bytes:
        entry = self._load().targets.targets.get(path)
        if entry is None:
            raise TrustError("tuf-target-missing", f"the repository lists {what}")
        return self._read_target(entry)

    def _read_target(self, entry: TargetFile) -> bytes:
        folder, _, name = entry.path.rpartition("/")
        file = self.folder / "targets" / folder / f"{next(iter(entry.hashes.values()))}.{name}"
        try:
            data = file.read_bytes() if entry.length <= MAX_TARGET else b""
            entry.verify_length_and_hashes(data)
        except (OSError, RepositoryError) as error:
            raise TrustError("tuf-target-mismatch", f"target {entry.path} does not match its metadata") from error
        return data

    def _load(self) -> _Trusted:
        """Return verified metadata; verified again only when the time stamp or the root has changed."""
        newest = self._newest_root()
        seen = (newest, self._read_metadata("timestamp.json"))
        if self._cached is None or self._cached[0] != seen:
            self._cached = (seen, self._verify(newest))
        trusted = self._cached[1]
        for role in (trusted.root, trusted.timestamp, trusted.snapshot, trusted.targets):
            if role.is_expired(self._clock.now()):
                raise TrustError("tuf-expired", f"the repository's {role.type} expired at {rfc3339(role.expires)}")
        return trusted

    def _verify(self, newest: int) -> _Trusted:
        try:
            name = f"{newest}.root.json"
            root = Metadata[Root].from_bytes(self._read_metadata(name)).signed
            self._verified(root, Root.type, name)
            timestamp = Metadata[Timestamp].from_bytes(self._verified(root, Timestamp.type, "timestamp.json")).signed
            name = f"{timestamp.snapshot_meta.version}.snapshot.json"
            snapshot = Metadata[Snapshot].from_bytes(self._verified(root, Snapshot.type, name)).signed
            name = f"{snapshot.meta['targets.json'].version}.targets.json"
            targets = Metadata[Targets].from_bytes(self._verified(root, Targets.type, name)).signed
        except (RepositoryError, DeserializationError, StorageError, KeyError, ValueError) as error:
            raise TrustError("tuf-metadata", f"the repository {self.folder} does not verify: {error}") from error
        return _Trusted(root, timestamp, snapshot, targets)

    def _verified(self, root: Root, role: str, name: str) -> bytes:
        data = self._read_metadata(name)
        metadata = Metadata.from_bytes(data)
        root.verify_delegate(role, metadata.signed_bytes, metadata.signatures)
        return data

    def _newest_root(self) -> int:
        names = (self.folder / "metadata").glob("*.root.json")
        versions = [int(name.name.split(".")[0]) for name in names if name.name.split(".")[0].isdigit()]
        return max(versions, default=1)

    def _read_metadata(self, name: str) -> bytes:
        try:
            return (self.folder / "metadata" / name).read_bytes()
        except OSError as error:
            raise TrustError(
                "tuf-metadata",
                f"{self.folder} is no repository: metadata/{name} cannot be read",
                hint="Make one with `edge repo init`, or correct --repo.",
            ) from error
