"""What somebody may have meant by a word that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

NEAR = 3
"""Words that are offered at most."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question that offers the nearest known words, with a space behind it; nothing if none is near."""
    by_key = {each.casefold().replace("_", "-"): each for each in known}
    found = difflib.get_close_matches(word.casefold().replace("_", "-"), by_key, n=NEAR)
    return f"Did you mean {' or '.join(by_key[key] for key in found)}? " if found else ""
