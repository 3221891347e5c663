"""Which time to believe: a floor that only verified signed times raise, and the system's clock once it is proven.

A device may boot in 1970 or 2038. While its clock is unproven, expiry is judged at floor + time since the floor was
learnt (monotonic): never earlier than a time that somebody trusted has signed, never later than it can be.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Literal

from edgesdk.clock import Clock, parse_rfc3339, rfc3339

EPOCH = datetime.fromtimestamp(0, UTC)
STA_UNSYNC = 0x40
TIME_ERROR = 5


class _Timex(ctypes.Structure):
    """`struct timex` of adjtimex(2) up to `status`, with room for the rest."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_char * 256),
    )


def kernel_synchronised() -> bool:
    """Say whether the kernel's clock is disciplined (NTP, PTP, GNSS), as adjtimex(2) tells; False if it cannot."""
    timex = _Timex()
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except (OSError, AttributeError):
        return False
    return state not in {-1, TIME_ERROR} and not timex.status & STA_UNSYNC


class TrustedTime:
    """The time at which expiry is judged."""

    def __init__(
        self, clock: Clock, floor: str = "", *, synchronised: Callable[[], bool] = kernel_synchronised
    ) -> None:
        self._clock = clock
        self._synchronised = synchronised
        self._floor = parse_rfc3339(floor) if floor else EPOCH
        self._learnt = clock.monotonic()

    @property
    def floor(self) -> str:
        """The floor in RFC 3339."""
        return rfc3339(self._floor)

    @property
    def state(self) -> Literal["proven", "unproven"]:
        """Whether the system's clock is believed: disciplined, and not before the floor."""
        return "proven" if self._synchronised() and self._clock.now() >= self._floor else "unproven"

    def raise_floor(self, floor: str) -> None:
        """Take a verified signed time; an earlier one than the floor changes nothing."""
        moment = parse_rfc3339(floor) if floor else EPOCH
        if moment > self._floor:
            self._floor, self._learnt = moment, self._clock.monotonic()

    def now(self) -> datetime:
        """Return the time to judge expiry at."""
        if self.state == "proven":
            return self._clock.now()
        return self._floor + timedelta(seconds=self._clock.monotonic() - self._learnt)
