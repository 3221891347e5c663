"""All sessions, retained messages and routing: packets in, effects out; pure, time is an argument.

Reason codes and duties are those of MQTT 5.0; QoS 2, topic aliases, subscription identifiers and enhanced
authentication are refused with the code that MQTT has for it.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from edgesdk.devbroker.codec import DEFAULT_MAX_PACKET
from edgesdk.devbroker.packets import (
    MQTT_5,
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
from edgesdk.devbroker.policy import Acl, edge_acl
from edgesdk.devbroker.session import MAX_PACKET_ID, NEVER, Delivery, Message, Session, message_from
from edgesdk.devbroker.topics import FilterTrie, Share, TopicTrie, split_share
from edgesdk.devbroker.wire import PacketError, Properties, Reason
from edgesdk.protocol.topics import MAX_PAYLOAD

_GRACE = 1.5
"""A client that is silent for this many keep-alive intervals is gone (section 3.1.2.10)."""


@dataclass(frozen=True, slots=True)
class Send:
    """Write a packet to a connection."""

    connection: int
    packet: Packet


@dataclass(frozen=True, slots=True)
class Close:
    """Close a connection after what was sent to it."""

    connection: int


Effect = Send | Close


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the broker takes: sizes in bytes, the rest in messages."""

    max_packet: int = DEFAULT_MAX_PACKET
    max_payload: int = MAX_PAYLOAD
    receive_maximum: int = 100  # in both directions, at most
    max_queued: int = 10_000
    max_retained: int = 100_000


@dataclass(slots=True)
class _Connection:
    session: Session
    keep_alive: int
    last_seen: float


class Broker:
    """The broker without a network.

    Args:
        limits: What it takes.
        acl: Who may publish and receive what.
        new_id: Makes the client id of a client that brings none.
    """

    def __init__(
        self, *, limits: Limits | None = None, acl: Acl = edge_acl, new_id: Callable[[], str] | None = None
    ) -> None:
        self.limits = limits or Limits()
        self.sessions: dict[str, Session] = {}
        self.retained: TopicTrie[Message] = TopicTrie()
        self.counters: Counter[str] = Counter()
        self._acl = acl
        numbers = count(1)
        self._new_id = new_id or (lambda: f"auto-{next(numbers)}")
        self._connections: dict[int, _Connection] = {}
        self._subscribers: FilterTrie[tuple[str, str | None], Filter] = FilterTrie()
        self._turns: Counter[tuple[str, str]] = Counter()
        self._timers: list[tuple[float, int, Callable[[float], None]]] = []
        self._timer_ids = count()
        self._out: list[Effect] = []

    # ---- what happens to it

    def receive(self, connection: int, packet: Packet, now: float) -> list[Effect]:
        """Take one packet of one connection."""
        try:
            self._dispatch(connection, packet, now)
        except PacketError as error:
            return self.fail(connection, error, now)
        return self._flush()

    def fail(self, connection: int, error: PacketError, now: float) -> list[Effect]:
        """End a connection that broke the protocol; its will is published."""
        self._fail(connection, error, now)
        return self._flush()

    def _fail(self, connection: int, error: PacketError, now: float) -> None:
        state = self._connections.get(connection)
        self.counters["protocol-error"] += 1
        properties = Properties(reason_string=error.message[:200])
        if state is None:
            self._send(connection, Connack(reason=error.reason, properties=properties))
        elif state.session.version == MQTT_5:
            self._send(connection, Disconnect(reason=error.reason, properties=properties))
        self._out.append(Close(connection))
        self._closed(connection, now)

    def lost(self, connection: int, now: float) -> list[Effect]:
        """Note that a connection is gone without a word."""
        self._closed(connection, now)
        return self._flush()

    def tick(self, now: float) -> list[Effect]:
        """Do what has become due: wills, session expiry, silent clients."""
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2](now)
        return self._flush()

    def next_due(self) -> float | None:
        """Return when `tick` has something to do, None when nothing is planned."""
        return self._timers[0][0] if self._timers else None

    def shutdown(self) -> list[Effect]:
        """Say goodbye to everybody; no will is published, as the clients are not at fault."""
        for connection, state in self._connections.items():
            if state.session.version == MQTT_5:
                self._send(connection, Disconnect(reason=Reason.SERVER_SHUTTING_DOWN))
            self._out.append(Close(connection))
        self._connections.clear()
        return self._flush()

    def _dispatch(self, connection: int, packet: Packet, now: float) -> None:
        state = self._connections.get(connection)
        if isinstance(packet, Connect):
            if state is not None:
                raise PacketError(Reason.PROTOCOL_ERROR, "a second CONNECT on one connection")
            self._connect(connection, packet, now)
            return
        if state is None:
            raise PacketError(Reason.PROTOCOL_ERROR, f"expected CONNECT first, got {type(packet).__name__}")
        state.last_seen = now
        session = state.session
        match packet:
            case Publish():
                self._publish(connection, session, packet, now)
            case Puback():
                self._deliver(session, session.acknowledge(packet.packet_id, now))
            case Subscribe():
                self._subscribe(connection, session, packet, now)
            case Unsubscribe():
                self._unsubscribe(connection, session, packet)
            case Pingreq():
                self._send(connection, Pingresp())
            case Disconnect():
                self._disconnect(connection, session, packet, now)
            case _:
                raise PacketError(Reason.PROTOCOL_ERROR, f"a client does not send {type(packet).__name__}")

    # ---- connections

    def _connect(self, connection: int, packet: Connect, now: float) -> None:
        properties = packet.properties
        if properties.auth_method is not None:
            raise PacketError(Reason.BAD_AUTHENTICATION_METHOD, "enhanced authentication is not supported")
        if packet.will and packet.will.qos > 1:
            raise PacketError(Reason.QOS_NOT_SUPPORTED, "a will with QoS 2 is not supported")
        if not packet.client_id and packet.version != MQTT_5 and not packet.clean_start:
            raise PacketError(Reason.CLIENT_ID_NOT_VALID, "a session to keep needs a client id")
        client_id = packet.client_id or self._new_id()
        old = self.sessions.get(client_id)
        if old is not None:
            self._take_over(old, packet, now)
        session = self.sessions.get(client_id)
        present = session is not None
        if session is None:
            session = self.sessions[client_id] = Session(client_id=client_id, max_queued=self.limits.max_queued)
        session.connection, session.username, session.version = connection, packet.username, packet.version
        session.receive_maximum = min(properties.receive_maximum or MAX_PACKET_ID, self.limits.receive_maximum)
        session.max_packet = properties.maximum_packet_size
        session.will = packet.will
        session.epoch += 1
        session.expiry = properties.session_expiry or 0
        if packet.version != MQTT_5:
            session.expiry = 0 if packet.clean_start else NEVER
        self._connections[connection] = _Connection(session, packet.keep_alive, now)
        self._watch(connection, now)
        answer = self._connack_properties(None if packet.client_id else client_id)
        self._send(connection, Connack(session_present=present, properties=answer))
        self._deliver(session, session.resume(now))

    def _take_over(self, old: Session, packet: Connect, now: float) -> None:
        """End the connection and, for a clean start, the session that the same client id has."""
        if old.connection is not None:
            connection = old.connection
            if old.version == MQTT_5:
                self._send(connection, Disconnect(reason=Reason.SESSION_TAKEN_OVER))
            self._out.append(Close(connection))
            self._closed(connection, now)
        if packet.clean_start and old.client_id in self.sessions:
            self._end(old, now)
        old.will = None

    def _connack_properties(self, assigned: str | None) -> Properties:
        return Properties(
            receive_maximum=self.limits.receive_maximum,
            maximum_qos=1,
            maximum_packet_size=self.limits.max_packet,
            assigned_client_id=assigned,
            subscription_ids_available=0,
        )

    def _disconnect(self, connection: int, session: Session, packet: Disconnect, now: float) -> None:
        expiry = packet.properties.session_expiry
        if expiry is not None:
            if expiry and not session.expiry:
                raise PacketError(Reason.PROTOCOL_ERROR, "a session that was to end cannot be kept at DISCONNECT")
            session.expiry = expiry
        if packet.reason is not Reason.DISCONNECT_WITH_WILL:
            session.will = None
        self._out.append(Close(connection))
        self._closed(connection, now)

    def _closed(self, connection: int, now: float) -> None:
        state = self._connections.pop(connection, None)
        if state is None:
            return
        session = state.session
        session.connection = None
        session.epoch += 1
        epoch, will = session.epoch, session.will
        delay = (will.properties.will_delay or 0) if will else 0
        if not delay:
            self._send_will(session, now)
        if not session.expiry:
            self._end(session, now)
            return
        if will and delay:
            self._at(now + delay, lambda at: self._send_will(session, at) if session.epoch == epoch else None)
        if session.expiry != NEVER:
            self._at(now + session.expiry, lambda at: self._end(session, at) if session.epoch == epoch else None)

    def _end(self, session: Session, now: float) -> None:
        """Forget a session; a will that still waits is due now (section 3.1.3.2.2)."""
        session.epoch += 1
        self.sessions.pop(session.client_id, None)
        for subscription in session.subscriptions:
            self._forget(session, subscription)
        session.subscriptions.clear()
        self._send_will(session, now)

    def _send_will(self, session: Session, now: float) -> None:
        will, session.will = session.will, None
        if will and self._may_publish(session, will):
            self._route(message_from(will, sender=session.client_id, now=now), now)

    def _watch(self, connection: int, now: float) -> None:
        """Plan the look at whether a client is still alive."""
        state = self._connections.get(connection)
        if state is None or not state.keep_alive:
            return
        deadline = state.last_seen + _GRACE * state.keep_alive
        if now < deadline:
            self._at(deadline, lambda at: self._watch(connection, at))
        else:
            self._fail(connection, PacketError(Reason.KEEP_ALIVE_TIMEOUT, "no sign of life"), now)

    # ---- messages

    def _publish(self, connection: int, session: Session, packet: Publish, now: float) -> None:
        if packet.qos > 1:
            raise PacketError(Reason.QOS_NOT_SUPPORTED, "QoS 2 is not supported")
        if packet.properties.subscription_ids:
            raise PacketError(Reason.PROTOCOL_ERROR, "a client's PUBLISH carries a subscription identifier")
        if len(packet.payload) > self.limits.max_payload:
            reason = Reason.IMPLEMENTATION_SPECIFIC  # PUBACK may not say 0x95, packet too large
        elif not self._may_publish(session, packet):
            reason = Reason.NOT_AUTHORIZED
        else:
            reason = self._route(message_from(packet, sender=session.client_id, now=now), now)
        if reason >= Reason.UNSPECIFIED:
            self.counters[f"refused-{reason.name.lower().replace('_', '-')}"] += 1
        if packet.qos:
            self._send(connection, Puback(packet_id=packet.packet_id, reason=reason))

    def _may_publish(self, session: Session, packet: Publish | Will) -> bool:
        return self._acl(session.client_id, session.username, "publish", packet.topic)

    def _route(self, message: Message, now: float) -> Reason:
        if message.retain:
            if not message.payload:
                self.retained.drop(message.topic, None)
            elif len(self.retained) >= self.limits.max_retained:
                return Reason.QUOTA_EXCEEDED
            else:
                self.retained.put(message.topic, None, message)
        deliveries = self._receivers(message)
        for session, line in deliveries:
            retain = message.retain and line.retain_as_published
            self._offer(session, Delivery(message, min(message.qos, line.qos), retain), now)
        return Reason.SUCCESS if deliveries else Reason.NO_MATCHING_SUBSCRIBERS

    def _receivers(self, message: Message) -> list[tuple[Session, Filter]]:
        """Return each session once, at its best QoS, and one member of each shared group."""
        single: dict[str, Filter] = {}
        groups: dict[tuple[str, str], list[tuple[str, Filter]]] = {}
        for (client_id, group), line in self._subscribers.matching(message.topic):
            if group is not None:
                groups.setdefault((group, line.topic_filter), []).append((client_id, line))
            elif not (line.no_local and client_id == message.sender):
                best = single.get(client_id)
                single[client_id] = line if best is None or line.qos > best.qos else best
        chosen = [(self.sessions[client_id], line) for client_id, line in single.items()]
        return chosen + [self._take_turn(key, members) for key, members in groups.items()]

    def _take_turn(self, key: tuple[str, str], members: list[tuple[str, Filter]]) -> tuple[Session, Filter]:
        """Pick the next member of a shared group, those that are connected first."""
        sessions = [(self.sessions[client_id], line) for client_id, line in sorted(members, key=lambda m: m[0])]
        here = [pair for pair in sessions if pair[0].connection is not None] or sessions
        self._turns[key] += 1
        return here[self._turns[key] % len(here)]

    def _offer(self, session: Session, delivery: Delivery, now: float) -> None:
        if self._acl(session.client_id, session.username, "receive", delivery.message.topic):
            self._deliver(session, session.offer(delivery, now))
        else:
            self.counters["delivery-denied"] += 1

    # ---- subscriptions

    def _subscribe(self, connection: int, session: Session, packet: Subscribe, now: float) -> None:
        if packet.properties.subscription_ids:
            raise PacketError(Reason.SUBSCRIPTION_IDS_NOT_SUPPORTED, "subscription identifiers are not supported")
        reasons, retained = [], []
        for line in packet.filters:
            share = split_share(line.topic_filter)
            if share is None:
                reasons.append(Reason.TOPIC_FILTER_INVALID)
                continue
            if share.group is not None and line.no_local:
                raise PacketError(Reason.PROTOCOL_ERROR, "no-local on a shared subscription")
            reasons.append(Reason(min(line.qos, 1)))
            new = self._remember(session, share, line)
            if share.group is None and (line.retain_handling == 0 or (line.retain_handling == 1 and new)):
                retained.append(line)
        self._send(connection, Suback(packet_id=packet.packet_id, reasons=tuple(reasons)))
        for line in retained:
            for message in list(self.retained.matching(line.topic_filter)):
                if not message.alive(now):
                    self.retained.drop(message.topic, None)
                else:
                    self._offer(session, Delivery(message, min(message.qos, line.qos, 1), retain=True), now)

    def _remember(self, session: Session, share: Share, line: Filter) -> bool:
        session.subscriptions[line.topic_filter] = line
        return self._subscribers.put(share.topic_filter, (session.client_id, share.group), line)

    def _unsubscribe(self, connection: int, session: Session, packet: Unsubscribe) -> None:
        reasons = []
        for subscription in packet.filters:
            known = session.subscriptions.pop(subscription, None) is not None
            if known:
                self._forget(session, subscription)
            reasons.append(Reason.SUCCESS if known else Reason.NO_SUBSCRIPTION_EXISTED)
        self._send(connection, Unsuback(packet_id=packet.packet_id, reasons=tuple(reasons)))

    def _forget(self, session: Session, subscription: str) -> None:
        share = split_share(subscription)
        if share is not None:
            self._subscribers.drop(share.topic_filter, (session.client_id, share.group))

    # ---- effects

    def _deliver(self, session: Session, packets: list[Publish]) -> None:
        if session.connection is not None:
            for packet in packets:
                self._send(session.connection, packet)

    def _send(self, connection: int, packet: Packet) -> None:
        self._out.append(Send(connection, packet))

    def _at(self, due: float, action: Callable[[float], None]) -> None:
        heapq.heappush(self._timers, (due, next(self._timer_ids), action))

    def _flush(self) -> list[Effect]:
        out, self._out = self._out, []
        return out
