"""Lines of a contract that nobody has checked yet. Pure."""

from __future__ import annotations

MARK = "CHECK"
NAMED = 8


def unchecked(text: str) -> str:
    """Return in words how many lines of a contract are still marked, and which; nothing if none is."""
    names = [
        f"{_name(line)} (line {number})"
        for number, line in enumerate(text.splitlines(), 1)
        if f"# {MARK}" in line and not line.startswith("# Drafted")
    ]
    if not names:
        return ""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    still = f"{len(names)} lines are" if len(names) > 1 else "1 line is"
    return f"{still} still marked {MARK}: {', '.join(names[:NAMED])}{more}"


def _name(line: str) -> str:
    return line.partition(f"# {MARK}")[0].partition("=")[0].strip("# ")
