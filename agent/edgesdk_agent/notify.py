"""Telling systemd how the agent is: sd_notify(3) from the standard library."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from contextlib import suppress


class Notifier:
    """Sends states to ``NOTIFY_SOCKET``; without one every call does nothing.

    Attributes:
        watchdog_seconds: Seconds between two signs of life (half of systemd's limit); None: systemd does not watch.
    """

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        limit = environment.get("WATCHDOG_USEC", "")
        watched = limit.isdigit() and environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_seconds = int(limit) / 2_000_000 if watched else None

    def send(self, *states: str) -> None:
        """Send ``READY=1``, ``WATCHDOG=1``, ``STOPPING=1``, ``STATUS=…``; a deaf systemd is no error."""
        if not self._address:
            return
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as door:
            door.sendto("\n".join(states).encode(), self._address)
