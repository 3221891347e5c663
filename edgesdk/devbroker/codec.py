"""MQTT packets to bytes and back, incrementally and within limits; pure (MQTT 5.0 chapter 3, and 3.1.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from edgesdk.devbroker import wire
from edgesdk.devbroker.packets import (
    MQTT_5,
    MQTT_311,
    NONE,
    Auth,
    Connack,
    Connect,
    Disconnect,
    Filter,
    Packet,
    Pingreq,
    Pingresp,
    Puback,
    Publish,
    Suback,
    Subscribe,
    Unsuback,
    Unsubscribe,
    Will,
)
from edgesdk.devbroker.topics import valid_topic
from edgesdk.devbroker.wire import PacketError, Reader, Reason, malformed, read_properties, write_properties

DEFAULT_MAX_PACKET = 128 * 1024 + 4096
"""Bytes of a whole packet: a payload of 128 KiB and room for topic and properties."""

_TYPES: dict[type[Packet], int] = {
    Connect: 1, Connack: 2, Publish: 3, Puback: 4, Subscribe: 8, Suback: 9, Unsubscribe: 10, Unsuback: 11,
    Pingreq: 12, Pingresp: 13, Disconnect: 14, Auth: 15,
}  # fmt: skip
_PUBLISH = 3
_QOS_2_ONLY = {5: "PUBREC", 6: "PUBREL", 7: "PUBCOMP"}
_RESERVED_FLAGS = {8: 2, 10: 2}
_CONNACK_311 = {
    Reason.SUCCESS: 0, Reason.UNSUPPORTED_PROTOCOL_VERSION: 1, Reason.CLIENT_ID_NOT_VALID: 2,
    Reason.SERVER_UNAVAILABLE: 3, Reason.BAD_USERNAME_OR_PASSWORD: 4, Reason.NOT_AUTHORIZED: 5,
}  # fmt: skip
_CONNACK_FROM_311 = {code: reason for reason, code in _CONNACK_311.items()}


class Decoder:
    """Cuts a byte stream into packets; a Connect sets the version for what follows.

    Args:
        max_packet: Limit of one packet in bytes, its header included.
        version: 5 or 4 (MQTT 3.1.1): what a client expects from its broker.
    """

    def __init__(self, *, max_packet: int = DEFAULT_MAX_PACKET, version: int = MQTT_5) -> None:
        self.version = version
        self._max_packet = max_packet
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Take bytes in and yield each packet that is complete.

        Raises:
            PacketError: The stream is malformed or a packet exceeds the limit; the decoder is of no use afterwards.
        """
        self._buffer += data
        while (cut := self._cut()) is not None:
            first, body = cut
            packet = decode(first, body, self.version)
            if isinstance(packet, Connect):
                self.version = packet.version
            yield packet

    def _cut(self) -> tuple[int, bytes] | None:
        """Return the first byte and the body of the next complete packet, or None."""
        length = 0
        for position in range(1, 5):
            if position >= len(self._buffer):
                return None
            byte = self._buffer[position]
            length |= (byte & 0x7F) << (7 * (position - 1))
            if not byte & 0x80:
                break
        else:
            raise malformed("the remaining length is longer than four bytes")
        end = position + 1 + length
        if end > self._max_packet:
            raise PacketError(Reason.PACKET_TOO_LARGE, f"expected at most {self._max_packet} bytes, got {end}")
        if len(self._buffer) < end:
            return None
        first, body = self._buffer[0], bytes(self._buffer[position + 1 : end])
        del self._buffer[:end]
        return first, body


def decode(first: int, body: bytes, version: int) -> Packet:
    """Decode one packet from its first byte and its body.

    Raises:
        PacketError: It is malformed, or belongs to QoS 2.
    """
    kind, flags = first >> 4, first & 0x0F
    if kind in _QOS_2_ONLY:
        raise PacketError(Reason.PROTOCOL_ERROR, f"{_QOS_2_ONLY[kind]} belongs to QoS 2, which is not supported")
    if kind != _PUBLISH and flags != _RESERVED_FLAGS.get(kind, 0):
        raise malformed(f"packet type {kind} has reserved flags {flags:#x}")
    read = _READERS.get(kind)
    if read is None:
        raise malformed(f"packet type {kind} does not exist")
    reader = Reader(body)
    packet = read(reader, flags, version)
    reader.finish()
    return packet


def _reason(code: int) -> Reason:
    try:
        return Reason(code)
    except ValueError:
        return Reason.UNSPECIFIED


def _properties(reader: Reader, kind: wire.Kind, version: int) -> wire.Properties:
    return read_properties(reader, kind) if version == MQTT_5 else NONE


def _packet_id(reader: Reader) -> int:
    packet_id = reader.integer(2)
    if not packet_id:
        raise malformed("packet identifier 0")
    return packet_id


def _connect(reader: Reader, _flags: int, _version: int) -> Connect:
    name, version = reader.text(), reader.integer(1)
    if (name, version) not in {("MQTT", MQTT_311), ("MQTT", MQTT_5)}:
        raise PacketError(Reason.UNSUPPORTED_PROTOCOL_VERSION, f"expected MQTT 4 or 5, got {name!r} {version}")
    flags, keep_alive = reader.integer(1), reader.integer(2)
    has_user, has_password, will_retain, will_qos = flags >> 7 & 1, flags >> 6 & 1, flags >> 5 & 1, flags >> 3 & 3
    has_will = flags >> 2 & 1
    if flags & 1 or will_qos == 3 or (not has_will and (will_qos or will_retain)):  # noqa: PLR2004 # two bits set
        raise malformed(f"connect flags {flags:#x}")
    properties = _properties(reader, "connect", version)
    client_id = reader.text()
    will = None
    if has_will:
        will_properties = _properties(reader, "will", version)
        topic, payload = reader.text(), reader.binary()
        if not valid_topic(topic):
            raise PacketError(Reason.TOPIC_NAME_INVALID, "the will's topic is not a topic name")
        will = Will(topic=topic, payload=payload, qos=will_qos, retain=bool(will_retain), properties=will_properties)
    return Connect(
        client_id=client_id,
        version=version,
        clean_start=bool(flags & 2),
        keep_alive=keep_alive,
        username=reader.text() if has_user else None,
        password=reader.binary() if has_password else None,
        will=will,
        properties=properties,
    )


def _connack(reader: Reader, _flags: int, version: int) -> Connack:
    flags, code = reader.integer(1), reader.integer(1)
    if flags > 1:
        raise malformed(f"connack flags {flags:#x}")
    reason = _reason(code) if version == MQTT_5 else _CONNACK_FROM_311.get(code, Reason.UNSPECIFIED)
    return Connack(session_present=bool(flags), reason=reason, properties=_properties(reader, "connack", version))


def _publish(reader: Reader, flags: int, version: int) -> Publish:
    dup, qos, retain = bool(flags & 8), flags >> 1 & 3, bool(flags & 1)
    if qos == 3 or (dup and not qos):  # noqa: PLR2004 # two bits set
        raise malformed(f"publish flags {flags:#x}")
    topic = reader.text()
    packet_id = _packet_id(reader) if qos else 0
    properties = _properties(reader, "publish", version)
    if properties.topic_alias is not None:
        raise PacketError(Reason.TOPIC_ALIAS_INVALID, "topic aliases are not supported")
    if not valid_topic(topic):
        raise PacketError(Reason.TOPIC_NAME_INVALID, "the topic is empty, too long or holds a wildcard")
    payload = reader.rest()
    return Publish(
        topic=topic, payload=payload, qos=qos, retain=retain, dup=dup, packet_id=packet_id, properties=properties
    )


def _puback(reader: Reader, _flags: int, version: int) -> Puback:
    packet_id = _packet_id(reader)
    reason = _reason(reader.integer(1)) if version == MQTT_5 and reader.left else Reason.SUCCESS
    properties = _properties(reader, "puback", version) if reader.left else NONE
    return Puback(packet_id=packet_id, reason=reason, properties=properties)


def _subscribe(reader: Reader, _flags: int, version: int) -> Subscribe:
    packet_id, properties = _packet_id(reader), _properties(reader, "subscribe", version)
    filters = []
    while reader.left:
        topic_filter, options = reader.text(), reader.integer(1)
        qos, handling = options & 3, options >> 4 & 3
        if qos == 3 or handling == 3 or options >> (6 if version == MQTT_5 else 2):  # noqa: PLR2004 # two bits set
            raise malformed(f"subscription options {options:#x}")
        filters.append(
            Filter(
                topic_filter=topic_filter,
                qos=qos,
                no_local=bool(options & 4),
                retain_as_published=bool(options & 8),
                retain_handling=handling,
            )
        )
    if not filters:
        raise PacketError(Reason.PROTOCOL_ERROR, "a subscribe without filters")
    return Subscribe(packet_id=packet_id, filters=tuple(filters), properties=properties)


def _unsubscribe(reader: Reader, _flags: int, version: int) -> Unsubscribe:
    packet_id, properties = _packet_id(reader), _properties(reader, "unsubscribe", version)
    filters = []
    while reader.left:
        filters.append(reader.text())
    if not filters:
        raise PacketError(Reason.PROTOCOL_ERROR, "an unsubscribe without filters")
    return Unsubscribe(packet_id=packet_id, filters=tuple(filters), properties=properties)


def _suback(reader: Reader, _flags: int, version: int) -> Suback:
    packet_id, properties = _packet_id(reader), _properties(reader, "suback", version)
    return Suback(packet_id=packet_id, reasons=tuple(map(_reason, reader.rest())), properties=properties)


def _unsuback(reader: Reader, _flags: int, version: int) -> Unsuback:
    packet_id, properties = _packet_id(reader), _properties(reader, "unsuback", version)
    return Unsuback(packet_id=packet_id, reasons=tuple(map(_reason, reader.rest())), properties=properties)


def _disconnect(reader: Reader, _flags: int, _version: int) -> Disconnect:
    reason = _reason(reader.integer(1)) if reader.left else Reason.SUCCESS
    return Disconnect(reason=reason, properties=read_properties(reader, "disconnect") if reader.left else NONE)


def _auth(reader: Reader, _flags: int, version: int) -> Auth:
    if version != MQTT_5:
        raise malformed("AUTH does not exist in MQTT 3.1.1")
    code = reader.integer(1) if reader.left else 0
    return Auth(reason=code, properties=read_properties(reader, "auth") if reader.left else NONE)


_READERS: dict[int, Callable[[Reader, int, int], Packet]] = {
    1: _connect, 2: _connack, 3: _publish, 4: _puback, 8: _subscribe, 9: _suback, 10: _unsubscribe, 11: _unsuback,
    12: lambda *_: Pingreq(), 13: lambda *_: Pingresp(), 14: _disconnect, 15: _auth,
}  # fmt: skip


def encode(packet: Packet, version: int = MQTT_5) -> bytes:
    """Encode one packet for a peer of this version; what MQTT 3.1.1 cannot say is left out."""
    kind = _TYPES[type(packet)]
    flags = _RESERVED_FLAGS.get(kind, 0)
    if isinstance(packet, Publish):
        flags = packet.dup << 3 | packet.qos << 1 | packet.retain
    body = _body(packet, version)
    return bytes((kind << 4 | flags,)) + wire.varint(len(body)) + body


def _body(packet: Packet, version: int) -> bytes:
    if isinstance(packet, Pingreq | Pingresp):
        return b""
    five = version == MQTT_5
    section = write_properties(packet.properties) if five else b""
    match packet:
        case Connect():
            return _connect_body(packet)
        case Connack():
            code = packet.reason if five else _CONNACK_311.get(packet.reason, 3)
            return bytes((packet.session_present, code)) + section
        case Publish():
            packet_id = packet.packet_id.to_bytes(2, "big") if packet.qos else b""
            return wire.text(packet.topic) + packet_id + section + packet.payload
        case Disconnect() | Auth():
            return bytes((packet.reason,)) + section if five else b""
        case _:
            return packet.packet_id.to_bytes(2, "big") + _numbered_body(packet, section, version)


def _numbered_body(packet: Puback | Subscribe | Suback | Unsubscribe | Unsuback, section: bytes, version: int) -> bytes:
    five = version == MQTT_5
    match packet:
        case Puback():
            return bytes((packet.reason,)) + section if five else b""
        case Subscribe():
            return section + b"".join(
                wire.text(f.topic_filter) + bytes((_options(f, version),)) for f in packet.filters
            )
        case Unsubscribe():
            return section + b"".join(map(wire.text, packet.filters))
        case Suback():
            return section + bytes(packet.reasons if five else [min(r, Reason.UNSPECIFIED) for r in packet.reasons])
        case Unsuback():
            return section + bytes(packet.reasons) if five else b""


def _options(line: Filter, version: int) -> int:
    if version != MQTT_5:
        return line.qos
    return line.qos | line.no_local << 2 | line.retain_as_published << 3 | line.retain_handling << 4


def _connect_body(packet: Connect) -> bytes:
    five, will = packet.version == MQTT_5, packet.will
    flags = packet.clean_start << 1 | (packet.username is not None) << 7 | (packet.password is not None) << 6
    if will:
        flags |= 1 << 2 | will.qos << 3 | will.retain << 5
    out = wire.text("MQTT") + bytes((packet.version, flags)) + packet.keep_alive.to_bytes(2, "big")
    out += write_properties(packet.properties) if five else b""
    out += wire.text(packet.client_id)
    if will:
        out += write_properties(will.properties) if five else b""
        out += wire.text(will.topic) + wire.binary(will.payload)
    if packet.username is not None:
        out += wire.text(packet.username)
    if packet.password is not None:
        out += wire.binary(packet.password)
    return out
