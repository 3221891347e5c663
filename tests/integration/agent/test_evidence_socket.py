"""The evidence socket: who may speak, and that nothing said there can hurt."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from edgesdk_agent.evidence_socket import EvidenceSocket

from edgesdk.errors import ConfigError
from edgesdk.protocol.evidence import MAX_DATAGRAM, Evidence, encode_evidence


class Heard:
    """Collects evidence; a datagram may be waited for."""

    def __init__(self) -> None:
        self.evidence: list[Evidence] = []
        self.came = threading.Semaphore(0)
        self.fail = False

    def __call__(self, evidence: Evidence) -> None:
        self.came.release()
        if self.fail:
            raise RuntimeError("cannot")
        self.evidence.append(evidence)

    def wait(self) -> None:
        assert self.came.acquire(timeout=10)


@pytest.fixture
def heard() -> Heard:
    return Heard()


Open = Callable[..., EvidenceSocket]


@pytest.fixture
def door(tmp_path: Path, heard: Heard) -> Iterator[Open]:
    opened: list[EvidenceSocket] = []

    def make(**options: object) -> EvidenceSocket:
        made = EvidenceSocket(tmp_path / "evidence.sock", heard, **options)
        made.start()
        opened.append(made)
        return made

    yield make
    for each in opened:
        each.close()


def evidence(pid: int | None = None, seq: int = 1) -> bytes:
    return encode_evidence(
        Evidence(
            v=1,
            kind="counters",
            app="app",
            pid=pid or os.getpid(),
            session="session-1",
            seq=seq,
            model="tiny",
            generation="0" * 64,
        )
    )


def send(path: Path, *datagrams: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.connect(str(path))
        for datagram in datagrams:
            sender.send(datagram)


def test_an_app_is_heard(door: Open, heard: Heard, tmp_path: Path) -> None:
    """A valid datagram arrives whole; the socket is for owner and group only."""
    opened = door()
    send(tmp_path / "evidence.sock", evidence())
    heard.wait()
    assert heard.evidence[0].app == "app"
    assert opened.counts.received == 1
    assert stat.S_IMODE((tmp_path / "evidence.sock").stat().st_mode) == 0o660


def test_a_datagram_in_the_name_of_another_process_is_dropped(door: Open, heard: Heard, tmp_path: Path) -> None:
    """The kernel names the sender; who claims another pid is not believed, and the next honest one is."""
    opened = door()
    send(tmp_path / "evidence.sock", evidence(pid=1), evidence())
    heard.wait()
    assert [each.pid for each in heard.evidence] == [os.getpid()]
    assert opened.counts.denied == 1


def test_garbage_is_counted_and_nothing_stops(door: Open, heard: Heard, tmp_path: Path) -> None:
    """Empty, broken, deep and oversized datagrams are counted; the door stays open."""
    opened = door()
    garbage = (b"{", b"\xff\xfe", b"[" * 50_000, b"x" * (MAX_DATAGRAM + 1), b"null", b"")
    send(tmp_path / "evidence.sock", *garbage, evidence())
    heard.wait()
    assert len(heard.evidence) == 1
    assert opened.counts.malformed == len(garbage)


def test_a_receiver_that_fails_does_not_close_the_door(door: Open, heard: Heard, tmp_path: Path) -> None:
    """An exception while evidence is used is counted; the next datagram arrives."""
    opened = door()
    heard.fail = True
    send(tmp_path / "evidence.sock", evidence())
    heard.wait()
    heard.fail = False
    send(tmp_path / "evidence.sock", evidence(seq=2))
    heard.wait()
    assert opened.counts.malformed == 1


@pytest.mark.skipif(os.getuid() != 0, reason="only root can speak as another user")
def test_only_listed_users_are_heard(door: Open, heard: Heard, tmp_path: Path) -> None:
    """With a list of users others are denied, whatever the file mode lets them do."""
    opened = door(uids=(4242,))
    text = (
        "import os, socket, sys\n"
        "door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); door.connect(sys.argv[1])\n"
        "os.setuid(int(sys.argv[2]))\n"
        "door.send(sys.argv[3].replace('PID', str(os.getpid())).encode())\n"
    )
    body = evidence().decode().replace(f'"pid":{os.getpid()}', '"pid":PID')
    for uid in (4343, 4242):
        subprocess.run([sys.executable, "-S", "-c", text, str(tmp_path / "evidence.sock"), str(uid), body], check=True)
    heard.wait()
    assert len(heard.evidence) == 1
    assert opened.counts.denied == 1


def test_an_old_socket_is_replaced(door: Open, heard: Heard, tmp_path: Path) -> None:
    """A socket file that a killed agent left does not keep the next one from starting."""
    stale = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    stale.bind(str(tmp_path / "evidence.sock"))
    stale.close()
    door()
    send(tmp_path / "evidence.sock", evidence())
    heard.wait()


def test_a_long_path_works(tmp_path: Path, heard: Heard) -> None:
    """A store deeper than a socket address can hold is no problem."""
    folder = tmp_path / ("d" * 100) / ("e" * 60)
    folder.mkdir(parents=True)
    opened = EvidenceSocket(folder / "evidence.sock", heard)
    opened.start()
    assert (folder / "evidence.sock").is_socket()
    opened.close()
    assert not (folder / "evidence.sock").exists()


def test_an_unknown_group_is_a_configuration_error(tmp_path: Path, heard: Heard) -> None:
    """The message names the key."""
    with pytest.raises(ConfigError, match=r"store\.apps_group"):
        EvidenceSocket(tmp_path / "evidence.sock", heard, group="no-such-group")
