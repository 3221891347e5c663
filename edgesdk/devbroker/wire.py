"""The primitives of MQTT on the wire: integers, strings, properties, reason codes (MQTT 5.0, 1.5, 2.2 and 2.4)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any, Literal, NamedTuple

MAX_VARINT = 268_435_455
_VARINT_BYTES = 4


class Reason(IntEnum):
    """The reason codes that the dev broker sends or understands (MQTT 5.0, section 2.4)."""

    SUCCESS = 0x00
    GRANTED_QOS_1 = 0x01
    GRANTED_QOS_2 = 0x02
    DISCONNECT_WITH_WILL = 0x04
    NO_MATCHING_SUBSCRIBERS = 0x10
    NO_SUBSCRIPTION_EXISTED = 0x11
    UNSPECIFIED = 0x80
    MALFORMED_PACKET = 0x81
    PROTOCOL_ERROR = 0x82
    IMPLEMENTATION_SPECIFIC = 0x83
    UNSUPPORTED_PROTOCOL_VERSION = 0x84
    CLIENT_ID_NOT_VALID = 0x85
    BAD_USERNAME_OR_PASSWORD = 0x86
    NOT_AUTHORIZED = 0x87
    SERVER_UNAVAILABLE = 0x88
    SERVER_SHUTTING_DOWN = 0x8B
    BAD_AUTHENTICATION_METHOD = 0x8C
    KEEP_ALIVE_TIMEOUT = 0x8D
    SESSION_TAKEN_OVER = 0x8E
    TOPIC_FILTER_INVALID = 0x8F
    TOPIC_NAME_INVALID = 0x90
    RECEIVE_MAXIMUM_EXCEEDED = 0x93
    TOPIC_ALIAS_INVALID = 0x94
    PACKET_TOO_LARGE = 0x95
    QUOTA_EXCEEDED = 0x97
    QOS_NOT_SUPPORTED = 0x9B
    SUBSCRIPTION_IDS_NOT_SUPPORTED = 0xA1


class PacketError(Exception):
    """A peer broke the protocol; the broker answers with `reason` and closes. It never leaves the dev broker.

    Args:
        reason: What MQTT calls it.
        message: What was wrong, for the log and the reason string.
    """

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message


def malformed(message: str) -> PacketError:
    """Return the error for bytes that no correct peer sends."""
    return PacketError(Reason.MALFORMED_PACKET, message)


class Reader:
    """Reads primitives off one packet's body; running past the end is a `PacketError`, never an IndexError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes not yet read."""
        return len(self._data) - self._at

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes."""
        if count > self.left:
            raise malformed(f"expected {count} more bytes, got {self.left}")
        start = self._at
        self._at += count
        return self._data[start : self._at]

    def rest(self) -> bytes:
        """Return everything that is left."""
        return self.take(self.left)

    def integer(self, width: int) -> int:
        """Return a big-endian unsigned integer of `width` bytes."""
        return int.from_bytes(self.take(width), "big")

    def varint(self) -> int:
        """Return a variable byte integer in its shortest form."""
        value = 0
        for position in range(_VARINT_BYTES):
            byte = self.integer(1)
            value |= (byte & 0x7F) << (7 * position)
            if not byte & 0x80:
                if position and not byte:
                    raise malformed("a variable byte integer is longer than needed")
                return value
        raise malformed("a variable byte integer is longer than four bytes")

    def binary(self) -> bytes:
        """Return length-prefixed bytes."""
        return self.take(self.integer(2))

    def text(self) -> str:
        """Return a length-prefixed UTF-8 string without U+0000."""
        try:
            value = self.binary().decode()
        except UnicodeDecodeError as error:
            raise malformed("a string is not UTF-8") from error
        if "\0" in value:
            raise malformed("a string holds U+0000")
        return value

    def finish(self) -> None:
        """Require that everything was read."""
        if self.left:
            raise malformed(f"{self.left} bytes follow the end of the packet")


def varint(value: int) -> bytes:
    """Encode a variable byte integer."""
    out = bytearray()
    while True:
        value, low = divmod(value, 128)
        out.append(low | (0x80 if value else 0))
        if not value:
            return bytes(out)


def binary(value: bytes) -> bytes:
    """Encode length-prefixed bytes, at most 65,535."""
    return len(value).to_bytes(2, "big") + value


def text(value: str) -> bytes:
    """Encode a length-prefixed string."""
    return binary(value.encode())


Kind = Literal[
    "connect", "will", "connack", "publish", "puback", "subscribe", "suback", "unsubscribe", "unsuback",
    "disconnect", "auth",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Properties:
    """The properties of one packet; None (or an empty tuple) is absent. Names follow section 2.2.2.2."""

    payload_format: int | None = None
    message_expiry: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation_data: bytes | None = None
    subscription_ids: tuple[int, ...] = ()
    session_expiry: int | None = None
    assigned_client_id: str | None = None
    server_keep_alive: int | None = None
    auth_method: str | None = None
    auth_data: bytes | None = None
    request_problem_info: int | None = None
    will_delay: int | None = None
    request_response_info: int | None = None
    response_info: str | None = None
    server_reference: str | None = None
    reason_string: str | None = None
    receive_maximum: int | None = None
    topic_alias_maximum: int | None = None
    topic_alias: int | None = None
    maximum_qos: int | None = None
    retain_available: int | None = None
    user: tuple[tuple[str, str], ...] = ()
    maximum_packet_size: int | None = None
    wildcard_available: int | None = None
    subscription_ids_available: int | None = None
    shared_available: int | None = None


class _Spec(NamedTuple):
    identifier: int
    form: Literal["byte", "u16", "u32", "varint", "text", "binary", "pair"]
    kinds: frozenset[str]


def _spec(identifier: int, form: Any, kinds: str) -> _Spec:
    return _Spec(identifier, form, frozenset(kinds.split()))


_ACKS = "connack puback suback unsuback disconnect auth"
SPECS: dict[str, _Spec] = {
    "payload_format": _spec(1, "byte", "publish will"),
    "message_expiry": _spec(2, "u32", "publish will"),
    "content_type": _spec(3, "text", "publish will"),
    "response_topic": _spec(8, "text", "publish will"),
    "correlation_data": _spec(9, "binary", "publish will"),
    "subscription_ids": _spec(11, "varint", "publish subscribe"),
    "session_expiry": _spec(17, "u32", "connect connack disconnect"),
    "assigned_client_id": _spec(18, "text", "connack"),
    "server_keep_alive": _spec(19, "u16", "connack"),
    "auth_method": _spec(21, "text", "connect connack auth"),
    "auth_data": _spec(22, "binary", "connect connack auth"),
    "request_problem_info": _spec(23, "byte", "connect"),
    "will_delay": _spec(24, "u32", "will"),
    "request_response_info": _spec(25, "byte", "connect"),
    "response_info": _spec(26, "text", "connack"),
    "server_reference": _spec(28, "text", "connack disconnect"),
    "reason_string": _spec(31, "text", _ACKS),
    "receive_maximum": _spec(33, "u16", "connect connack"),
    "topic_alias_maximum": _spec(34, "u16", "connect connack"),
    "topic_alias": _spec(35, "u16", "publish"),
    "maximum_qos": _spec(36, "byte", "connack"),
    "retain_available": _spec(37, "byte", "connack"),
    "user": _spec(38, "pair", "connect will publish subscribe unsubscribe " + _ACKS),
    "maximum_packet_size": _spec(39, "u32", "connect connack"),
    "wildcard_available": _spec(40, "byte", "connack"),
    "subscription_ids_available": _spec(41, "byte", "connack"),
    "shared_available": _spec(42, "byte", "connack"),
}
_BY_IDENTIFIER = {spec.identifier: name for name, spec in SPECS.items()}
_REPEATED = frozenset({"user", "subscription_ids"})
_NOT_ZERO = frozenset({"receive_maximum", "maximum_packet_size", "topic_alias", "subscription_ids"})
_WIDTH = {"byte": 1, "u16": 2, "u32": 4}
assert set(SPECS) == {field.name for field in fields(Properties)}


def read_properties(reader: Reader, kind: Kind) -> Properties:
    """Read the property section of a packet of this kind.

    Raises:
        PacketError: A property is unknown, repeated, out of range, or not allowed in this packet.
    """
    section = Reader(reader.take(reader.varint()))
    values: dict[str, Any] = {}
    while section.left:
        identifier = section.varint()
        name = _BY_IDENTIFIER.get(identifier)
        if name is None or kind not in SPECS[name].kinds:
            raise malformed(f"property {identifier} does not belong in {kind}")
        value = _read_value(section, SPECS[name].form)
        if value == 0 and name in _NOT_ZERO:
            raise PacketError(Reason.PROTOCOL_ERROR, f"property {name} must not be 0")
        if name in _REPEATED:
            values[name] = (*values.get(name, ()), value)
        elif name in values:
            raise PacketError(Reason.PROTOCOL_ERROR, f"property {name} is given twice")
        else:
            values[name] = value
    return Properties(**values)


def _read_value(reader: Reader, form: str) -> Any:
    match form:
        case "text":
            return reader.text()
        case "binary":
            return reader.binary()
        case "pair":
            return (reader.text(), reader.text())
        case "varint":
            return reader.varint()
        case _:
            return reader.integer(_WIDTH[form])


def write_properties(properties: Properties) -> bytes:
    """Encode a property section, its length in front."""
    out = bytearray()
    for name, spec in SPECS.items():
        value = getattr(properties, name)
        for item in value if name in _REPEATED else () if value is None else (value,):
            out += varint(spec.identifier) + _write_value(item, spec.form)
    return varint(len(out)) + bytes(out)


def _write_value(value: Any, form: str) -> bytes:
    match form:
        case "text":
            return text(value)
        case "binary":
            return binary(value)
        case "pair":
            return text(value[0]) + text(value[1])
        case "varint":
            return varint(value)
        case _:
            return int(value).to_bytes(_WIDTH[form], "big")
