"""The publisher's key folders: private keys by role, the trusted root, and what was published last.

KEYS/ROLE-KEYID16.pem       private keys; roles: root, targets, snapshot, timestamp
KEYS/trusted-root.json      the root from which this publisher verifies a repository before signing on top of it
KEYS/seen.json              versions published last: an older repository is not built upon

Folders may be several (a stick per person); the first holds what is written here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec
from securesystemslib.signer import CryptoSigner

from edgesdk.durable import make_folder, write_atomic, write_private
from edgesdk.errors import ConfigError, TrustError
from edgesdk.trust.keys import ENCRYPTED_MARK, PublicKey, load_signer, make_key, public_key_of, read_private

TRUSTED_ROOT = "trusted-root.json"
SEEN = "seen.json"
_SHOWN = 16  # characters of a key id in a file's name


class KeyRing:
    """Finds, makes and remembers; see the module.

    Args:
        folders: Key folders, the first one writable.
        passphrase: Of the private keys; None leaves new keys unencrypted and opens only unencrypted ones.
        write: Writes a public file atomically and durably.
    """

    def __init__(
        self,
        folders: Path | Sequence[Path],
        passphrase: str | None,
        write: Callable[[Path, bytes], None] = write_atomic,
    ) -> None:
        self._folders = [folders] if isinstance(folders, Path) else list(folders)
        if not self._folders:
            raise ConfigError("argument-invalid", "at least one key folder is needed")
        self._passphrase = passphrase
        self._write = write

    @property
    def _home(self) -> Path:
        return self._folders[0]

    def __str__(self) -> str:
        return ", ".join(str(folder) for folder in self._folders)

    def check_apart(self, repo: Path) -> None:
        """Refuse a key folder inside the repository: that folder is served to everybody.

        Raises:
            ConfigError: ``argument-invalid``.
        """
        for folder in self._folders:
            if folder.resolve().is_relative_to(repo.resolve()):
                raise ConfigError(
                    "argument-invalid",
                    f"the key folder {folder} lies in the repository, which is served to everybody",
                    hint="Choose a folder outside it with --keys.",
                )

    def create(self, role: str) -> PublicKey:
        """Make a private key for a role in the first folder."""
        make_folder(self._home, mode=0o700)
        key, pem = make_key(self._passphrase)
        write_private(self._home / _name(role, key.keyid), pem)
        return key

    def signers(self, role: str, keyids: Iterable[str], threshold: int) -> list[CryptoSigner]:
        """Load every key at hand among `keyids`.

        Raises:
            TrustError: ``key-threshold`` if fewer than `threshold` are; ``key-passphrase``, ``key-permissions``.
        """
        wanted = sorted(set(keyids))
        found = [path for keyid in wanted if (path := self._path(role, keyid)) is not None]
        if len(found) < threshold:
            raise TrustError(
                "key-threshold", f"{role} needs {threshold} of its {len(wanted)} keys; {len(found)} are in {self}"
            )
        signers = [load_signer(path, self._passphrase) for path in found]
        for path, signer in zip(found, signers, strict=True):
            if public_key_of(signer).keyid not in wanted:
                raise TrustError("key-invalid", f"{path} is not the key that its name says")
        return signers

    def trusted_root(self) -> bytes:
        """Return the pinned root metadata.

        Raises:
            ConfigError: ``file-missing``.
        """
        data = self._read(TRUSTED_ROOT)
        if data is None:
            raise ConfigError(
                "file-missing",
                f"there is no {TRUSTED_ROOT} in {self}",
                hint=f"Name the key folder that `edge repo init` made, or copy its {TRUSTED_ROOT} beside the keys.",
            )
        return data

    def has_root(self) -> bool:
        """Tell whether a root is pinned here."""
        return self._read(TRUSTED_ROOT) is not None

    def has_published(self) -> bool:
        """Tell whether a repository was published from here."""
        return bool(self._seen())

    def pin_root(self, data: bytes) -> None:
        """Trust this root from now on."""
        self._write(self._home / TRUSTED_ROOT, data)

    def check_seen(self, versions: Mapping[str, int]) -> None:
        """Refuse a repository that is older than what was published from here.

        Raises:
            TrustError: ``tuf-rollback``.
        """
        for role, seen in self._seen().items():
            if versions.get(role, 0) < seen:
                raise TrustError(
                    "tuf-rollback", f"the repository has {role} version {versions.get(role, 0)}, published was {seen}"
                )

    def remember(self, versions: Mapping[str, int]) -> None:
        """Note what is published now."""
        self._write(self._home / SEEN, msgspec.json.encode(dict(versions)))

    def _seen(self) -> dict[str, int]:
        data = self._read(SEEN)
        if data is None:
            return {}
        try:
            return msgspec.json.decode(data, type=dict[str, int])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError("config-invalid", f"{self._home / SEEN} is damaged: {error}") from error

    def _path(self, role: str, keyid: str) -> Path | None:
        paths = (folder / _name(role, keyid) for folder in self._folders)
        return next((path for path in paths if path.exists()), None)

    def _read(self, name: str) -> bytes | None:
        for folder in self._folders:
            if (folder / name).exists():
                return (folder / name).read_bytes()
        return None


def needs_passphrase(folders: Sequence[Path]) -> bool:
    """Tell whether any private key in the folders is encrypted."""
    return any(ENCRYPTED_MARK in read_private(path) for folder in folders for path in sorted(folder.glob("*-*.pem")))


def _name(role: str, keyid: str) -> str:
    return f"{role}-{keyid[:_SHOWN]}.pem"
