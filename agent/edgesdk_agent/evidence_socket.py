"""The door for evidence: a Unix datagram socket that apps of the device may write to.

The kernel says who sent a datagram (SO_PASSCRED): one that names another process than its sender is dropped. Nothing
that arrives here can stop the agent; what is wrong is counted.
"""

from __future__ import annotations

import grp
import logging
import os
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from edgesdk.errors import ConfigError, LinkError
from edgesdk.protocol.evidence import MAX_DATAGRAM, Evidence, decode_evidence

logger = logging.getLogger(__name__)

MODE = 0o660
CREDENTIALS = struct.Struct("3i")
RECEIVE_BUFFER = 1 << 20


@dataclass(slots=True)
class Counts:
    """What came through the door since the agent started."""

    received: int = 0
    malformed: int = 0
    denied: int = 0


class EvidenceSocket:
    """Receives evidence on a thread of its own.

    Args:
        path: Of the socket; a socket that an earlier run left is replaced.
        deliver: Called with every valid datagram; what it raises is logged and counted as malformed.
        group: Group that may write to the socket; "": the agent's own.
        uids: Users that are let in besides root and the agent's own; empty: whoever may write.

    Raises:
        ConfigError: ``config-invalid`` if the group does not exist.
    """

    def __init__(
        self, path: Path, deliver: Callable[[Evidence], None], *, group: str = "", uids: tuple[int, ...] = ()
    ) -> None:
        self.counts = Counts()
        self._path = path
        self._deliver = deliver
        self._uids = frozenset({0, os.getuid(), *uids}) if uids else None
        self._socket = _bind(path, group)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._receive, name="edge-evidence", daemon=True)

    def start(self) -> None:
        """Begin to receive."""
        self._thread.start()

    def close(self) -> None:
        """Stop receiving and remove the socket."""
        self._stopping.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        if self._thread.is_alive():
            self._thread.join(2.0)
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _receive(self) -> None:
        while not self._stopping.is_set():
            try:
                data, ancillary, flags, _ = self._socket.recvmsg(MAX_DATAGRAM + 1, socket.CMSG_SPACE(CREDENTIALS.size))
            except OSError:
                if not self._stopping.is_set():
                    logger.exception("the evidence socket failed; apps are not heard until the agent restarts")
                return
            if self._stopping.is_set() or not ancillary:
                continue
            self.counts.received += 1
            self._take(data, ancillary, truncated=bool(flags & socket.MSG_TRUNC))

    def _take(self, data: bytes, ancillary: list[tuple[int, int, bytes]], *, truncated: bool) -> None:
        pid, uid = _sender(ancillary)
        if self._uids is not None and uid not in self._uids:
            self.counts.denied += 1
            return
        try:
            if truncated:
                raise LinkError("message-too-large", f"an evidence datagram of more than {MAX_DATAGRAM} bytes")  # noqa: TRY301 - counted like the others
            evidence = decode_evidence(data)
        except LinkError as error:
            self.counts.malformed += 1
            logger.debug("dropped a datagram of process %d: %s", pid, error)
            return
        if evidence.pid != pid:
            self.counts.denied += 1
            return
        try:
            self._deliver(evidence)
        except Exception:
            self.counts.malformed += 1
            logger.exception("a datagram of process %d could not be used", pid)


def _bind(path: Path, group: str) -> socket.socket:
    path.unlink(missing_ok=True)
    door = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        door.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        _bind_in(path.parent, path.name, door)
        if group:
            os.chown(path, -1, grp.getgrnam(group).gr_gid)
    except KeyError:
        door.close()
        raise ConfigError("config-invalid", f"store.apps_group: there is no group {group!r}") from None
    except OSError as error:
        door.close()
        raise ConfigError("config-invalid", f"the evidence socket {path} cannot be made: {error}") from error
    return door


def _bind_in(folder: Path, name: str, door: socket.socket) -> None:
    """Bind by way of the open folder: a socket address holds 107 bytes, a path may be longer."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    before = os.umask(0o777 & ~MODE)
    try:
        door.bind(f"/proc/self/fd/{handle}/{name}")
    finally:
        os.umask(before)
        os.close(handle)


def _sender(ancillary: list[tuple[int, int, bytes]]) -> tuple[int, int]:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS) and len(data) >= CREDENTIALS.size:
            pid, uid, _gid = CREDENTIALS.unpack_from(data)
            return pid, uid
    return 0, -1
