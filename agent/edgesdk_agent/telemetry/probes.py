"""Readings of the device itself, from `/proc` and `/sys`; what cannot be read is None, never a guess."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from edgesdk.protocol.messages import DeviceTelemetry

PLAUSIBLE_CELSIUS = (-40.0, 150.0)
IDLE_FIELDS = (3, 4)
"""`idle` and `iowait` in the first line of /proc/stat, see proc_stat(5)."""


class Probes:
    """Reads the device.

    Args:
        store: Folder whose file system is watched.
        root: Where `/proc` and `/sys` are found, for tests.
    """

    def __init__(self, store: Path, *, root: Path = Path("/")) -> None:
        self._store = store
        self._root = root
        self._ticks = self._cpu_ticks()

    def read(self, clock: Literal["proven", "unproven"]) -> DeviceTelemetry:
        """Take all readings; the CPU share is that since the last call."""
        return DeviceTelemetry(
            cpu_share=self._cpu_share(),
            agent_rss=self._agent_rss(),
            memory_free=self.memory_free(),
            disk_free=self.disk_free(),
            temperature=self._temperature(),
            uptime_s=self._uptime(),
            clock=clock,
        )

    def memory_free(self) -> int | None:
        """Return the bytes of memory that can be had without swapping."""
        return self._meminfo("MemAvailable")

    def celsius(self) -> float | None:
        """Return the temperature of the hottest plausible zone."""
        return self._temperature()

    def memory_bytes(self) -> int:
        """Return the memory of the machine; 0 if it is not known."""
        return self._meminfo("MemTotal") or 0

    def disk_free(self) -> int | None:
        """Return the bytes that the agent may still write."""
        try:
            room = os.statvfs(self._store)
        except OSError:
            return None
        return room.f_bavail * room.f_frsize

    def boot_id(self) -> str:
        """Return the kernel's id of this boot; "" if it has none."""
        return self._text("proc/sys/kernel/random/boot_id").strip()

    def _text(self, path: str) -> str:
        try:
            return (self._root / path).read_text(encoding="ascii", errors="replace")
        except OSError:
            return ""

    def _numbers(self, path: str, *, skip: int = 0) -> list[float]:
        try:
            return [float(word) for word in self._text(path).split("\n", 1)[0].split()[skip:]]
        except ValueError:
            return []

    def _cpu_ticks(self) -> tuple[float, float] | None:
        fields = self._numbers("proc/stat", skip=1)
        if len(fields) <= max(IDLE_FIELDS):
            return None
        total = sum(fields[:8])
        return total - sum(fields[index] for index in IDLE_FIELDS), total

    def _cpu_share(self) -> float | None:
        before, self._ticks = self._ticks, self._cpu_ticks()
        if before is None or self._ticks is None or self._ticks[1] <= before[1]:
            return None
        share = (self._ticks[0] - before[0]) / (self._ticks[1] - before[1])
        return round(min(1.0, max(0.0, share)), 4)

    def _agent_rss(self) -> int | None:
        pages = self._numbers("proc/self/statm")
        return int(pages[1]) * os.sysconf("SC_PAGE_SIZE") if len(pages) > 1 else None

    def _meminfo(self, name: str) -> int | None:
        for line in self._text("proc/meminfo").splitlines():
            key, _, rest = line.partition(":")
            words = rest.split()
            if key == name and words and words[0].isdigit():
                return int(words[0]) * 1024
        return None

    def _temperature(self) -> float | None:
        """Return the hottest plausible zone in degrees Celsius."""
        zones = sorted((self._root / "sys/class/thermal").glob("thermal_zone*"))
        read = [self._numbers(f"sys/class/thermal/{zone.name}/temp") for zone in zones]
        celsius = [values[0] / 1000 for values in read if values]
        low, high = PLAUSIBLE_CELSIUS
        return max((value for value in celsius if low <= value <= high), default=None)

    def _uptime(self) -> float | None:
        seconds = self._numbers("proc/uptime")
        return seconds[0] if seconds else None
