"""Fixtures of the updater's integration tests."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the child processes of these tests import the same world

from agent_ota_world import RangeServer, World


@pytest.fixture
def server() -> Iterator[RangeServer]:
    """An HTTP server that serves ranges and can misbehave."""
    server = RangeServer()
    yield server
    server.close()


@pytest.fixture
def world(tmp_path: Path, server: RangeServer) -> World:
    """One device with an empty store."""
    return World(tmp_path / "agent", server)
