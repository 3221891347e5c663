"""The Mosquitto configuration that ships: mutual TLS, three roles, nothing lost at a restart (pure).

Mosquitto knows a client by its certificate only: `use_identity_as_username` makes the certificate's CN the user name,
and `use_username_as_clientid` makes it the client id too; without the second, dev1's certificate may connect as dev2.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from edgesdk.errors import ConfigError
from edgesdk.protocol.topics import ALL, MAX_PAYLOAD, ROOT

MAX_PACKET = MAX_PAYLOAD + 4096
"""Bytes of a whole packet; clients of MQTT 5 are told and do not try more."""
WINDOW = 100
MAX_QUEUED = 100_000
"""Messages kept for one absent client. Mosquitto drops the newest beyond, and says Success: so, many."""

_IDENTITY = re.compile(r"(hub|subscriber)(\.[A-Za-z0-9_-]{1,64})?")


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerTLS:
    """Files for the broker's side of mutual TLS; `ca` is the fleet's authority, whose devices may connect."""

    ca: Path
    cert: Path
    key: Path
    crl: Path | None = None


def render_conf(
    *,
    port: int,
    listen: str,
    state_dir: Path,
    acl_file: Path,
    tls: BrokerTLS | None,
    user: str | None = None,
    autosave_changes: int = 1,
) -> str:
    """Render `mosquitto.conf`.

    Args:
        port: TCP port.
        listen: Address to listen on.
        state_dir: Existing folder for retained messages and queues.
        acl_file: Where `render_acl` was written.
        tls: Files for mutual TLS; None asks nobody who they are and is for loopback only.
        user: User to run as; None leaves it to Mosquitto, which as root becomes the user ``mosquitto``.
        autosave_changes: Changes after which the state is written to disk; with 1 a kill -9 loses what was
            acknowledged in the last pass of Mosquitto's loop at most. The whole file is rewritten each time, so a
            large fleet takes more.

    Raises:
        ConfigError: ``config-invalid`` when a value holds a line break.
    """
    lines = [
        ("listener", f"{port} {listen}"),
        *_access(tls),
        ("acl_file", acl_file),
        # one window for both directions, announced as Receive Maximum
        ("max_inflight_messages", WINDOW),
        ("max_queued_messages", MAX_QUEUED),
        ("message_size_limit", MAX_PAYLOAD),
        ("max_packet_size", MAX_PACKET),
        ("persistence", "true"),
        ("persistence_location", f"{state_dir}/"),
        ("autosave_on_changes", "true"),
        ("autosave_interval", autosave_changes),
        ("persistent_client_expiration", "2m"),
        ("retain_available", "true"),
        ("set_tcp_nodelay", "true"),
        ("log_dest", "stderr"),
        ("log_type", "error"),
        ("log_type", "warning"),
        ("log_type", "notice"),
        ("log_type", "information"),
    ]
    if user is not None:
        lines.append(("user", user))
    return "".join(_line(key, value) for key, value in lines)


def _access(tls: BrokerTLS | None) -> list[tuple[str, object]]:
    if tls is None:
        return [("allow_anonymous", "true")]
    lines: list[tuple[str, object]] = [
        ("cafile", tls.ca),
        ("certfile", tls.cert),
        ("keyfile", tls.key),
        ("tls_version", "tlsv1.2"),
        ("require_certificate", "true"),
        ("use_identity_as_username", "true"),
        ("use_username_as_clientid", "true"),
        ("allow_anonymous", "false"),
    ]
    if tls.crl is not None:
        lines.append(("crlfile", tls.crl))
    return lines


def _line(key: str, value: object) -> str:
    text = str(value)
    if not text.isprintable():
        raise ConfigError("config-invalid", f"{key} holds a line break or control character: {text!r}")
    return f"{key} {text}\n"


def render_acl(*, hubs: tuple[str, ...] = ("hub",), subscribers: tuple[str, ...] = ("subscriber",)) -> str:
    """Render the access list: devices by pattern, hubs and subscribers by name.

    Several processes of one role need several names (a name is a client id, and one id has one connection):
    ``hub.a``, ``subscriber.dashboard``. A device id holds no dot; ``hub`` and ``subscriber`` are reserved ids.

    Args:
        hubs: Names (CN of the certificate) that write `down` and read `up`.
        subscribers: Names that read telemetry and events.

    Raises:
        ConfigError: ``config-invalid`` when a name is not of its role's form.
    """
    devices = (
        "# every device: its own topics, and what is said to all",
        f"pattern write {ROOT}/+/%c/up/#",
        f"pattern read {ROOT}/+/%c/down/#",
        f"pattern read {ROOT}/+/{ALL}/down/#",
        "",
    )
    blocks = ["\n".join(devices)]
    blocks += [_block(name, "hub", (f"topic write {ROOT}/+/+/down/#", f"topic read {ROOT}/+/+/up/#")) for name in hubs]
    blocks += [
        _block(
            name,
            "subscriber",
            (
                f"topic deny {ROOT}/+/{ALL}/#",
                f"topic read {ROOT}/+/+/up/telemetry",
                f"topic read {ROOT}/+/+/up/event",
            ),
        )
        for name in subscribers
    ]
    return "\n".join(blocks)


def _block(name: str, role: str, lines: tuple[str, ...]) -> str:
    match = _IDENTITY.fullmatch(name)
    if match is None or match[1] != role:
        raise ConfigError("config-invalid", f"expected {role!r} or '{role}.NAME' as a {role}'s name, got {name!r}")
    # the patterns above hold for everybody: a role is no device
    return "\n".join((f"user {name}", f"topic deny {ROOT}/+/{name}/#", *lines, ""))
