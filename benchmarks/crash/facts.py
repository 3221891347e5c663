"""What left the device before a fault, read from the notes in a log: promises that must hold after it (pure)."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from crash.shim import Call

OVER = {"idle", "refused", "committed", "rolled_back", "failed"}


@dataclass(slots=True)
class Facts:
    """What the world was told.

    Attributes:
        stated: The last statement; None: none.
        counter: The greatest counter of a statement.
        serial: Of the last desired document that was accepted for good.
        ended: Generations whose trial was stated to be over without a commit.
        condemned: Generations that were stated to be quarantined (rolled back, or refused by testing).
        tested: Whether a trial was ever begun.
        end: How the run says that it ended; "" if it was cut off.
        raised: Exceptions that an injected error became.
        broken: What the run itself found wrong.
        ran: Whether the agent's start was survived.
    """

    stated: dict[str, Any] | None = None
    counter: int = 0
    serial: int = 0
    ended: set[str] = field(default_factory=set)
    condemned: set[str] = field(default_factory=set)
    end: str = ""
    raised: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    ran: bool = False

    def hear(self, calls: Iterable[Call]) -> Facts:
        """Take in the notes of a log (of a part of it: what came before a power cut)."""
        for call in calls:
            if call.op == "note":
                self._take(json.loads(call.data))
        return self

    def _take(self, note: dict[str, Any]) -> None:
        match note:
            case {"stated": stated}:
                self._state(stated)
            case {"accepted": serial}:
                self.serial = max(self.serial, serial)
            case {"resumed": _}:
                self.ran = True
            case {"end": end}:
                self.end = end
            case {"raised": what}:
                self.raised.append(what)
            case {"broken": what}:
                self.broken.append(what)

    def _state(self, stated: dict[str, Any]) -> None:
        self.stated = stated
        self.counter = max(self.counter, stated["counter"])
        generation, state = stated.get("generation"), stated["state"]
        if not generation:
            return
        reason = stated.get("reason") or {}
        if state in {"rolled_back", "failed"} and reason.get("permanent"):
            self.ended.add(generation)
            if reason["code"] not in {"superseded", "generation-quarantined"}:
                self.condemned.add(generation)
        elif state == "trial":
            self.ended.discard(generation)
