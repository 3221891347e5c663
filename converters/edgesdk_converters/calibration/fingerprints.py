"""Which rows are equal, in bounded memory: a bottom-k sketch of row hashes. Pure."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

CAPACITY = 65_536


class Fingerprints:
    """The smallest hashes of the rows seen, with how often each was seen.

    Exact while there are at most `capacity` different rows. Beyond that it knows every row whose hash lies under
    `limit`, which is a uniform sample of the *different* rows (Beyer et al., "On synopses for distinct-value
    estimation", 2007), and the same rows in every set: so overlaps can be counted in it.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._counts: Counter[int] = Counter()
        self.limit = 1 << 64
        self.seen = 0

    def add(self, hashes: Iterable[int]) -> None:
        """Count rows."""
        for value in hashes:
            self.seen += 1
            if value < self.limit:
                self._counts[value] += 1
        if len(self._counts) > 2 * self._capacity:
            self.limit = sorted(self._counts)[self._capacity]
            self._counts = Counter({value: count for value, count in self._counts.items() if value < self.limit})

    @property
    def distinct(self) -> int:
        """Different rows: exact below the capacity, else estimated."""
        return round(len(self._counts) * ((1 << 64) / self.limit))

    @property
    def repeated_share(self) -> float:
        """Share of rows that are a repetition of another one."""
        known = self._counts.total()
        return 1 - len(self._counts) / known if known else 0.0

    def shared_with(self, other: Fingerprints) -> float:
        """Return the share of these rows that are in `other` too."""
        limit = min(self.limit, other.limit)
        known = {value: count for value, count in self._counts.items() if value < limit}
        total = sum(known.values())
        return sum(count for value, count in known.items() if value in other._counts) / total if total else 0.0


def row_hashes(arrays: Iterable[NDArray[np.float32]]) -> list[int]:
    """Return one 64-bit hash per row over all `arrays` [n, …]; equal values hash equally, whatever their dtype was."""
    flat = [np.ascontiguousarray(array.reshape(len(array), -1) + np.float32(0)) for array in arrays]  # -0.0 is 0.0
    return [_hash(rows) for rows in zip(*flat, strict=True)]


def _hash(rows: tuple[NDArray[np.float32], ...]) -> int:
    digest = hashlib.blake2b(digest_size=8)
    for row in rows:
        digest.update(row.tobytes())
    return int.from_bytes(digest.digest(), "big")
