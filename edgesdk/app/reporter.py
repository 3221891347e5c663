"""Sends evidence to the agent: one datagram at a time, never blocking, never failing the app."""

from __future__ import annotations

import grp
import logging
import os
import secrets
import socket
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgesdk.generation import evidence_socket
from edgesdk.protocol.evidence import Evidence, encode_evidence

MAX_APP_NAME = 64

logger = logging.getLogger(__name__)


def app_name(explicit: str | None) -> str:
    """Return the app's name: the argument, else ``EDGESDK_APP``, else the script's name."""
    name = explicit or os.environ.get("EDGESDK_APP") or Path(sys.argv[0] if sys.argv else "").stem
    return (name or "python")[:MAX_APP_NAME]


def _group_of(path: Path) -> str | None:
    try:
        return grp.getgrgid(path.stat().st_gid).gr_name
    except (KeyError, OSError):
        return None


class Reporter:
    """Speaks for one `Model` of one process; `seq` grows with every datagram.

    Args:
        store: The store's folder, in which the agent's socket lies.
        model: The model's name.
        app: The app's name.
    """

    def __init__(self, store: Path, model: str, app: str) -> None:
        self._target = evidence_socket(store)
        self._model, self._app = model, app
        self._warned = False
        self._sdk = f"edgesdk {version('edgesdk')}"
        self.renew()

    def renew(self) -> None:
        """Begin a new session: at the start, and in the child after a fork."""
        self._session, self._seq = secrets.token_hex(8), 0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)

    def send(self, kind: str, generation: str, **facts: Any) -> None:
        """Send one datagram; without an agent, or with a full socket, it is lost, and that is all right."""
        self._seq += 1
        evidence = Evidence(
            v=1,
            kind=kind,  # type: ignore[arg-type]  # the callers are in this package; encode checks nothing
            app=self._app,
            pid=os.getpid(),
            session=self._session,
            seq=self._seq,
            model=self._model,
            generation=generation,
            sdk=self._sdk,
            **facts,
        )
        try:
            self._send(encode_evidence(evidence))
        except PermissionError:
            self._warn()
        except OSError:
            return

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _warn(self) -> None:
        """Say once what no later call will cure: trials wait in vain for the evidence of such an app."""
        if self._warned:
            return
        self._warned = True
        group = _group_of(self._target)
        cure = f"add its user to the group: sudo usermod -aG {group} USER" if group else "let its user write there"
        logger.warning("this app's evidence does not reach the agent: %s may not be written; %s", self._target, cure)

    def _send(self, data: bytes) -> None:
        # By way of the open folder: a socket's address holds 107 bytes, the store's path may be longer.
        folder = os.open(self._target.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._socket.sendto(data, f"/proc/self/fd/{folder}/{self._target.name}")
        finally:
            os.close(folder)
