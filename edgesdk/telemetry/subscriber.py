"""Subscribing to a fleet's telemetry and events: typed, each once, with notice of what is missing."""

from __future__ import annotations

import logging
import queue
import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self
from urllib.parse import urlsplit

from edgesdk.errors import ConfigError, LinkError
from edgesdk.protocol import messages, topics
from edgesdk.protocol.link import Link, LinkState, LinkTLS, Message
from edgesdk.telemetry.sequence import Gap, SequenceTracker

__all__ = ["Gap", "Item", "Subscription", "subscribe"]

log = logging.getLogger(__name__)

Kind = Literal["telemetry", "event"]
Item = messages.Record | messages.Event | Gap
KINDS: Final[tuple[Kind, ...]] = ("telemetry", "event")
BACKLOG = 10_000
"""Messages that wait for a slow reader; beyond, they are dropped, counted, and show as gaps."""
_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """A broker's address; `tls` for ``mqtts``."""

    host: str
    port: int
    tls: bool
    username: str | None


def parse_broker(url: str) -> Address:
    """Parse ``mqtt://[user@]host[:port]`` or ``mqtts://…``.

    Raises:
        ConfigError: ``argument-invalid``.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ConfigError("argument-invalid", f"{url!r} is no broker address: {error}") from error
    if parts.scheme not in _PORTS or not parts.hostname or parts.path.strip("/") or parts.password is not None:
        raise ConfigError("argument-invalid", "expected mqtt://HOST[:PORT] or mqtts://HOST[:PORT], without a password")
    return Address(
        host=parts.hostname, port=port or _PORTS[parts.scheme], tls=parts.scheme == "mqtts", username=parts.username
    )


class Subscription:
    """An endless iterator over records, events and gaps; close it, or use it in a ``with`` block.

    Attributes:
        duplicates: Messages that came again and were dropped.
        invalid: Messages that did not follow their schema or were on another device's topic; logged and dropped.
        dropped: Messages dropped as the reader was too slow.
    """

    def __init__(self, *, count_gaps: bool) -> None:
        self.duplicates = 0
        self.invalid = 0
        self.dropped = 0
        self._count_gaps = count_gaps
        self._trackers: dict[str, SequenceTracker] = {kind: SequenceTracker(channel=kind) for kind in KINDS}
        self._inbox: queue.Queue[Message | None] = queue.Queue(BACKLOG)
        self._ready: deque[Item] = deque()
        self._link: Link | None = None
        self._closed = False
        self._last_error: LinkError | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Item]:
        return self

    def __next__(self) -> Item:
        item = self.get()
        if item is None:
            raise StopIteration
        return item

    def get(self, timeout: float | None = None) -> Item | None:
        """Return the next item; None when the subscription is closed.

        Raises:
            TimeoutError: Nothing came within `timeout` seconds.
        """
        while not self._ready:
            if self._closed:
                return None
            try:
                message = self._inbox.get(timeout=timeout)
            except queue.Empty:
                raise TimeoutError from None
            if message is not None:
                self._ready.extend(self._items(message))
        return self._ready.popleft()

    def close(self) -> None:
        """End the subscription; a reader that waits is let go."""
        self._closed = True
        if self._link is not None:
            self._link.stop()
        with suppress(queue.Full):  # then nobody waits
            self._inbox.put_nowait(None)

    def _on_message(self, message: Message) -> None:
        try:
            self._inbox.put_nowait(message)
        except queue.Full:
            self.dropped += 1

    def _on_state(self, state: LinkState) -> None:
        if state.error is not None:
            self._last_error = state.error

    def _items(self, message: Message) -> list[Item]:
        """Turn one message into items: gaps first, then the record; nothing when it came before."""
        try:
            record = _decode(message)
        except LinkError as error:
            self.invalid += 1
            log.warning("dropped a message on %s: %s", message.topic, error)
            return []
        tracker = self._trackers["event" if isinstance(record, messages.Event) else "telemetry"]
        items: list[Item] = []
        if self._count_gaps:
            for lost in record.lost:
                for first, last in lost.ranges:
                    items += tracker.declare_lost(record.device, lost.run, first, last)
        new, gaps = tracker.observe(record.device, record.run, record.seq)
        if not new:
            self.duplicates += 1
            return items
        return [*items, *(gaps if self._count_gaps else ()), record]


def _decode(message: Message) -> messages.Record | messages.Event:
    topic = topics.parse(message.topic)
    if topic is None or topic.channel not in KINDS:
        raise LinkError("message-invalid", "the topic is none of telemetry's")
    record: messages.Record | messages.Event
    if topic.channel == "telemetry":
        record, schema = messages.decode(message.payload, messages.Record), messages.TELEMETRY_SCHEMA
    else:
        record, schema = messages.decode(message.payload, messages.Event), messages.EVENT_SCHEMA
    if record.schema != schema:
        raise LinkError("message-invalid", f"expected schema {schema}, got {record.schema!r}")
    if (record.fleet, record.device) != (topic.fleet, topic.device):
        raise LinkError("message-invalid", f"it says that it is of {record.fleet}/{record.device}")
    return record


def subscribe(
    broker: str,
    *,
    fleet: str = "+",
    device: str = "+",
    kinds: Sequence[Kind] = KINDS,
    group: str | None = None,
    ca: Path | None = None,
    cert: Path | None = None,
    key: Path | None = None,
    client_id: str | None = None,
    session_expiry: int = 0,
    connect_timeout: float = 10.0,
) -> Subscription:
    """Subscribe to what devices report.

    Duplicates are dropped by (device, run, topic, seq). Missing records are announced as `Gap`, except in a group,
    where they went to another member. After the first connection the subscription reconnects by itself.

    Args:
        broker: ``mqtt://host:port``, or ``mqtts://host:port`` with `ca` and, as the shipped broker asks, `cert` and
            `key` of a subscriber.
        fleet: A fleet's id, or ``+`` for all.
        device: A device's id, or ``+`` for all.
        kinds: What to receive.
        group: Share the work with other subscribers of this group: each record goes to one of them.
        ca: Authority that signed the broker's certificate.
        cert: The subscriber's certificate.
        key: Its private key.
        client_id: Needed to resume a session; random when left out. With certificates the broker uses their name.
        session_expiry: Seconds for which the broker keeps what this subscriber misses while away; needs `client_id`.
        connect_timeout: Seconds to wait for the first connection.

    Returns:
        The subscription, granted by the broker.

    Raises:
        ConfigError: ``argument-invalid`` or ``file-missing``.
        LinkError: The broker could not be reached or refused.
    """
    address = parse_broker(broker)
    if not kinds or not set(kinds) <= set(KINDS):
        raise ConfigError("argument-invalid", f"expected kinds out of {', '.join(KINDS)}, got {list(kinds)}")
    if address.tls and ca is None:
        raise ConfigError("argument-invalid", "mqtts:// needs the authority's certificate, `ca`")
    subscription = Subscription(count_gaps=group is None)
    link = Link(
        address.host,
        address.port,
        client_id or f"subscriber-{secrets.token_hex(6)}",
        username=address.username or "subscriber",
        tls=LinkTLS(ca=ca, cert=cert, key=key) if address.tls and ca is not None else None,
        clean_start=client_id is None,
        session_expiry=session_expiry if client_id else 0,
        on_message=subscription._on_message,  # noqa: SLF001 # made here, for this
        on_state=subscription._on_state,  # noqa: SLF001 # made here, for this
    )
    subscription._link = link  # noqa: SLF001 # made here, for this
    granted = [link.subscribe(topics.every_up(kind, fleet=fleet, device=device, group=group)) for kind in kinds]
    link.start()
    _await(granted, subscription, address, connect_timeout)
    return subscription


def _await(granted: list[Future[None]], subscription: Subscription, address: Address, timeout: float) -> None:
    try:
        for future in granted:
            future.result(timeout)
    except TimeoutError:
        subscription.close()
        error = subscription._last_error  # noqa: SLF001 # same module
        raise error or LinkError("link-offline", f"{address.host}:{address.port} did not answer in time") from None
    except LinkError:
        subscription.close()
        raise
