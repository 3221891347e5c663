"""Evidence goes out by one datagram each, and an app whose evidence cannot go out is told so once."""

from __future__ import annotations

import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgesdk.app.reporter import Reporter
from edgesdk.generation import evidence_socket

NOBODY = 65534


@pytest.fixture
def store() -> Iterator[Path]:
    """A store that everybody may look into, as the agent's is."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def door(store: Path) -> Iterator[socket.socket]:
    """The agent's socket: for its user and group only."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as found:
        found.bind(str(evidence_socket(store)))
        evidence_socket(store).chmod(0o660)
        found.setblocking(False)
        yield found


def test_an_app_outside_the_agents_group_is_told_once(store: Path, door: socket.socket) -> None:
    """Without that its trials would wait for ever for evidence that nobody sees to be missing."""
    if os.getuid() != 0:
        evidence_socket(store).chmod(0)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # a user of its own: root may write anywhere
        if os.getuid() == 0:
            os.setgroups([])
            os.setgid(NOBODY)
            os.setuid(NOBODY)
        handler = logging.StreamHandler(os.fdopen(write, "w"))
        logging.getLogger("edgesdk.app.reporter").addHandler(handler)
        reporter = Reporter(store, "tiny", "test")
        for _ in range(3):
            reporter.send("loading", "0" * 64)
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as said:
        lines = said.read().splitlines()
    assert os.waitpid(child, 0)[1] == 0
    assert len(lines) == 1
    assert "evidence does not reach the agent" in lines[0]
    assert "usermod -aG" in lines[0]
    with pytest.raises(BlockingIOError):
        door.recv(1)


def test_without_an_agent_nothing_is_said(store: Path, caplog: pytest.LogCaptureFixture) -> None:
    """An agent that is stopped is no fault of the app's: what it does not hear is lost, silently."""
    Reporter(store, "tiny", "test").send("loading", "0" * 64)
    assert not caplog.records


def test_what_is_sent_arrives(store: Path, door: socket.socket) -> None:
    """One send is one datagram."""
    Reporter(store, "tiny", "test").send("loading", "0" * 64)
    assert b'"loading"' in door.recv(65536)
