"""How many bytes of bundles may be downloaded in a day: for links that are paid by volume.

What a day has cost is kept across restarts, written at least every `SAVE_BYTES`.
"""

from __future__ import annotations

from collections.abc import Callable

from edgesdk.errors import DeploymentError

SAVE_BYTES = 1 << 20


class Allowance:
    """Counts what came over the network today.

    Args:
        per_day: The most; 0: no limit.
        today: Names the day; another name begins another count.
        load: Returns what `save` kept; None: nothing.
        save: Keeps a text for later runs.
    """

    def __init__(
        self, per_day: int, *, today: Callable[[], str], load: Callable[[], str | None], save: Callable[[str], None]
    ) -> None:
        self._per_day = per_day
        self._today = today
        self._save = save
        self._day, self._used = _parse(load() or "") if per_day else ("", 0)
        self._saved = self._used

    def check(self) -> None:
        """Refuse to go on when nothing is left.

        Raises:
            DeploymentError: ``download-budget``.
        """
        if not self._per_day:
            return
        self._turn()
        if self._used >= self._per_day:
            raise DeploymentError("download-budget", f"the {self._per_day} bytes that a day may download are used up")

    def count(self, received: int) -> None:
        """Note bytes that came."""
        if not self._per_day:
            return
        self._turn()
        self._used += received
        if self._used - self._saved >= SAVE_BYTES:
            self.save()

    def save(self) -> None:
        """Keep the count for later runs."""
        if self._per_day and self._saved != self._used:
            self._save(f"{self._used} {self._day}")
            self._saved = self._used

    def _turn(self) -> None:
        if (today := self._today()) != self._day:
            self._day, self._used, self._saved = today, 0, 0


def _parse(text: str) -> tuple[str, int]:
    used, _, day = text.partition(" ")
    return (day, int(used)) if used.isdecimal() else ("", 0)
