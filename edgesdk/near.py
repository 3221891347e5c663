"""What somebody may have meant by a word that is not known."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

NEAR, SHORTEST = 3, 2
"""Words that are offered at most (of those that only go on where the word ends, one more), and letters of a word that
may be the start of others."""
SAME = {"amd64": "x86_64", "aarch64": "arm64"}
"""Other names of the same."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question that offers the nearest known words, with a space behind it; nothing if none is near."""
    found = nearest(word, known)
    return f"Did you mean {' or '.join(found)}? " if found else ""


def nearest(word: str, known: Iterable[str]) -> list[str]:
    """Return the known words that are nearest, the nearest first.

    A word that is the start of known ones is cut short, not misspelt: these come first, and alone.
    """
    by_key = {_key(each): each for each in known}
    key = _key(word)
    longer = sorted((each for each in by_key if len(key) >= SHORTEST and each.startswith(key)), key=natural)
    found = longer[: NEAR + 1] or difflib.get_close_matches(key, by_key, n=NEAR)
    return [by_key[each] for each in found]


def _key(word: str) -> str:
    known = word.casefold()
    for other, name in SAME.items():
        known = known.replace(other, name)
    return known.replace("_", "-")


def natural(word: str) -> list[tuple[int, str]]:
    """Return a key to sort ``u55-64`` before ``u55-128``."""
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.split(r"(\d+)", word)]
