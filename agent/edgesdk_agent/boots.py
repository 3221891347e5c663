"""How the run before ended: so that a power cut is not held against a model, and a model that kills the device is.

`ended` decides (pure); `Boots` reads what the kernel left behind and remembers it in `state.db`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from edgesdk_agent.store.state import StateDb

End = Literal["first", "stopped", "killed", "planned", "power loss", "watchdog", "crash"]
BLAMELESS: frozenset[End] = frozenset({"first", "stopped", "planned", "power loss"})
"""Ends that say nothing about what was being tested or tried."""
DEVICE_WENT_DOWN: frozenset[End] = frozenset({"watchdog", "crash"})

WDIOF_CARDRESET = 0x0020
"""`bootstatus` of a watchdog that reset the machine (linux/watchdog.h)."""
KEY = "last_run"


class LastRun(msgspec.Struct, frozen=True, kw_only=True):
    """What a run leaves for the next one.

    Attributes:
        boot: The kernel's id of the boot.
        clean: It was asked to stop, and stopped: systemd does that before it powers down.
        records: Names of crash records (pstore) that were there already.
    """

    boot: str
    clean: bool = False
    records: tuple[str, ...] = ()


class Traces(msgspec.Struct, frozen=True, kw_only=True):
    """What the kernel tells now: this boot's id, whether a watchdog made it, and crash records that are there."""

    boot: str
    watchdog: bool = False
    records: tuple[str, ...] = ()


def ended(last: LastRun | None, now: Traces) -> End:
    """Return how the run before ended.

    A watchdog's word counts before a crash record, and both before a clean stop: the device may have gone down after
    the agent had left. What nobody explains is a power loss.
    """
    if last is None:
        return "first"
    if last.boot == now.boot:
        return "stopped" if last.clean else "killed"
    if now.watchdog:
        return "watchdog"
    if set(now.records) - set(last.records):
        return "crash"
    return "planned" if last.clean else "power loss"


class Boots:
    """Remembers runs.

    Args:
        state: Where the last run is kept.
        boot: The kernel's id of this boot.
        root: Where `/sys` is found, for tests.
    """

    def __init__(self, state: StateDb, boot: str, *, root: Path = Path("/")) -> None:
        self._state = state
        self._root = root
        self._now = Traces(boot=boot, watchdog=self._watchdog(), records=self._records())

    def begin(self) -> End:
        """Return how the run before ended, and note that this one runs."""
        last = _decode(self._state.get(KEY))
        self._note(clean=False)
        return ended(last, self._now)

    def end(self) -> None:
        """Note that this run stops because it was asked to."""
        self._note(clean=True)

    def _note(self, *, clean: bool) -> None:
        run = LastRun(boot=self._now.boot, clean=clean, records=self._now.records)
        self._state.set(KEY, msgspec.json.encode(run).decode())

    def _watchdog(self) -> bool:
        for file in sorted((self._root / "sys/class/watchdog").glob("watchdog*/bootstatus")):
            try:
                if int(file.read_text(encoding="ascii"), 0) & WDIOF_CARDRESET:
                    return True
            except (OSError, ValueError):
                continue
        return False

    def _records(self) -> tuple[str, ...]:
        try:
            return tuple(sorted(entry.name for entry in (self._root / "sys/fs/pstore").iterdir()))
        except OSError:
            return ()


def _decode(text: str | None) -> LastRun | None:
    try:
        return msgspec.json.decode(text, type=LastRun) if text else None
    except msgspec.DecodeError:  # of another version of the agent: nothing is known of its end
        return None
