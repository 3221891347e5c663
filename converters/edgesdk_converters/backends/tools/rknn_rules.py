"""Building without those rewriting rules of Rockchip's toolkit that fail.

Some rules fail on graphs that the toolkit builds well without them. It then names the rule that failed, and how to
leave it out (``disable_rules``). Without it the others may take longer than a step may by default (Basic Pitch).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any

MOST_RULES = 8
"""Where more of them fail, the fault is not theirs."""
_FAILED = re.compile(r"disable_rules=\['(\w+)'\]")


class Heard:
    """A stream that keeps what is written.

    Args:
        stream: Where all that is written goes; a file of the operating system's.
    """

    def __init__(self, stream: Any) -> None:
        self.text = ""
        self._stream = stream

    def write(self, text: str) -> int:
        """Pass it on, and keep it."""
        self.text += text
        return int(self._stream.write(text))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def build_without(build: Callable[[list[str]], Any], heard: Heard) -> tuple[Any, list[str]]:
    """Build without those rules that fail; return what was built, and their names in the order in which they failed.

    Args:
        build: Builds without the rules named to it, or raises.
        heard: Hears what the toolkit says.
    """
    left_out: list[str] = []
    while True:
        heard.text = ""
        try:
            return build(list(left_out)), left_out
        except (Exception, SystemExit):
            failed = failed_rule(heard.text, left_out)
            if failed is None or len(left_out) == MOST_RULES:
                raise
        left_out.append(failed)
        heard.write(f"building again without rule {failed}, which fails on this model\n")


def failed_rule(said: str, left_out: Collection[str]) -> str | None:
    """Return the rule that the toolkit says has failed; None if it names none, or one that was left out."""
    found = _FAILED.search(said)
    return found[1] if found is not None and found[1] not in left_out else None
