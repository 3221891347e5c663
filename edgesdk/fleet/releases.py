"""What the hub knows of the repository: releases, metadata versions, deployment keys; read from its folder, verified.

Devices verify for themselves. The hub checks the same signatures, from the same pinned root, so that it never asks for
what they would refuse.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import TargetFile

from edgesdk.bundle.manifest import DEPLOYMENT_KEYS_TARGET, ReleaseIndex, release_target
from edgesdk.canonical import sha256_hex
from edgesdk.clock import Clock, SystemClock, rfc3339
from edgesdk.errors import ConfigError, TrustError
from edgesdk.protocol.messages import MinTuf
from edgesdk.trust.deployment import decode_deployment_keys
from edgesdk.trust.metadata import METADATA, ROLES, Current, Role, load_current, root_path
from edgesdk.trust.repository import first_root

RELEASE = re.compile(r"models/([^/]+)/([^/]+)/release\.json")
MAX_TARGET = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Published:
    """One release that the repository lists."""

    model: str
    release: str


class RepositoryView:
    """A TUF repository's folder, as `edge repo` writes it, believed only as far as it follows from the pinned root.

    Args:
        folder: Holds ``metadata/`` and ``targets/``.
        root_sha256: SHA-256 of the first root, which the hub's folder and every device's token pin.
        clock: Judges expiry.
    """

    def __init__(self, folder: Path, *, root_sha256: str, clock: Clock | None = None) -> None:
        self.folder = folder
        self.root_sha256 = root_sha256
        self._clock = clock or SystemClock()
        self._cached: tuple[bytes, Current] | None = None

    def root_bytes(self) -> bytes:
        """Return the first root, which devices pin.

        Raises:
            TrustError: ``repository-swapped`` if it is not the pinned one.
            ConfigError: ``file-missing`` if there is none.
        """
        data = first_root(self.folder)
        if (found := sha256_hex(data)) != self.root_sha256:
            raise TrustError(
                "repository-swapped",
                f"the first root of {self.folder} has SHA-256 {found[:12]}…, pinned is {self.root_sha256[:12]}…",
            )
        return data

    def versions(self) -> MinTuf:
        """Return the versions that a device must at least see."""
        trusted = self._load()
        return MinTuf(root=trusted.root.version, timestamp=trusted.timestamp.version)

    def expires(self) -> dict[Role, datetime]:
        """Return when each role's metadata expires; it may have done so already."""
        current = self.current()
        return {role: getattr(current, role).expires for role in ROLES}

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
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
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

    def _load(self) -> Current:
        """Return verified metadata that has not expired.

        Raises:
            TrustError: ``repository-swapped``, ``tuf-expired`` and what `load_current` raises.
            ConfigError: ``file-missing``.
        """
        current = self.current()
        for role in ROLES:
            signed = getattr(current, role)
            if signed.is_expired(self._clock.now()):
                raise TrustError("tuf-expired", f"the repository's {role} expired at {rfc3339(signed.expires)}")
        return current

    def current(self) -> Current:
        """Return verified metadata, whatever its age; verified again only when the time stamp or the root has changed.

        Raises:
            TrustError: ``repository-swapped`` and what `load_current` raises.
            ConfigError: ``file-missing``.
        """
        timestamp = self._timestamp()
        if self._cached is not None:
            seen, current = self._cached
            if seen == timestamp and not root_path(self.folder, current.root.version + 1).exists():
                return current
        self._cached = (timestamp, load_current(self.folder, self.root_bytes()))
        return self._cached[1]

    def _timestamp(self) -> bytes:
        try:
            return (self.folder / METADATA / "timestamp.json").read_bytes()
        except OSError as error:
            raise ConfigError(
                "file-missing",
                f"{self.folder} is no repository: metadata/timestamp.json cannot be read ({error.strerror})",
                hint="Make one with `edge repo init`, or correct --repo.",
            ) from error
