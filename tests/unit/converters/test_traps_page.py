"""docs/traps.md names a test for every trap; here, that each of them is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "traps.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)


def test_every_test_that_the_page_names_is_there():
    """A test that was renamed or removed takes its trap off the page, or is put back."""
    assert len(NAMED) > 40
    missing = [
        f"{path}::{name}"
        for path, name in NAMED
        if not (ROOT / path).is_file() or f"def {name}(" not in (ROOT / path).read_text()
    ]
    assert missing == []


def test_every_trap_names_a_test():
    """No row of the tables is a promise without a test."""
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "---" not in line and "held by" not in line]
    assert len(rows) > 35
    assert [row for row in rows if "::test_" not in row] == []
