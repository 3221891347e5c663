"""One connection to a broker, from CONNECT to its end: the only module that touches paho-mqtt.

paho's client is made anew for each connection (so nothing of an older one is resent behind our back), its reconnecting,
queues and threads are not used, and it is called from one thread only. Sockets are watched with `selectors` (epoll on
Linux), as `select()` cannot watch a file descriptor of 1024 or above.
"""

from __future__ import annotations

import selectors
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from paho.mqtt import client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edgesdk.errors import LinkError
from edgesdk.protocol.link_types import LinkTLS, Message
from edgesdk.protocol.topics import MAX_PAYLOAD

HEADROOM = 4096
"""Bytes that topic and properties may need beside a payload of `MAX_PAYLOAD`."""
DISCONNECT_WITH_WILL = 0x04
_FAILURE = 0x80
_DEFAULT_WINDOW = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to connect; times in seconds."""

    host: str
    port: int
    client_id: str
    username: str | None = None
    tls: LinkTLS | None = None
    will: Message | None = None
    will_delay: int = 0
    session_expiry: int = 0
    receive_max: int = 100
    keep_alive: int = 30
    connect_timeout: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Accepted:
    """What the broker said in CONNACK; `max_packet` in bytes, None for no limit."""

    session_present: bool
    receive_maximum: int
    max_packet: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """What the connection reports, always on the thread that calls `Connection.pump`."""

    message: Callable[[Message], None]
    published: Callable[[int, int], None]
    """``published(packet id, reason code)``: acknowledged, or handed to the socket for QoS 0."""
    subscribed: Callable[[int, int], None]


class Connection:
    """One try to be connected. Call `open`, then `pump` until it says False, then `close`.

    Args:
        options: How to connect.
        events: Where to report.
        wake: A socket; a byte on it ends the waiting in `pump`.
    """

    def __init__(self, options: Options, events: Events, wake: socket.socket) -> None:
        self.accepted: Accepted | None = None
        self.error: LinkError | None = None
        self._options = options
        self._events = events
        self._wake = wake
        self._selector = selectors.DefaultSelector()
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=options.client_id,
            protocol=paho.MQTTv5,
            reconnect_on_failure=False,
        )
        self._client.suppress_exceptions = True
        self._client.connect_timeout = options.connect_timeout
        self._client.max_inflight_messages_set(0)  # our window is kept by the link
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        self._client.on_publish = self._on_publish
        self._client.on_subscribe = self._on_subscribe

    def open(self, *, clean_start: bool) -> None:
        """Open the transport and send CONNECT; the answer comes with `pump`.

        Raises:
            LinkError: ``link-offline`` or ``link-tls``.
        """
        options = self._options
        if options.username is not None:
            self._client.username_pw_set(options.username)
        if options.tls is not None:
            self._client.tls_set_context(options.tls.context())
        if options.will is not None:
            will = options.will
            properties = _properties(will, PacketTypes.WILLMESSAGE)
            properties.WillDelayInterval = options.will_delay
            self._client.will_set(will.topic, will.payload, will.qos, will.retain, properties)
        connect = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call] # paho gives it no types
        connect.SessionExpiryInterval = options.session_expiry
        connect.ReceiveMaximum = options.receive_max
        connect.MaximumPacketSize = MAX_PAYLOAD + HEADROOM
        where = f"{options.host}:{options.port}"
        try:
            self._client.connect(
                options.host, options.port, options.keep_alive, clean_start=clean_start, properties=connect
            )
        except ssl.SSLError as error:
            raise LinkError("link-tls", f"TLS with {where} failed: {error.reason or error}") from error
        except OSError as error:
            raise LinkError("link-offline", f"cannot reach {where}: {error.strerror or error}") from error
        if self._client.socket() is None:  # the broker closed while CONNECT was written
            raise self.error or LinkError("link-offline", f"{where} closed the connection at once")
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._selector.register(self._socket(), selectors.EVENT_READ)

    def pump(self, timeout: float) -> bool:
        """Wait for traffic or a wake-up, handle it, and say whether the connection still stands."""
        if self._client.socket() is None:
            return False
        sock, wanted = self._socket(), selectors.EVENT_READ
        if self._client.want_write():
            wanted |= selectors.EVENT_WRITE
        self._selector.modify(sock, wanted)
        for key, _ in self._selector.select(timeout):
            if key.fileobj is self._wake:
                with suppress(BlockingIOError):
                    self._wake.recv(4096)
        self._client.loop_read()
        while self._pending():
            self._client.loop_read()
        if self._client.want_write():
            self._client.loop_write()
        self._client.loop_misc()
        return self._client.socket() is not None and self.error is None

    def publish(self, message: Message) -> int:
        """Hand a message over and return its packet id."""
        properties = _properties(message, PacketTypes.PUBLISH)
        info = self._client.publish(message.topic, message.payload, message.qos, message.retain, properties)
        return info.mid

    def subscribe(self, topic_filter: str, qos: int) -> int:
        """Ask for a filter and return the packet id that the answer will carry."""
        _, packet_id = self._client.subscribe(topic_filter, options=SubscribeOptions(qos=qos))
        return packet_id or 0

    def unsubscribe(self, topic_filter: str) -> None:
        """Give a filter up."""
        self._client.unsubscribe(topic_filter)

    def close(self, *, goodbye: bool, with_will: bool = False) -> None:
        """Close; `goodbye` sends DISCONNECT first, without waiting for a peer that does not read."""
        if goodbye and self._client.socket() is not None:
            reason = ReasonCode(PacketTypes.DISCONNECT, identifier=DISCONNECT_WITH_WILL if with_will else 0)
            self._client.disconnect(reason)
        sock = self._client.socket()
        if sock is not None:
            sock.close()
        self._selector.close()

    def _socket(self) -> Any:
        return self._client.socket()

    def _pending(self) -> bool:
        """Say whether TLS has decrypted bytes that no selector sees."""
        sock = self._client.socket()
        return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0

    def _on_connect(self, _client: Any, _data: Any, flags: Any, reason: ReasonCode, properties: Any) -> None:
        if reason.value >= _FAILURE:
            said = getattr(properties, "ReasonString", "")
            self.error = LinkError("link-refused", f"the broker refused {self._options.client_id!r}: {reason} {said}")
            return
        self.accepted = Accepted(
            session_present=flags.session_present,
            receive_maximum=getattr(properties, "ReceiveMaximum", _DEFAULT_WINDOW),
            max_packet=getattr(properties, "MaximumPacketSize", None),
        )

    def _on_disconnect(self, _client: Any, _data: Any, flags: Any, reason: ReasonCode, _properties: Any) -> None:
        if self.error is not None:
            return
        if self.accepted is None and self._options.tls is not None:
            text = "the broker closed the connection after the TLS handshake; it does not accept the certificate"
            self.error = LinkError("link-tls", text)
        elif self.accepted is None:
            self.error = LinkError("link-refused", "the broker closed the connection before it answered CONNECT")
        else:
            who = "the broker ended the connection" if flags.is_disconnect_packet_from_server else "connection lost"
            self.error = LinkError("link-offline", f"{who}: {reason}")

    def _on_message(self, _client: Any, _data: Any, message: paho.MQTTMessage) -> None:
        properties = message.properties
        self._events.message(
            Message(
                topic=message.topic,
                payload=bytes(message.payload),
                qos=message.qos,
                retain=message.retain,
                expiry=getattr(properties, "MessageExpiryInterval", None),
                correlation=getattr(properties, "CorrelationData", None),
                response_topic=getattr(properties, "ResponseTopic", None),
                content_type=getattr(properties, "ContentType", None),
                user_properties=tuple(getattr(properties, "UserProperty", ())),
            )
        )

    def _on_publish(self, _client: Any, _data: Any, packet_id: int, reason: ReasonCode, _properties: Any) -> None:
        self._events.published(packet_id, reason.value)

    def _on_subscribe(self, _client: Any, _data: Any, packet_id: int, reasons: list[ReasonCode], _p: Any) -> None:
        self._events.subscribed(packet_id, reasons[0].value)


def _properties(message: Message, kind: int) -> Properties:
    properties = Properties(kind)  # type: ignore[no-untyped-call] # paho gives it no types
    for name, value in (
        ("MessageExpiryInterval", message.expiry),
        ("CorrelationData", message.correlation),
        ("ResponseTopic", message.response_topic),
        ("ContentType", message.content_type),
        ("UserProperty", list(message.user_properties) or None),
    ):
        if value is not None:
            setattr(properties, name, value)
    return properties
