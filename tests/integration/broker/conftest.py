"""Real brokers as processes, links with fast back-off, and a raw client that can misbehave."""

from __future__ import annotations

import json
import queue
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from edgesdk.devbroker import packets as p
from edgesdk.devbroker.codec import Decoder, encode
from edgesdk.fleet.broker import free_port, start_mosquitto
from edgesdk.protocol.backoff import Backoff
from edgesdk.protocol.link import Link

PATIENCE_S = 20
SUBSCRIBERS = ("subscriber", "subscriber.a", "subscriber.b")


class DevBrokerProcess:
    """`edge devbroker` as a user starts it."""

    def __init__(self, port: int) -> None:
        code = "from edgesdk.cli.main import main; main()"
        command = [sys.executable, "-c", code, "devbroker", "--port", str(port), "--json"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self.pid = self._process.pid
        assert json.loads(self._process.stdout.readline()) == {"host": "127.0.0.1", "port": port}

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(PATIENCE_S) == 0
        self._process.stdout.close()


class Harness:
    """One broker that can be killed and started again on its port."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.kind = kind
        self.port = free_port("127.0.0.1")
        self._folder = folder
        self.start()

    def start(self) -> None:
        if self.kind == "mosquitto":
            self.process = start_mosquitto(self._folder, port=self.port, subscribers=SUBSCRIBERS)
        else:
            self.process = DevBrokerProcess(self.port)

    def kill(self) -> None:
        self.process.kill()


@pytest.fixture(params=["devbroker", pytest.param("mosquitto", marks=pytest.mark.mosquitto)])
def broker(request, tmp_path):
    harness = Harness(request.param, tmp_path / "broker")
    yield harness
    harness.process.stop()


@pytest.fixture
def mosquitto(tmp_path):
    harness = Harness("mosquitto", tmp_path / "broker")
    yield harness
    harness.process.stop()


class Inbox(queue.Queue):
    """What a link was given, to be waited for."""

    def next(self):
        return self.get(timeout=PATIENCE_S)


@pytest.fixture
def connect():
    """Make links that are stopped at the end of the test; `inbox` and `states` of each hold what it was told."""
    links = []

    def make(broker, client_id, *, wait=True, **options):
        inbox, states = Inbox(), Inbox()
        options = {"on_message": inbox.put, "on_state": states.put, "backoff": Backoff(base=0.02, cap=0.2), **options}
        link = Link("127.0.0.1", broker.port, client_id, **options)
        link.inbox, link.states = inbox, states
        links.append(link)
        link.start()
        if wait:
            assert link.wait_online(PATIENCE_S)
        return link

    yield make
    for link in links:
        link.stop()


class Raw:
    """A client that sends what it is told to, right or wrong."""

    def __init__(self, port: int, **connect) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self._decoder = Decoder(max_packet=10**6)
        self._packets = []
        self.send(p.Connect(**connect))
        self.connack = self.receive(p.Connack)

    def send(self, packet) -> None:
        self.send_bytes(encode(packet))

    def send_bytes(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self, kind):
        """Return the next packet of this kind; None when the broker closes first."""
        while True:
            while self._packets:
                packet = self._packets.pop(0)
                if isinstance(packet, kind):
                    return packet
            try:
                data = self._socket.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                return None
            self._packets += self._decoder.feed(data)

    def vanish(self) -> None:
        """Close without a DISCONNECT."""
        self._socket.close()


@pytest.fixture
def raw():
    clients = []

    def make(broker, **connect):
        clients.append(Raw(broker.port, **connect))
        return clients[-1]

    yield make
    for client in clients:
        client.vanish()
