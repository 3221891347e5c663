"""Sends what waits in the outbox, with a window in flight; a row is forgotten only when the broker has it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future

import msgspec

from edgesdk.errors import LinkError
from edgesdk_agent.telemetry.outbox import Channel, Outbox, Row

logger = logging.getLogger(__name__)

Publish = Callable[[str, bytes], Future[int]]


class Publisher:
    """Publishes the outbox over one link. `pump` and `connected` belong to one thread.

    Args:
        outbox: What waits.
        publish: Publishes to a topic with QoS 1; the future fails with `LinkError`.
        topics: The topic of each channel.
        window: Messages in flight at once.
        wake: Called (on any thread) when `pump` has something to do.
    """

    def __init__(
        self,
        outbox: Outbox,
        publish: Publish,
        *,
        topics: Mapping[Channel, str],
        window: int,
        wake: Callable[[], None],
    ) -> None:
        self._outbox = outbox
        self._publish = publish
        self._topics = topics
        self._window = window
        self._wake = wake
        self._connection = 0
        self._cursor = 0
        self._historical = 0
        self._in_flight: set[int] = set()
        self._done: deque[tuple[int, Row, BaseException | None]] = deque()

    def connected(self) -> None:
        """Begin anew: everything unacknowledged is sent again, and what is stored by now is historical."""
        self._connection += 1
        self._cursor = 0
        self._historical = self._outbox.newest()
        self._in_flight.clear()

    def pump(self) -> None:
        """Forget what was acknowledged and fill the window. Never blocks."""
        self._settle()
        while len(self._in_flight) < self._window:
            rows = self._outbox.waiting(after=self._cursor, limit=self._window - len(self._in_flight))
            if not rows or not all(self._send(row) for row in rows):
                return

    def _send(self, row: Row) -> bool:
        payload = mark_historical(row.payload) if row.id <= self._historical else row.payload
        try:
            future = self._publish(self._topics[row.channel], payload)
        except LinkError as error:
            logger.debug("not sent now: %s", error)
            return False
        self._cursor = row.id
        self._in_flight.add(row.id)
        connection = self._connection
        future.add_done_callback(lambda done: self._finished(connection, row, done))
        return True

    def _finished(self, connection: int, row: Row, future: Future[int]) -> None:
        """Note the outcome, on the link's thread."""
        self._done.append((connection, row, future.exception()))
        self._wake()

    def _settle(self) -> None:
        acknowledged = []
        while self._done:
            connection, row, error = self._done.popleft()
            if error is None:
                acknowledged.append(row)
            if connection != self._connection:
                continue
            self._in_flight.discard(row.id)
            if isinstance(error, LinkError) and error.code == "link-denied":
                logger.error("the broker denied %s; it is tried again after the next connection", row.channel)
        if acknowledged:
            self._outbox.acknowledge(acknowledged)


def mark_historical(payload: bytes) -> bytes:
    """Return the message with ``historical: true``."""
    message = msgspec.json.decode(payload, type=dict[str, msgspec.Raw])
    return msgspec.json.encode({**message, "historical": True})
