"""The hub's MQTT side: statements in, desired documents out, and the rollouts moved on in between.

Messages are stored on the link's own thread before they are acknowledged, so the broker's Receive Maximum is the
bounded queue and a hub that dies loses none that it took. One worker thread moves rollouts on and publishes; what is
to be published is in the database, so it is published by whichever hub comes next.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import wait
from urllib.parse import urlsplit

from sqlalchemy import select, update

from edgesdk.errors import ConfigError, LinkError
from edgesdk.fleet.commands import Commands
from edgesdk.fleet.inbox import Inbox
from edgesdk.fleet.operations import Operations
from edgesdk.fleet.tables import DesiredRow
from edgesdk.protocol import topics
from edgesdk.protocol.link import Link, LinkState, LinkTLS, Message, PublishHandle

log = logging.getLogger(__name__)

CLIENT_ID = "hub"
CHANNELS: tuple[topics.Up, ...] = ("presence", "state", "event", "reply")
TICK_S = 1.0
ACK_S = 10.0
BATCH = 200
SESSION_S = 7 * 24 * 3600
"""For so long the broker keeps what devices say while no hub is there."""
PORTS = {"mqtt": 1883, "mqtts": 8883}


def broker_link(url: str, tls: LinkTLS | None) -> tuple[str, int, LinkTLS | None]:
    """Split a broker's URL into host, port and TLS files.

    Raises:
        ConfigError: ``argument-invalid`` for another scheme, or for TLS without files.
    """
    parts = urlsplit(url)
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if parts.scheme not in PORTS or not host:
        raise ConfigError("argument-invalid", f"a broker's URL is mqtt://HOST:PORT or mqtts://HOST:PORT, got {url!r}")
    if parts.scheme == "mqtts" and tls is None:
        raise ConfigError("argument-invalid", f"{url} needs the hub's certificate", hint="Start the hub with --tls.")
    return host, port or PORTS[parts.scheme], tls if parts.scheme == "mqtts" else None


class Controller:
    """Connects a fleet's operations with a broker.

    Args:
        operations: What moves rollouts on; its `wake` is set to this controller's.
        commands: What asks devices; its `publish` is set to the link's, and it is given their replies.
        broker: URL, ``mqtt://`` or ``mqtts://``.
        tls: The hub's client certificate, for ``mqtts://``.
        tick: Called about every second.
    """

    def __init__(
        self,
        operations: Operations,
        commands: Commands,
        broker: str,
        *,
        tls: LinkTLS | None = None,
        tick: Callable[[], None] = lambda: None,
    ) -> None:
        self._operations = operations
        self._tick = tick
        self._registry = operations.registry
        self._inbox = Inbox(self._registry, fleet=operations.fleet, on_reply=commands.replied)
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._republish = threading.Event()
        self._resync = threading.Event()
        host, port, files = broker_link(broker, tls)
        self._link = Link(
            host,
            port,
            CLIENT_ID,
            username=CLIENT_ID,
            tls=files,
            clean_start=False,
            session_expiry=SESSION_S,
            on_message=self._message,
            on_state=self._state,
        )
        self._worker = threading.Thread(target=self._work, name="edge-fleet-controller", daemon=True)
        operations.wake = self._wake.set
        commands.publish = self._link.publish

    @property
    def online(self) -> bool:
        """Whether the broker is connected."""
        return self._link.online

    def start(self, timeout: float = ACK_S) -> None:
        """Connect, subscribe and begin.

        Raises:
            LinkError: ``link-offline`` if the broker does not answer in time, ``link-denied`` if it refuses us.
        """
        self._link.start()
        granted = [self._link.subscribe(topics.every_up(channel, fleet=self._operations.fleet)) for channel in CHANNELS]
        if not self._link.wait_online(timeout):
            self.stop()
            raise LinkError("link-offline", f"the broker did not answer within {timeout:g} s")
        for future in granted:
            future.result(timeout)
        self._worker.start()

    def stop(self) -> None:
        """End; what was not published yet will be by the next hub."""
        self._stopping.set()
        self._wake.set()
        if self._worker.is_alive():
            self._worker.join(2 * ACK_S)
        self._link.stop()

    def _message(self, message: Message) -> None:
        try:
            if self._inbox.receive(message.topic, message.payload):
                self._wake.set()
        except Exception:
            # The database did not take it. The retained state says it again when we ask for it again.
            self._resync.set()
            raise

    def _state(self, state: LinkState) -> None:
        if state.online:
            self._republish.set()
            self._wake.set()

    def _work(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(TICK_S)
            self._wake.clear()
            try:
                self._step()
            except Exception:  # the worker outlives a locked database or a full disk
                log.exception("the controller's step failed; it is tried again")
                self._stopping.wait(TICK_S)

    def _step(self) -> None:
        self._tick()
        if self._resync.is_set() and self._link.online:
            self._resync.clear()
            self._link.subscribe(topics.every_up("state", fleet=self._operations.fleet))
        while self._operations.advance():
            pass
        if self._link.online:
            everything = self._republish.is_set()
            self._republish.clear()
            self._publish(everything=everything)

    def _publish(self, *, everything: bool) -> None:
        """Publish what differs from what was acknowledged; all of it after a reconnect: the broker may have lost it."""
        query = select(DesiredRow)
        if not everything:
            query = query.where(DesiredRow.published_serial != DesiredRow.serial)
        with self._registry.reading() as session:
            rows = session.scalars(query.order_by(DesiredRow.device)).all()
        for start in range(0, len(rows), BATCH):
            if not self._publish_batch(rows[start : start + BATCH]):
                if everything:
                    self._republish.set()
                return

    def _publish_batch(self, rows: Sequence[DesiredRow]) -> bool:
        sent: list[tuple[DesiredRow, PublishHandle]] = []
        try:
            for row in rows:
                topic = topics.down(self._operations.fleet, row.device, "desired")
                sent.append((row, self._link.publish(topic, row.envelope.encode(), retain=True)))
        except LinkError as error:
            log.warning("publishing stopped: %s", error)
        wait([handle.future for _, handle in sent], timeout=ACK_S)
        done = [row for row, handle in sent if _acknowledged(row, handle)]
        with self._registry.writing() as session:
            for row in done:
                marked = update(DesiredRow).where(DesiredRow.device == row.device, DesiredRow.serial == row.serial)
                session.execute(marked.values(published_serial=row.serial))
        return len(done) == len(rows)


def _acknowledged(row: DesiredRow, handle: PublishHandle) -> bool:
    if not handle.future.done():
        return False
    if error := handle.future.exception():
        log.warning("what %s should run was not published: %s", row.device, error)
    return error is None
