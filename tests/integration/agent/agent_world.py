"""A repository served over HTTP, a deployment key, and a device that pins the first root."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import msgspec
from edgesdk_agent.workers import trust
from edgesdk_agent.workers.messages import (
    Repository,
    VerifiedCommand,
    VerifiedDesired,
    VerifyCommand,
    VerifyDesired,
)

from edgesdk.bundle.archive import BundleFile
from edgesdk.clock import rfc3339
from edgesdk.protocol.messages import DESIRED_TYPE, Command, Desired, DesiredModel, MinTuf
from edgesdk.trust.dsse import sign_document
from edgesdk.trust.keys import load_signer

NOW = datetime.now(UTC).replace(microsecond=0)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


@dataclass
class World:
    """A repository served over HTTP, a deployment key, and a device that pins the first root."""

    folder: Path
    url: str
    bundle: BundleFile

    @property
    def repo(self) -> Path:
        return self.folder / "repo"

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    def signer(self, name: str = "deployment") -> Any:
        return load_signer(self.folder / f"{name}.pem")

    def repository(self, now: datetime = NOW) -> Repository:
        return Repository(
            url=self.url, tuf_dir=str(self.folder / "tuf"), root=str(self.folder / "root.json"), now=rfc3339(now)
        )

    def desired(self, serial: int = 10, **changes: Any) -> Desired:
        base = Desired(
            fleet="lab",
            device="dev-1",
            serial=serial,
            issued_at=rfc3339(NOW),
            min_tuf=MinTuf(root=1, timestamp=1),
            models={"tiny": DesiredModel(release="1.0.0", deployment="d-1")},
        )
        return msgspec.structs.replace(base, **changes)

    def verify(
        self, envelope: dict[str, Any], now: datetime = NOW, accepted: VerifiedDesired | None = None
    ) -> VerifiedDesired:
        return trust.verify_desired(
            VerifyDesired(
                envelope=envelope,
                repository=self.repository(now),
                device="dev-1",
                fleet="lab",
                serial_floor=accepted.desired.serial if accepted else 0,
                accepted_sha256=accepted.payload_sha256 if accepted else None,
                keys_epoch=accepted.keys_epoch if accepted else None,
                time_floor=accepted.time_floor if accepted else "",
            )
        )

    def sign(self, document: msgspec.Struct, kind: str = DESIRED_TYPE, key: str = "deployment") -> dict[str, Any]:
        return sign_document(kind, document, self.signer(key))


class TrustInProcess:
    """The trust worker without its process: the same verification, counted."""

    def __init__(self) -> None:
        self.desired = 0
        self.commands = 0

    def verify_desired(self, request: VerifyDesired) -> VerifiedDesired:
        self.desired += 1
        return trust.verify_desired(request)

    def verify_command(self, request: VerifyCommand) -> VerifiedCommand:
        self.commands += 1
        return trust.verify_command(request)


def command(**changes: Any) -> Command:
    """A command for `dev-1` in run `run-1`, changed as told."""
    fields: dict[str, Any] = {
        "fleet": "lab",
        "device": "dev-1",
        "id": "command-1",
        "name": "ping",
        "issued_at": rfc3339(NOW),
        "expires_at": rfc3339(NOW + timedelta(hours=1)),
        "run": "run-1",
    }
    return Command(**{**fields, **changes})
