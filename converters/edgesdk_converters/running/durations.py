"""How long steps took when they last ran: for estimates only, so a lost or damaged record is no harm."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path

_NAME = "durations.json"
_MOST = 2000


class Durations:
    """Seconds by what was done, in one small file under the cache."""

    def __init__(self, root: Path) -> None:
        self._path = root / _NAME
        self._seconds = self._read()

    def of(self, action: str, name: str) -> float | None:
        """Return how long a step of this action and name took; None if it never ran here."""
        return self._seconds.get(f"{action}|{name}")

    def note(self, action: str, name: str, seconds: float) -> None:
        """Remember how long a step took; the file is replaced whole."""
        key = f"{action}|{name}"
        self._seconds = {**self._read(), key: round(seconds, 2)}
        kept = dict(list(self._seconds.items())[-_MOST:])
        with contextlib.suppress(OSError):
            handle, partial = tempfile.mkstemp(dir=self._path.parent, prefix=f".{_NAME}.")
            with os.fdopen(handle, "w") as file:
                json.dump(kept, file)
            Path(partial).replace(self._path)

    def _read(self) -> dict[str, float]:
        try:
            found = json.loads(self._path.read_bytes())
        except (OSError, ValueError):
            return {}
        items = found.items() if isinstance(found, dict) else ()
        return {str(key): float(value) for key, value in items if isinstance(value, int | float)}
