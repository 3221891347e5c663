"""One session: subscriptions, what waits for the client, what it has not acknowledged; pure (MQTT 5.0, 4.1)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from edgesdk.devbroker.codec import encode
from edgesdk.devbroker.packets import MQTT_5, Filter, Publish, Will
from edgesdk.devbroker.wire import Properties

MAX_PACKET_ID = 65_535
NEVER = 0xFFFF_FFFF
"""A session expiry of this many seconds means that the session does not expire."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An application message inside the broker; `expires_at` in seconds of the broker's clock."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    properties: Properties
    sender: str
    expires_at: float | None = None

    def alive(self, now: float) -> bool:
        """Say whether the message has not expired."""
        return self.expires_at is None or now < self.expires_at

    def publish(self, now: float, *, qos: int, retain: bool, packet_id: int = 0, dup: bool = False) -> Publish:
        """Return the packet for a subscriber, with what is left of the expiry, rounded up."""
        properties = self.properties
        if self.expires_at is not None:
            properties = replace(properties, message_expiry=max(1, int(-(-(self.expires_at - now) // 1))))
        return Publish(
            topic=self.topic,
            payload=self.payload,
            qos=qos,
            retain=retain,
            dup=dup,
            packet_id=packet_id,
            properties=properties,
        )


def message_from(source: Publish | Will, *, sender: str, now: float) -> Message:
    """Make a message of a publish or a will; the will's delay is not the subscribers' business."""
    properties = replace(source.properties, will_delay=None)
    expiry = properties.message_expiry
    return Message(
        topic=source.topic,
        payload=source.payload,
        qos=source.qos,
        retain=source.retain,
        properties=properties,
        sender=sender,
        expires_at=None if expiry is None else now + expiry,
    )


class Delivery(NamedTuple):
    """A message on its way to one client."""

    message: Message
    qos: int
    retain: bool


@dataclass(slots=True, kw_only=True)
class Drops:
    """What was not delivered, by cause."""

    queue_full: int = 0
    expired: int = 0
    too_large: int = 0


@dataclass(slots=True, kw_only=True)
class Session:
    """State of one client id, connected or not.

    Attributes:
        connection: The server's number of the open connection, None while away.
        expiry: Seconds to keep the session after the connection has closed; 0 ends it then, `NEVER` keeps it.
        receive_maximum: Deliveries with QoS 1 that may wait for the client's acknowledgement.
        max_packet: Largest packet that the client takes, None for no limit.
        epoch: Grows with each connection and each closing, so that old timers are known to be old.
    """

    client_id: str
    max_queued: int
    connection: int | None = None
    username: str | None = None
    version: int = MQTT_5
    expiry: int = 0
    receive_maximum: int = MAX_PACKET_ID
    max_packet: int | None = None
    will: Will | None = None
    epoch: int = 0
    subscriptions: dict[str, Filter] = field(default_factory=dict)
    queue: deque[Delivery] = field(default_factory=deque)
    inflight: dict[int, Delivery] = field(default_factory=dict)
    drops: Drops = field(default_factory=Drops)
    _last_id: int = 0

    def offer(self, delivery: Delivery, now: float) -> list[Publish]:
        """Take one delivery in; returns what goes out at once."""
        if not delivery.qos:
            if self.connection is None:
                return []
            return self._fitting([delivery.message.publish(now, qos=0, retain=delivery.retain)])
        if len(self.queue) >= self.max_queued:
            self.drops.queue_full += 1
            return []
        self.queue.append(delivery)
        return self.pump(now)

    def pump(self, now: float) -> list[Publish]:
        """Send from the queue while the client's window has room."""
        out: list[Publish] = []
        while self.connection is not None and self.queue and len(self.inflight) < self.receive_maximum:
            delivery = self.queue.popleft()
            if not delivery.message.alive(now):
                self.drops.expired += 1
                continue
            packet_id = self._free_id()
            sent = self._fitting(
                [delivery.message.publish(now, qos=delivery.qos, retain=delivery.retain, packet_id=packet_id)]
            )
            if sent:
                self.inflight[packet_id] = delivery
            out += sent
        return out

    def resume(self, now: float) -> list[Publish]:
        """Send again, as duplicates, what the client had not acknowledged; then the queue."""
        unacknowledged, self.inflight = self.inflight, {}
        if len(unacknowledged) > self.receive_maximum:
            self.queue.extendleft(reversed(unacknowledged.values()))
            return self.pump(now)
        again: list[Publish] = []
        for packet_id, (message, qos, retain) in unacknowledged.items():
            sent = self._fitting([message.publish(now, qos=qos, retain=retain, packet_id=packet_id, dup=True)])
            if sent:
                self.inflight[packet_id] = Delivery(message, qos, retain)
            again += sent
        return again + self.pump(now)

    def acknowledge(self, packet_id: int, now: float) -> list[Publish]:
        """Note a PUBACK; returns what the freed window lets out. An unknown id is ignored."""
        self.inflight.pop(packet_id, None)
        return self.pump(now)

    def _free_id(self) -> int:
        while True:
            self._last_id = self._last_id % MAX_PACKET_ID + 1
            if self._last_id not in self.inflight:
                return self._last_id

    def _fitting(self, packets: list[Publish]) -> list[Publish]:
        if self.max_packet is None:
            return packets
        small = [packet for packet in packets if len(encode(packet, self.version)) <= self.max_packet]
        self.drops.too_large += len(packets) - len(small)
        return small
