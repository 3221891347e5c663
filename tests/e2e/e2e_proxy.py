"""A line to a server that can be cut after a number of bytes, as lines in the field are."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

CHUNK = 16_384


class Proxy:
    """Forwards TCP connections to a local port.

    Attributes:
        port: Where it listens.
        carried: Bytes that the server has sent through it.
        cut: Connections that it ended in the middle.
    """

    def __init__(self, server_port: int) -> None:
        self.carried = 0
        self.cut = 0
        self._server_port = server_port
        self._cut_after: int | None = None
        self._down = False
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_after(self, count: int) -> None:
        """End the next connection that carries more than `count` bytes exactly there, and refuse all that follow."""
        self._cut_after = count

    def mend(self) -> None:
        """Carry everything again."""
        self._cut_after, self._down = None, False

    def close(self) -> None:
        """Stop listening."""
        self._listening.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                if self._down:
                    client.close()
                    continue
                server = socket.create_connection(("127.0.0.1", self._server_port))
                threading.Thread(target=self._up, args=(client, server), daemon=True).start()
                threading.Thread(target=self._back, args=(client, server), daemon=True).start()

    @staticmethod
    def _up(client: socket.socket, server: socket.socket) -> None:
        with suppress(OSError):
            while data := client.recv(CHUNK):
                server.sendall(data)
            server.shutdown(socket.SHUT_WR)

    def _back(self, client: socket.socket, server: socket.socket) -> None:
        sent = 0
        with client, server, suppress(OSError):
            while data := server.recv(CHUNK):
                limit = self._cut_after
                if limit is not None and sent + len(data) > limit:
                    self._down, self.cut = True, self.cut + 1
                    client.sendall(data[: limit - sent])
                    return
                client.sendall(data)
                sent, self.carried = sent + len(data), self.carried + len(data)
