"""A short piece of `benchmarks/soak.py`: five updates, with agent, broker and hub killed at random moments."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import soak


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_updates_end_right_whoever_is_killed(tmp_path: Path) -> None:
    """Good releases are committed, bad ones are not, and what serves is whole, as hub and device both say."""
    tally = soak.run(tmp_path, 5, seed=3)
    assert tally.wrong == []
    assert sum(tally.ended.values()) == 5
    assert tally.kills
