"""The hub's folder: everything that a hub is, and all that a backup needs.

HUB/hub.json              the fleet's name, the SHA-256 of the repository's first root
    hub.db                devices, rollouts, statements, tokens (hashed), audit log
    keys/deployment.pem   signs what devices should run (0600)
    keys/deployment.pub   its public half, for `edge repo deployment-keys`
    ca/                   the fleet's certificate authority (key 0600)
    admin.token           the first API token (0600)
    broker/, tls/         made anew at each start
    run.json              where the running hub listens
"""

from __future__ import annotations

import fcntl
import os
import shutil
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from securesystemslib.signer import CryptoSigner

from edgesdk.canonical import sha256_hex
from edgesdk.durable import make_folder, write_atomic, write_private
from edgesdk.errors import ConfigError, DeploymentError
from edgesdk.protocol.messages import FleetId
from edgesdk.trust.ca import Authority, init_ca, load_ca
from edgesdk.trust.keys import Hex32, PublicKey, generate_key, load_signer
from edgesdk.trust.mapping import tuf_errors
from edgesdk.trust.metadata import load_root
from edgesdk.trust.repository import first_root

HUB_SCHEMA = "edge.hub/1"
T = TypeVar("T")


class HubSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`hub.json`; `root_sha256` is pinned by `edge hub init --repo` or the first start."""

    schema: str
    fleet: FleetId
    root_sha256: Hex32 | None = None


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """`run.json`, also what `edge hub start --json` prints: where the hub listens.

    `url` and `repository` are for devices and operators; `ca` is the certificate to trust, None without TLS.
    """

    url: str
    broker: str
    repository: str
    pid: int
    fleet: str
    broker_kind: str
    ca: str | None = None


class HubFolder:
    """One hub's folder.

    Args:
        path: Made by `HubFolder.create`.

    Raises:
        ConfigError: ``file-missing`` if it is no hub's folder, ``config-invalid`` if ``hub.json`` is wrong.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        if not (path / "hub.json").is_file():
            raise ConfigError("file-missing", f"{path} is no hub's folder", hint="Make one with `edge hub init`.")
        self.settings = _read(path / "hub.json", HubSettings)
        if self.settings.schema != HUB_SCHEMA:
            raise ConfigError("config-invalid", f"expected schema {HUB_SCHEMA} in {path}, got {self.settings.schema}")

    @classmethod
    def create(cls, path: Path, *, fleet: str, passphrase: str | None = None, repo: Path | None = None) -> HubFolder:
        """Make a new hub: authority, deployment key, database, first token. It is there whole or not at all.

        Args:
            path: Must not exist, or be an empty folder.
            fleet: Its name, ``[a-z0-9-]{1,64}``.
            passphrase: Encrypts the deployment key and the authority's; None leaves them to the file's mode.
            repo: The repository whose first root is pinned; None leaves that to the first start.

        Raises:
            ConfigError: ``file-exists``, ``argument-invalid`` for the name, and what `pin_root` raises.
        """
        from edgesdk.fleet.access import create_api_token  # noqa: PLC0415 - `edge fleet --dir` needs no database
        from edgesdk.fleet.registry import Registry  # noqa: PLC0415

        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise ConfigError("file-exists", f"{path} exists and is not empty")
        try:
            settings = msgspec.convert({"schema": HUB_SCHEMA, "fleet": fleet}, HubSettings)
        except msgspec.ValidationError as error:
            raise ConfigError("argument-invalid", f"a fleet's name is [a-z0-9-]{{1,64}}, got {fleet!r}") from error
        if repo is not None:
            settings = msgspec.structs.replace(settings, root_sha256=_sound_root(repo))
        building = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            make_folder(building, mode=0o700)
            init_ca(building / "ca", passphrase=passphrase, name=f"edgesdk fleet {fleet}"[:64])
            public = generate_key(building / "keys" / "deployment.pem", passphrase)
            write_atomic(building / "keys" / "deployment.pub", msgspec.json.encode(public) + b"\n")
            registry = Registry(building / "hub.db")
            _, token = create_api_token(registry, "admin", "admin", actor="edge hub init")
            registry.close()
            write_private(building / "admin.token", token.encode() + b"\n")
            write_atomic(building / "hub.json", msgspec.json.encode(settings) + b"\n")
            building.replace(path)
        except BaseException:
            shutil.rmtree(building, ignore_errors=True)
            raise
        return cls(path)

    def pin_root(self, repo: Path) -> str:
        """Return the SHA-256 of the first root that this hub trusts; the first call pins the one that `repo` has.

        Raises:
            TrustError: ``tuf-metadata`` or ``signature-invalid`` if what would be pinned is no sound root.
            ConfigError: ``file-missing`` if there is no repository.
        """
        if self.settings.root_sha256 is None:
            self.settings = msgspec.structs.replace(self.settings, root_sha256=_sound_root(repo))
            write_atomic(self.path / "hub.json", msgspec.json.encode(self.settings) + b"\n")
        return self.settings.root_sha256 or ""

    @property
    def deployment_public(self) -> PublicKey:
        """The public half of the deployment key."""
        return _read(self.path / "keys" / "deployment.pub", PublicKey)

    def signer(self, passphrase: str | None) -> CryptoSigner:
        """Load the deployment key."""
        return load_signer(self.path / "keys" / "deployment.pem", passphrase)

    def authority(self, passphrase: str | None) -> Authority:
        """Load the fleet's certificate authority."""
        return load_ca(self.path / "ca", passphrase=passphrase)

    def admin_token(self) -> str:
        """Return the first API token.

        Raises:
            ConfigError: ``file-missing``.
        """
        try:
            return (self.path / "admin.token").read_text().strip()
        except OSError as error:
            raise ConfigError(
                "file-missing", f"{self.path / 'admin.token'} cannot be read: {error.strerror}"
            ) from error

    def lock(self) -> int:
        """Take the folder for this process; returns the descriptor that holds it.

        Raises:
            DeploymentError: ``hub-running`` if another hub has it.
        """
        descriptor = os.open(self.path / "hub.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise DeploymentError("hub-running", f"a hub runs on {self.path} already") from None
        return descriptor

    def write_running(self, running: Running) -> None:
        """Say where the hub listens."""
        write_atomic(self.path / "run.json", msgspec.json.encode(running) + b"\n")

    def running(self) -> Running | None:
        """Return where the hub listens, or listened last; None if it never started."""
        path = self.path / "run.json"
        return _read(path, Running) if path.is_file() else None


def _sound_root(repo: Path) -> str:
    root = first_root(repo)
    with tuf_errors(f"the first root of {repo}"):
        load_root(root)
    return sha256_hex(root)


def _read(path: Path, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError("config-invalid", f"{path} cannot be used: {error}") from error


def to_json(running: Running) -> dict[str, Any]:
    """Return what `edge hub start --json` prints."""
    found: dict[str, Any] = msgspec.to_builtins(running)
    return found
