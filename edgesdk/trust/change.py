"""One change to a repository: verified, edited in memory, then written in the order in which clients read.

Clients start at `timestamp.json`, which names a snapshot, which names the targets metadata, which names files by their
hash. So files are written first and the time stamp last: until that one rename a client sees the old repository, from
then on the new one, and a run that was killed leaves at most files that nothing names. A second run completes it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TypeVar

import msgspec
from securesystemslib.signer import CryptoSigner
from tuf.api.exceptions import LengthOrHashMismatchError
from tuf.api.metadata import Metadata, MetaFile, Root, Signed, Snapshot, TargetFile, Targets, Timestamp

from edgesdk.clock import SystemClock, rfc3339
from edgesdk.durable import make_folder, write_atomic
from edgesdk.errors import ConfigError, DeploymentError, TrustError
from edgesdk.trust.keyring import KeyRing
from edgesdk.trust.keys import PublicKey, tuf_key
from edgesdk.trust.metadata import METADATA, TARGETS, Current, Role, load_current, root_path

S = TypeVar("S", Root, Targets, Snapshot, Timestamp)
SHA256 = ["sha256"]
LOCK = ".lock"
ONLINE_LAST: tuple[Role, ...] = ("targets", "snapshot", "timestamp")
"""Roles in the order in which they are signed: each names the one before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """How long new metadata is valid, in days. What is signed by machines is short-lived."""

    root: int = 365
    targets: int = 90
    snapshot: int = 7
    timestamp: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a change is made.

    Attributes:
        expiry: Validity of what is signed.
        now: Wall time.
        write: Writes a file atomically and durably: the seam at which tests cut the power.
    """

    expiry: Expiry = field(default_factory=Expiry)
    now: Callable[[], datetime] = field(default_factory=lambda: SystemClock().now)
    write: Callable[[Path, bytes | Path], None] = write_atomic


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """What a repository holds after a change.

    Attributes:
        changed: Whether anything was written; False when it was all there already.
        versions: Version by role.
        expires: RFC 3339 by role.
        targets: Target paths that this change added or replaced.
    """

    changed: bool
    versions: dict[str, int]
    expires: dict[str, str]
    targets: tuple[str, ...] = ()


class Change:
    """Verified metadata that is being edited; made by `change`."""

    def __init__(self, repo: Path, ring: KeyRing, options: Options, current: Current) -> None:
        self.repo = repo
        self.ring = ring
        self.options = options
        self.root = current.root
        self.targets = current.targets
        self._snapshot = current.snapshot
        self._timestamp = current.timestamp
        self._put: list[str] = []

    def put(self, path: str, content: bytes | Path) -> None:
        """Add or replace a target, and store its file; nothing names it before `commit`."""
        if isinstance(content, Path):
            entry = TargetFile.from_file(path, str(content), SHA256)
        else:
            entry = TargetFile.from_data(path, content, SHA256)
        store_target(self.repo, entry, content, self.options)
        if self.targets.targets.get(path) != entry:
            self.targets.targets[path] = entry
            self._put.append(path)

    def read(self, path: str) -> bytes | None:
        """Return a small target's bytes, verified; None if there is no such target."""
        entry = self.targets.targets.get(path)
        if entry is None:
            return None
        data = _target_file(self.repo, entry).read_bytes()
        try:
            entry.verify_length_and_hashes(data)
        except LengthOrHashMismatchError as error:
            raise TrustError("tuf-target-mismatch", f"the target {path} in {self.repo}: {error}") from error
        return data

    def commit(self, start: Role, extra: Mapping[str, Sequence[CryptoSigner]] | None = None) -> None:
        """Sign and write `start` and every role that depends on it; all keys are at hand before anything is written.

        Raises:
            TrustError: ``key-threshold`` and what loading keys raises; ``tuf-expired`` if something that is not signed
                anew has expired.
        """
        again = self._again(start)
        signers = {role: [*self._signers(role), *(extra or {}).get(role, ())] for role in again}
        if "targets" in again:
            data, version = self._sign("targets", self.targets, signers["targets"])
            self._write(f"{version}.targets.json", data)
            self._snapshot.meta["targets.json"] = MetaFile.from_data(version, data, SHA256)
        if "snapshot" in again:
            data, version = self._sign("snapshot", self._snapshot, signers["snapshot"])
            self._write(f"{version}.snapshot.json", data)
            self._timestamp.snapshot_meta = MetaFile.from_data(version, data, SHA256)
        data, _ = self._sign("timestamp", self._timestamp, signers["timestamp"])
        self._write("timestamp.json", data)
        self.remember()

    def check(self, start: Role, *, but: Collection[Role]) -> None:
        """Check that `commit` from `start` would find every key that it needs, those of `but` excepted.

        Raises:
            TrustError: As `commit`.
        """
        for role in self._again(start):
            if role not in but:
                self._signers(role)

    def has_keys(self, role: Role) -> bool:
        """Tell whether enough of a role's keys are at hand.

        Raises:
            TrustError: ``key-passphrase``, ``key-permissions``: a key that cannot be read is not a lost one.
        """
        try:
            self._signers(role)
        except TrustError as error:
            if error.code != "key-threshold":
                raise
            return False
        return True

    def commit_root(self, signers: Sequence[CryptoSigner], *, then: Role | None = None) -> None:
        """Sign and write the next root, after it what only the new root's keys sign (`then`), and pin the root here.

        It is pinned last: until then a second run sees the root before it, for which `then` is still signed.
        """
        data, version = self._sign("root", self.root, signers)
        self.options.write(root_path(self.repo, version), data)
        if then is not None:
            self.commit(then)
        self.ring.pin_root(data)
        self.remember()

    def root_signers(self) -> list[CryptoSigner]:
        """Load the keys that sign the next root."""
        return self._signers("root")

    def remember(self) -> None:
        """Note in the key folder what is published."""
        self.ring.remember(self._versions())

    def result(self, *, changed: bool = True) -> Published:
        """Describe the repository as it is now."""
        return Published(
            changed=changed,
            versions=self._versions(),
            expires={role: rfc3339(signed.expires) for role, signed in self._roles().items()},
            targets=tuple(self._put),
        )

    @property
    def pending(self) -> bool:
        """Whether `put` changed anything."""
        return bool(self._put)

    def _roles(self) -> dict[str, Signed]:
        return {
            "root": self.root,
            "targets": self.targets,
            "snapshot": self._snapshot,
            "timestamp": self._timestamp,
        }

    def _versions(self) -> dict[str, int]:
        return {role: signed.version for role, signed in self._roles().items()}

    def _again(self, start: Role) -> Sequence[Role]:
        """Return the roles that are signed anew with `start`; the others must not have expired."""
        again = ONLINE_LAST[ONLINE_LAST.index(start) :]
        self._check_fresh([role for role in ("root", "targets", "snapshot") if role not in again])
        return again

    def _check_fresh(self, roles: Sequence[str]) -> None:
        for role in roles:
            if self._roles()[role].is_expired(self.options.now()):
                command = "edge repo rotate root" if role == "root" else f"edge repo refresh --role {role}"
                raise TrustError(
                    "tuf-expired",
                    f"{role} expired at {rfc3339(self._roles()[role].expires)}",
                    hint=f"Run `{command}` with its keys.",
                )

    def _signers(self, role: str) -> list[CryptoSigner]:
        entry = self.root.roles[role]
        return self.ring.signers(role, entry.keyids, entry.threshold)

    def _sign(self, role: Role, signed: S, signers: Sequence[CryptoSigner]) -> tuple[bytes, int]:
        signed.version += 1
        return sign(role, signed, signers, self.options), signed.version

    def _write(self, name: str, data: bytes) -> None:
        self.options.write(self.repo / METADATA / name, data)


@contextlib.contextmanager
def change(repo: Path, ring: KeyRing, options: Options, *, replacing: Collection[Role] = ()) -> Iterator[Change]:
    """Lock a repository, verify it from the pinned root, and hand it out for one change.

    `replacing`: see `load_current`.

    Raises:
        ConfigError: ``file-missing`` if there is no repository or no pinned root.
        TrustError: If it does not verify, or is older than what was published before (``tuf-rollback``).
    """
    pinned = ring.trusted_root()
    if not (repo / METADATA).is_dir():
        raise ConfigError("file-missing", f"{repo} is no repository", hint="Make it: `edge repo init`.")
    with locked(repo):
        current = load_current(repo, pinned, replacing=replacing)
        ring.check_seen(current.versions())
        yield Change(repo, ring, options, current)


@contextlib.contextmanager
def locked(repo: Path) -> Iterator[None]:
    """Let one process at a time change a repository; the lock ends with the process.

    Raises:
        DeploymentError: ``disk-full``.
        ConfigError: ``folder-unwritable``.
    """
    with _disk_errors(repo):
        make_folder(repo / METADATA)
        with (repo / LOCK).open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


@contextlib.contextmanager
def _disk_errors(repo: Path) -> Iterator[None]:
    """Name what the disk refused; whatever was written before is completed by the next run."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise DeploymentError("disk-full", f"publishing to {repo} stopped: {error}") from error
        raise ConfigError("folder-unwritable", f"publishing to {repo} stopped: {error}") from error


def sign(role: Role, signed: S, signers: Sequence[CryptoSigner], options: Options) -> bytes:
    """Set the expiry of metadata, sign it with every signer, and return its bytes."""
    signed.expires = options.now().replace(microsecond=0) + timedelta(days=getattr(options.expiry, role))
    metadata = Metadata(signed)
    for signer in signers:
        metadata.sign(signer, append=True)
    return metadata.to_bytes()


def replace_keys(root: Root, role: Role, keys: Sequence[PublicKey]) -> None:
    """Let `keys` and no others sign for a role from this root on."""
    for keyid in list(root.roles[role].keyids):
        root.revoke_key(keyid, role)
    for key in keys:
        root.add_key(tuf_key(key), role)


def store_target(repo: Path, entry: TargetFile, content: bytes | Path, options: Options) -> None:
    """Write a target's file under its hash, unless a sound copy is there.

    Raises:
        TrustError: ``tuf-target-mismatch`` if the source changed while it was copied.
    """
    path = _target_file(repo, entry)
    if _sound(path, entry):
        return
    options.write(path, content)
    if not _sound(path, entry):
        raise TrustError("tuf-target-mismatch", f"{entry.path} changed while it was copied", hint="Publish it again.")


def _target_file(repo: Path, entry: TargetFile) -> Path:
    return repo / TARGETS / entry.get_prefixed_paths()[0]


def _sound(path: Path, entry: TargetFile) -> bool:
    try:
        with path.open("rb") as file:
            entry.verify_length_and_hashes(file)
    except (OSError, LengthOrHashMismatchError):
        return False
    return True
