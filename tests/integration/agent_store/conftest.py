"""Fixtures of the store's integration tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from edgesdk_agent.store.state import StateDb


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDb]:
    """A new `state.db`."""
    state = StateDb(tmp_path / "state.db")
    yield state
    state.close()
