"""MQTT's control packets as values (MQTT 5.0, chapter 3; 3.1.1 uses the same without properties)."""

from __future__ import annotations

from dataclasses import dataclass

from edgesdk.devbroker.wire import Properties, Reason

NONE = Properties()
MQTT_311 = 4
MQTT_5 = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Will:
    """What the broker publishes for a client that vanished."""

    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    properties: Properties = NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Connect:
    """A client's first packet; `keep_alive` in seconds, 0 is none."""

    client_id: str
    version: int = MQTT_5
    clean_start: bool = True
    keep_alive: int = 0
    username: str | None = None
    password: bytes | None = None
    will: Will | None = None
    properties: Properties = NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Connack:
    """The broker's answer to Connect."""

    session_present: bool = False
    reason: Reason = Reason.SUCCESS
    properties: Properties = NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Publish:
    """One message on its way; `packet_id` is 0 exactly when `qos` is 0."""

    topic: str
    payload: bytes = b""
    qos: int = 0
    retain: bool = False
    dup: bool = False
    packet_id: int = 0
    properties: Properties = NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Puback:
    """The answer to a Publish with QoS 1."""

    packet_id: int
    reason: Reason = Reason.SUCCESS
    properties: Properties = NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """One line of a Subscribe; `retain_handling`: 0 send retained, 1 only to a new subscription, 2 never."""

    topic_filter: str
    qos: int = 0
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscribe:
    """A client asks for topics."""

    packet_id: int
    filters: tuple[Filter, ...]
    properties: Properties = NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Suback:
    """The broker's answer, one reason for each filter."""

    packet_id: int
    reasons: tuple[Reason, ...]
    properties: Properties = NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsubscribe:
    """A client gives topics up."""

    packet_id: int
    filters: tuple[str, ...]
    properties: Properties = NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsuback:
    """The broker's answer; MQTT 3.1.1 carries no reasons."""

    packet_id: int
    reasons: tuple[Reason, ...] = ()
    properties: Properties = NONE


@dataclass(frozen=True, slots=True)
class Pingreq:
    """A client says that it lives."""


@dataclass(frozen=True, slots=True)
class Pingresp:
    """So does the broker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Disconnect:
    """Either side leaves and says why."""

    reason: Reason = Reason.SUCCESS
    properties: Properties = NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Auth:
    """Enhanced authentication, which the dev broker does not have."""

    reason: int = 0
    properties: Properties = NONE


Packet = (
    Connect | Connack | Publish | Puback | Subscribe | Suback | Unsubscribe | Unsuback | Pingreq | Pingresp
    | Disconnect | Auth
)  # fmt: skip
