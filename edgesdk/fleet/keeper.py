"""Keeps the hub's own Mosquitto running: one that ends without being asked to is started again, on the same port."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from edgesdk.errors import EdgeError
from edgesdk.fleet.broker import MosquittoProcess
from edgesdk.protocol.backoff import Backoff

log = logging.getLogger(__name__)
LOOK_S = 0.25
STABLE_LOOKS = 240
"""A broker that was alive at so many looks in a row (a minute) makes the back-off start anew."""


class BrokerKeeper:
    """Watches one broker on a thread of its own.

    Args:
        start: Starts a broker and lets everybody who needs to know it know; called again with the port of the first.
        backoff: Delays between tries.
    """

    def __init__(self, start: Callable[[int], MosquittoProcess], *, backoff: Backoff | None = None) -> None:
        self._start = start
        self._backoff = backoff or Backoff()
        self._broker: MosquittoProcess | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="edge-hub-broker", daemon=True)

    def start(self, port: int) -> MosquittoProcess:
        """Start the broker for the first time.

        Args:
            port: TCP port; 0 chooses a free one.

        Raises:
            ConfigError: As `start_mosquitto`.
            LinkError: As `start_mosquitto`.
        """
        self._broker = self._start(port)
        self._thread.start()
        return self._broker

    def stop(self) -> None:
        """End the watch, then the broker."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._broker is not None:
            self._broker.stop()

    def _watch(self) -> None:
        assert self._broker is not None
        port, looks = self._broker.port, 0
        while not self._stopping.wait(LOOK_S):
            looks += 1
            if not self._broker.alive:
                last = self._broker.log_tail().splitlines()[-1:] or ["it said nothing"]
                log.error("the broker ended by itself; its last words: %s", last[0])
                self._again(port)
                looks = 0
            elif looks == STABLE_LOOKS:
                self._backoff.reset()

    def _again(self, port: int) -> None:
        while not self._stopping.wait(self._backoff.next()):
            try:
                self._broker = self._start(port)
            except EdgeError as error:
                log.error("the broker could not be started again: %s", error)  # noqa: TRY400 - told in one line
            else:
                log.warning("the broker was started again (process %d)", self._broker.pid)
                return
