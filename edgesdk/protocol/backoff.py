"""Waiting longer after each failure, with jitter, so that a fleet does not come back in one instant (pure)."""

from __future__ import annotations

from random import Random


class Backoff:
    """Exponential back-off with "equal jitter": half of each delay is fixed, half is random.

    Args:
        base: First delay in seconds, before jitter.
        cap: Longest delay in seconds.
        random: Source of jitter.
    """

    def __init__(self, *, base: float = 0.5, cap: float = 60.0, random: Random | None = None) -> None:
        self._base = base
        self._cap = cap
        self._random = random or Random()  # noqa: S311 # spreads load, guards nothing
        self._failures = 0

    def next(self) -> float:
        """Return the seconds to wait after one more failure: in [d/2, d] with d = min(cap, base·2^failures)."""
        delay = min(self._cap, self._base * 2.0 ** min(self._failures, 32))
        self._failures += 1
        return delay / 2 + self._random.uniform(0, delay / 2)

    def reset(self) -> None:
        """Note a success."""
        self._failures = 0
