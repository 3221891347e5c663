"""Channels that stand or fall together: union-find over channel numbers, some of them pinned with a reason."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Slots = NDArray[np.int64]
"""One channel number for each place along a tensor's last axis."""


class Channels:
    """Channel numbers; tied ones have one root."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._pins: dict[int, str] = {}

    def new(self, count: int) -> Slots:
        """Return `count` channels that are tied to none."""
        first = len(self._parent)
        self._parent += range(first, first + count)
        return np.arange(first, first + count)

    def tie(self, first: Slots, second: Slots) -> None:
        """Make each place of `first` and the same place of `second` one channel: both are removed or neither."""
        for a, b in zip(first.tolist(), second.tolist(), strict=True):
            low, high = sorted((self._root(a), self._root(b)))
            self._parent[high] = low

    def pin(self, slots: Slots, why: str) -> None:
        """Forbid to remove channels; the first reason is kept."""
        for slot in slots.tolist():
            self._pins.setdefault(slot, why)

    def roots(self, slots: Slots) -> Slots:
        """Return the one number that stands for each channel."""
        return np.array([self._root(slot) for slot in slots.tolist()], dtype=np.int64)

    def pinned(self) -> dict[int, str]:
        """Return the reason by root of every channel that must stay."""
        return {self._root(slot): why for slot, why in reversed(self._pins.items())}

    def _root(self, slot: int) -> int:
        while self._parent[slot] != slot:
            self._parent[slot] = self._parent[self._parent[slot]]
            slot = self._parent[slot]
        return slot
