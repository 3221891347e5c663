"""How transient failures are spaced: exponentially, with jitter so that a fleet does not knock all at once (pure)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

MAX_DOUBLINGS = 30


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off; each wait is drawn evenly from the upper half of its span.

    Attributes:
        draw: Gives numbers evenly from [0, 1).
        first_seconds: Longest wait after the first failure.
        max_seconds: Longest wait after many.
    """

    draw: Callable[[], float]
    first_seconds: float = 2.0
    max_seconds: float = 600.0

    def wait(self, attempts: int) -> float:
        """Return the seconds to wait after so many failures in a row; 0 failures: any part of the first span."""
        span: float = min(self.first_seconds * 2 ** min(max(attempts - 1, 0), MAX_DOUBLINGS), self.max_seconds)
        return span * self.draw() if attempts == 0 else span * (0.5 + self.draw() / 2)
