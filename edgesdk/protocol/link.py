"""The link to a broker: publishes that are done only when acknowledged, and a connection that comes back by itself.

What it takes off everybody's shoulders: reconnecting with jitter, subscribing again, the window of publishes in flight
(ours and the broker's Receive Maximum), refusals that MQTT hides in reason codes, and callbacks that raise. It keeps no
queue while offline: the agent's outbox is on disk, and a queue in memory would be lost silently.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from edgesdk.clock import Clock, SystemClock
from edgesdk.errors import ConfigError, LinkError
from edgesdk.protocol.backoff import Backoff
from edgesdk.protocol.connection import HEADROOM, Accepted, Connection, Events, Options
from edgesdk.protocol.link_types import LinkState, LinkTLS, Message, PublishHandle
from edgesdk.protocol.topics import MAX_PAYLOAD

__all__ = ["Link", "LinkState", "LinkTLS", "Message", "PublishHandle"]

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_WINDOW = 100
"""Publishes in flight; 20 to 100 was measured best."""
STABLE_S = 5.0
"""A connection that stood this long makes the back-off start anew; a shorter one may be a fight for one client id."""
_POLL_S = 1.0
_QUEUE = 10
_FAILURE = 0x80
_SENDING = -1
"""Stands for the packet id until paho has told it."""


@dataclass(slots=True)
class _Subscription:
    qos: int
    future: Future[None]


class Link:
    """A supervised MQTT 5 connection.

    Args:
        host: The broker's name or address.
        port: Its TCP port.
        client_id: Unique at the broker.
        username: Sent without a password; with client certificates the broker uses the certificate's name instead.
        tls: Authority and client certificate; None for plain TCP.
        will: Published by the broker when this client vanishes.
        will_delay: Seconds that the broker waits before that.
        clean_start: Forget an older session at the first connection; reconnections resume. Say False for a session
            that is to survive a restart of the broker: Mosquitto 2.0 writes no other to disk.
        session_expiry: Seconds for which the broker keeps subscriptions and undelivered messages.
        receive_max: Messages with QoS 1 that the broker may send before we acknowledge.
        window: Publishes in flight, at most `MAX_WINDOW`; the broker's Receive Maximum lowers it.
        keep_alive: Seconds between signs of life.
        connect_timeout: Seconds for transport, TLS and CONNACK each.
        on_message: Called for each message on the link's thread; acknowledged when it returns, or raises (logged).
        on_state: Called on the link's thread when the connection comes or goes.
        backoff: Delays between tries.
        clock: Source of monotonic time.

    Raises:
        ConfigError: ``file-missing`` when a TLS file is not there.
    """

    def __init__(
        self,
        host: str,
        port: int,
        client_id: str,
        *,
        username: str | None = None,
        tls: LinkTLS | None = None,
        will: Message | None = None,
        will_delay: int = 0,
        clean_start: bool = True,
        session_expiry: int = 0,
        receive_max: int = 100,
        window: int = MAX_WINDOW,
        keep_alive: int = 30,
        connect_timeout: float = 10.0,
        on_message: Callable[[Message], None] | None = None,
        on_state: Callable[[LinkState], None] | None = None,
        backoff: Backoff | None = None,
        clock: Clock | None = None,
    ) -> None:
        _require_files(tls)
        self._options = Options(
            host=host,
            port=port,
            client_id=client_id,
            username=username,
            tls=tls,
            will=will,
            will_delay=will_delay,
            session_expiry=session_expiry,
            receive_max=receive_max,
            keep_alive=keep_alive,
            connect_timeout=connect_timeout,
        )
        self._clean_start = clean_start
        self._max_window = min(window, MAX_WINDOW)
        self._on_message = on_message
        self._on_state = on_state
        self._backoff = backoff or Backoff()
        self._clock = clock or SystemClock()
        self._wake_r, self._wake_w = socket.socketpair()
        self._wake_r.setblocking(False)
        self._wake_w.setblocking(False)
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._stop_with_will = False
        self._online = threading.Event()
        self._thread: threading.Thread | None = None
        self._accepted: Accepted | None = None
        self._outgoing: deque[PublishHandle] = deque()
        self._in_flight: dict[int, PublishHandle] = {}
        self._subscriptions: dict[str, _Subscription] = {}
        self._to_subscribe: deque[str] = deque()
        self._to_unsubscribe: deque[str] = deque()
        self._asked: dict[int, str] = {}

    # ---- for its owner

    def start(self) -> None:
        """Connect in the background and stay connected; starts a dead network thread again."""
        with self._lock:
            if self._stopping.is_set() or (self._thread is not None and self._thread.is_alive()):
                return
            if self._thread is not None:
                log.error("the link's network thread had died; it is started again")
            self._thread = threading.Thread(target=self._run, name=f"edge-link-{self._options.client_id}", daemon=True)
            self._thread.start()

    def stop(self, *, with_will: bool = False, timeout: float = 2.0) -> None:
        """Say goodbye and end; returns within `timeout` seconds whatever the network does.

        Args:
            with_will: Ask the broker to publish the will all the same.
            timeout: Seconds to wait for the thread; a connection try under way ends on its own.
        """
        self._stop_with_will = with_will
        self._stopping.set()
        self._wake()
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
        elif thread is None:
            self._finish()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def online(self) -> bool:
        """Whether the broker has accepted the connection and it stands."""
        return self._online.is_set()

    @property
    def alive(self) -> bool:
        """Whether the network thread runs."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def window(self) -> int:
        """Publishes that may be in flight now."""
        accepted = self._accepted
        return min(self._max_window, accepted.receive_maximum) if accepted else self._max_window

    def wait_online(self, timeout: float | None = None) -> bool:
        """Wait until the connection stands; False when `timeout` seconds were not enough."""
        return self._online.wait(timeout)

    def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        qos: int = 1,
        retain: bool = False,
        expiry: int | None = None,
        correlation: bytes | None = None,
        response_topic: str | None = None,
        content_type: str | None = None,
        user_properties: tuple[tuple[str, str], ...] = (),
    ) -> PublishHandle:
        """Publish a message; see `PublishHandle.future` for when it is done.

        Args:
            topic: A topic name, without wildcards.
            payload: At most 128 KiB.
            qos: 0 or 1.
            retain: Whether the broker keeps it as the topic's last word.
            expiry: Seconds after which the broker forgets it.
            correlation: Bytes that tie an answer to its question.
            response_topic: Where the answer is wanted.
            content_type: A MIME type.
            user_properties: Pairs of strings, passed on as they are.

        Raises:
            LinkError: ``link-offline``, ``link-busy`` (too many wait already), ``message-too-large`` or
                ``message-invalid``.
        """
        message = Message(
            topic=topic,
            payload=payload,
            qos=qos,
            retain=retain,
            expiry=expiry,
            correlation=correlation,
            response_topic=response_topic,
            content_type=content_type,
            user_properties=user_properties,
        )
        self._check(message)
        handle = PublishHandle(message)
        self._revive()
        with self._lock:
            if not self.online:
                raise LinkError("link-offline", f"nothing is connected to {self._where}; the message was not taken")
            if len(self._outgoing) + len(self._in_flight) >= _QUEUE * self._max_window:
                raise LinkError("link-busy", f"{len(self._outgoing) + len(self._in_flight)} publishes wait already")
            handle._forbidden = self._thread.ident if self._thread else None  # noqa: SLF001 # our own class
            self._outgoing.append(handle)
        self._wake()
        return handle

    def subscribe(self, topic_filter: str, *, qos: int = 1) -> Future[None]:
        """Subscribe now, or as soon as there is a connection, and again after each reconnection.

        Returns:
            Done when the broker has granted it; fails with `LinkError` (``link-denied``) when it refused, and with
            ``link-offline`` when the link is stopped first.
        """
        self._revive()
        with self._lock:
            known = self._subscriptions.get(topic_filter)
            future: Future[None] = Future() if known is None or known.future.done() else known.future
            self._subscriptions[topic_filter] = _Subscription(qos, future)
            self._to_subscribe.append(topic_filter)
        self._wake()
        return future

    def unsubscribe(self, topic_filter: str) -> None:
        """Give a filter up; a session that the broker keeps forgets it at the next connection at the latest."""
        with self._lock:
            self._subscriptions.pop(topic_filter, None)
            self._to_unsubscribe.append(topic_filter)
        self._wake()

    def _check(self, message: Message) -> None:
        if not message.topic or any(c in message.topic for c in "+#\0") or message.qos not in {0, 1}:
            text = f"expected a topic without wildcards and QoS 0 or 1, got {message.topic!r} and {message.qos}"
            raise LinkError("message-invalid", text)
        accepted, size = self._accepted, len(message.payload)
        limit = MAX_PAYLOAD
        if accepted is not None and accepted.max_packet is not None:
            limit = min(limit, accepted.max_packet - min(HEADROOM, accepted.max_packet // 2))
        if size > limit:
            raise LinkError("message-too-large", f"expected at most {limit} bytes, got {size} for {message.topic}")

    @property
    def _where(self) -> str:
        return f"{self._options.host}:{self._options.port}"

    def _revive(self) -> None:
        if self._thread is not None and not self._thread.is_alive():
            self.start()

    def _wake(self) -> None:
        with suppress(BlockingIOError, OSError):  # a full buffer wakes as well; closed: nobody sleeps
            self._wake_w.send(b"!")

    # ---- the network thread

    def _run(self) -> None:
        clean_start = self._clean_start
        while not self._stopping.is_set():
            began, error = self._clock.monotonic(), None
            try:
                error = self._connection(clean_start=clean_start)
            except LinkError as caught:
                error = caught
            except BaseException:  # the thread outlives everything, or the device falls silent
                log.exception("the link to %s failed unexpectedly", self._where)
            clean_start = clean_start and self._accepted is None
            stood = self._accepted is not None and self._clock.monotonic() - began >= STABLE_S
            self._down(error or LinkError("link-offline", f"the connection to {self._where} ended"))
            if stood:
                self._backoff.reset()
            self._stopping.wait(self._backoff.next())
        self._finish()

    def _connection(self, *, clean_start: bool) -> LinkError | None:
        """Live through one connection; returns why it ended."""
        events = Events(message=self._message, published=self._published, subscribed=self._subscribed)
        connection = Connection(self._options, events, self._wake_r)
        deadline = self._clock.monotonic() + self._options.connect_timeout
        ended = False
        try:
            connection.open(clean_start=clean_start)
            while not self._stopping.is_set():
                if not connection.pump(_POLL_S):
                    ended = True
                    return connection.error
                if connection.accepted is not None:
                    if not self.online:
                        self._up(connection.accepted)
                    self._send(connection)
                elif self._clock.monotonic() > deadline:
                    return LinkError("link-offline", f"{self._where} did not answer CONNECT in time")
            return None
        finally:
            connection.close(goodbye=not ended, with_will=self._stop_with_will)

    def _send(self, connection: Connection) -> None:
        """Hand over what waits, as far as the window allows."""
        while self._to_unsubscribe:
            connection.unsubscribe(self._to_unsubscribe.popleft())
        while self._to_subscribe:
            topic_filter = self._to_subscribe.popleft()
            subscription = self._subscriptions.get(topic_filter)
            if subscription is not None:
                self._asked[connection.subscribe(topic_filter, subscription.qos)] = topic_filter
        while self._outgoing and len(self._in_flight) < self.window:
            with self._lock:
                handle = self._outgoing.popleft()
                # paho reports QoS 0 from within publish(), before the id is known
                self._in_flight[_SENDING] = handle
            packet_id = connection.publish(handle.message)
            with self._lock:
                if self._in_flight.pop(_SENDING, None) is not None:
                    self._in_flight[packet_id] = handle

    def _up(self, accepted: Accepted) -> None:
        with self._lock:
            self._accepted = accepted
            self._to_subscribe = deque(self._subscriptions)
            self._online.set()
        log.info("connected to %s as %s", self._where, self._options.client_id)
        self._guard(self._on_state, LinkState(online=True, session_present=accepted.session_present))

    def _down(self, error: LinkError) -> None:
        with self._lock:
            was_online = self.online
            self._online.clear()
            self._accepted = None
            failed = [*self._in_flight.values(), *self._outgoing]
            self._in_flight.clear()
            self._outgoing.clear()
            self._asked.clear()
        for handle in failed:
            reason = f"the connection was lost before {handle.message.topic} was acknowledged"
            handle.future.set_exception(LinkError("link-offline", reason))
        level = logging.DEBUG if self._stopping.is_set() else logging.WARNING
        log.log(level, "no connection to %s: %s", self._where, error)
        if was_online or not self._stopping.is_set():
            self._guard(self._on_state, LinkState(online=False, error=error))

    def _message(self, message: Message) -> None:
        self._guard(self._on_message, message)

    def _published(self, packet_id: int, reason: int) -> None:
        with self._lock:
            handle = self._in_flight.pop(packet_id, None) or self._in_flight.pop(_SENDING, None)
        if handle is None:
            return
        handle.reason_code = reason
        if reason >= _FAILURE:
            text = f"the broker refused a publish to {handle.message.topic} with reason 0x{reason:02x}"
            handle.future.set_exception(LinkError("link-denied", text))
        else:
            handle.future.set_result(reason)

    def _subscribed(self, packet_id: int, reason: int) -> None:
        topic_filter = self._asked.pop(packet_id, None)
        subscription = self._subscriptions.get(topic_filter or "")
        if subscription is None:
            return
        if reason >= _FAILURE:
            text = f"the broker refused the subscription {topic_filter} with reason 0x{reason:02x}"
            log.error(text)
            if not subscription.future.done():
                subscription.future.set_exception(LinkError("link-denied", text))
        elif not subscription.future.done():
            subscription.future.set_result(None)

    def _finish(self) -> None:
        for topic_filter, subscription in self._subscriptions.items():
            if not subscription.future.done():
                text = f"the link was stopped before {topic_filter} was granted"
                subscription.future.set_exception(LinkError("link-offline", text))
        self._wake_r.close()
        self._wake_w.close()

    @staticmethod
    def _guard(callback: Callable[[T], None] | None, value: T) -> None:
        """Call somebody else's code, which must not take the network thread with it."""
        if callback is None:
            return
        try:
            callback(value)
        except BaseException:
            log.exception("a callback of the link raised; the link goes on")


def _require_files(tls: LinkTLS | None) -> None:
    for path in (tls.ca, tls.cert, tls.key) if tls else ():
        if path is not None and not Path(path).is_file():
            raise ConfigError("file-missing", f"the TLS file {path} does not exist")
