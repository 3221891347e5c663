"""The dev broker's only room with I/O: an asyncio server on a loopback address, and a thread of it for tests."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import threading
from collections.abc import Iterator
from itertools import count

from edgesdk.clock import Clock, SystemClock
from edgesdk.devbroker.broker import Broker, Close, Effect, Limits
from edgesdk.devbroker.codec import Decoder, encode
from edgesdk.devbroker.packets import Publish
from edgesdk.devbroker.policy import Acl, edge_acl
from edgesdk.devbroker.wire import PacketError
from edgesdk.errors import ConfigError

log = logging.getLogger(__name__)

READ_SIZE = 64 * 1024
BACKLOG = 4096
"""Connections that may wait to be accepted: a fleet that comes back at once is not turned away."""
MAX_UNSENT = 8 * 1024 * 1024
"""Bytes that may wait for a slow reader; beyond, its messages of QoS 0 are dropped and counted."""


def loopback(host: str) -> str:
    """Return the address to bind to.

    Raises:
        ConfigError: ``insecure-bind`` for anything but a loopback address: this broker asks for no password.
    """
    address = "127.0.0.1" if host == "localhost" else host
    with contextlib.suppress(ValueError):
        if ipaddress.ip_address(address).is_loopback:
            return address
    raise ConfigError(
        "insecure-bind",
        f"the dev broker binds to loopback only; expected 127.0.0.1, got {host!r}",
        hint="Use Mosquitto with the shipped configuration for anything beyond this machine.",
    )


class DevBroker:
    """An MQTT broker on loopback, for demos and tests.

    Args:
        host: A loopback address.
        port: TCP port; 0 lets the system choose, see `port` once started.
        limits: What it takes.
        acl: Who may do what; the roles of `edgesdk.devbroker.policy` by default.
        clock: Source of monotonic time.

    Raises:
        ConfigError: ``insecure-bind``.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: Limits | None = None,
        acl: Acl = edge_acl,
        clock: Clock | None = None,
    ) -> None:
        self.host = loopback(host)
        self.port = port
        self.core = Broker(limits=limits, acl=acl)
        self._clock = clock or SystemClock()
        self._numbers = count(1)
        self._peers: dict[int, tuple[asyncio.StreamWriter, Decoder]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def start(self) -> None:
        """Listen; `port` is real afterwards.

        Raises:
            ConfigError: ``port-in-use``.
        """
        try:
            self._server = await asyncio.start_server(self._serve, self.host, self.port, backlog=BACKLOG)
        except OSError as error:
            raise ConfigError("port-in-use", f"cannot listen on {self.host}:{self.port}: {error.strerror}") from error
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Say goodbye to the clients and stop listening."""
        if self._server is not None:
            self._server.close()
        if self._timer is not None:
            self._timer.cancel()
        self._perform(self.core.shutdown())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @classmethod
    @contextlib.contextmanager
    def running(
        cls,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: Limits | None = None,
        acl: Acl = edge_acl,
        clock: Clock | None = None,
    ) -> Iterator[DevBroker]:
        """Run a broker in a thread of its own for the length of a ``with`` block (arguments as for the class)."""
        broker = cls(host=host, port=port, limits=limits, acl=acl, clock=clock)
        started = threading.Event()
        state: dict[str, BaseException] = {}
        loop = asyncio.new_event_loop()
        done = asyncio.Event()

        async def main() -> None:
            try:
                await broker.start()
            except BaseException as error:  # noqa: BLE001 # raised again in the caller's thread
                state["error"] = error
                return
            finally:
                started.set()
            await done.wait()
            await broker.stop()

        def run() -> None:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(main())

        thread = threading.Thread(target=run, name="edge-devbroker", daemon=True)
        thread.start()
        started.wait()
        if "error" in state:
            thread.join()
            raise state["error"]
        try:
            yield broker
        finally:
            loop.call_soon_threadsafe(done.set)
            thread.join()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection = next(self._numbers)
        decoder = Decoder(max_packet=self.core.limits.max_packet)
        self._peers[connection] = (writer, decoder)
        try:
            await self._read(connection, reader, writer, decoder)
        except (ConnectionError, TimeoutError, asyncio.CancelledError):
            pass
        finally:
            self._peers.pop(connection, None)
            self._perform(self.core.lost(connection, self._clock.monotonic()))
            writer.close()
            self._tasks.discard(task)

    async def _read(
        self, connection: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, decoder: Decoder
    ) -> None:
        while connection in self._peers and (data := await reader.read(READ_SIZE)):
            try:
                for packet in decoder.feed(data):
                    if connection not in self._peers:
                        return
                    self._perform(self.core.receive(connection, packet, self._clock.monotonic()))
            except PacketError as error:
                log.info("client broke the protocol: %s", error.message)
                self._perform(self.core.fail(connection, error, self._clock.monotonic()))
            await writer.drain()

    def _perform(self, effects: list[Effect]) -> None:
        for effect in effects:
            peer = self._peers.get(effect.connection)
            if peer is None:
                continue
            writer, decoder = peer
            if isinstance(effect, Close):
                del self._peers[effect.connection]
                writer.close()
                continue
            packet = effect.packet
            slow = writer.transport.get_write_buffer_size() > MAX_UNSENT
            if slow and isinstance(packet, Publish) and not packet.qos:
                self.core.counters["slow-reader"] += 1
            else:
                writer.write(encode(packet, decoder.version))
        self._plan()

    def _plan(self) -> None:
        """Wake up when the core has something to do next."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self.core.next_due()
        if due is not None and self._server is not None and self._server.is_serving():
            delay = max(0.0, due - self._clock.monotonic())
            self._timer = asyncio.get_running_loop().call_later(delay, self._tick)

    def _tick(self) -> None:
        self._perform(self.core.tick(self._clock.monotonic()))
