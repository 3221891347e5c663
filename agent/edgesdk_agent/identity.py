"""Who this device is: `state/device.json`, written once by enrolment."""

from __future__ import annotations

from pathlib import Path

import msgspec

from edgesdk.errors import DeploymentError
from edgesdk.protocol.messages import DeviceId, FleetId
from edgesdk_agent.paths import Paths

IDENTITY_SCHEMA = "edge.device/1"
STATEMENT_KEY = "statement.pem"
TLS_KEY = "tls.pem"
CERTIFICATE = "device.pem"
CA = "ca.pem"
TRUSTED_ROOT = "root.json"
MOVED_KEYS = (TLS_KEY, STATEMENT_KEY, CERTIFICATE)
"""What a rotation changes. The certificate last: while it lies among the new keys, the rotation is to be finished."""


class Identity(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What enrolment gave. Nothing here is secret; the keys lie beside it in `keys/`.

    Attributes:
        enrolment: Id of this enrolment; statements name it, a new enrolment resets their counter.
        broker: For example ``mqtts://hub.example:8883``; ``mqtt://127.0.0.1:1883`` for the loopback dev broker.
        repository: Base address of the TUF repository.
        name: The hint that a person gave.
        enrolled_at: RFC 3339, by this device's clock (not trusted).
    """

    schema: str
    device: DeviceId
    fleet: FleetId
    enrolment: str
    hub: str
    broker: str
    repository: str
    name: str = ""
    enrolled_at: str = ""


def load_identity(paths: Paths) -> Identity:
    """Read the identity.

    Raises:
        DeploymentError: ``not-enrolled``, or ``store-corrupt`` if the file does not hold an identity.
    """
    try:
        found = msgspec.json.decode(paths.device.read_bytes(), type=Identity)
    except (FileNotFoundError, NotADirectoryError):
        raise DeploymentError(
            "not-enrolled",
            f"there is no identity in {paths.root}",
            hint=f"Run `edge-agent enroll TOKEN --root {paths.root}`, or name the folder it was enrolled in.",
        ) from None
    except PermissionError as error:
        raise DeploymentError(
            "store-corrupt",
            f"{paths.device} may not be read by this user",
            hint="Run it as root, or as the user that runs the agent.",
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DeploymentError("store-corrupt", f"{paths.device} does not hold an identity: {error}") from error
    if found.schema != IDENTITY_SCHEMA:
        raise DeploymentError("store-corrupt", f"{paths.device} has schema {found.schema!r}, not {IDENTITY_SCHEMA!r}")
    return found


def trusted_root(paths: Paths) -> Path:
    """Return the path of the TUF root of enrolment."""
    return paths.keys / TRUSTED_ROOT
