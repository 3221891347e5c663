"""Runs a real Mosquitto with the configuration that ships, as a child process."""

from __future__ import annotations

import ipaddress
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

from edgesdk.errors import ConfigError, LinkError
from edgesdk.fleet.mosquitto import BrokerTLS, render_acl, render_conf

START_TIMEOUT_S = 10.0
ACL_FILE = "acl"
_POLL_S = 0.02
_TAIL = 2000


def find_mosquitto() -> str | None:
    """Return the program's path; Debian puts it into /usr/sbin, which users do not have on PATH."""
    return shutil.which("mosquitto", path=os.environ.get("PATH", os.defpath) + os.pathsep + "/usr/sbin")


class MosquittoProcess:
    """A running Mosquitto; stops when its ``with`` block ends.

    Attributes:
        host: Address that it listens on.
        port: TCP port.
        log_file: What it says.
    """

    def __init__(self, process: subprocess.Popen[bytes], *, host: str, port: int, log_file: Path) -> None:
        self.host = host
        self.port = port
        self.log_file = log_file
        self._process = process

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def log_tail(self) -> str:
        """Return its last words."""
        return self.log_file.read_text(errors="replace")[-_TAIL:].strip()

    def reload(self) -> None:
        """Let it read the access list, certificates and revocation list again; connections stay."""
        self._process.send_signal(signal.SIGHUP)

    def stop(self, timeout: float = 5.0) -> None:
        """End it in order; after `timeout` seconds, by force."""
        self._process.terminate()
        try:
            self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it by SIGKILL."""
        self._process.kill()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_mosquitto(
    directory: Path,
    *,
    tls: BrokerTLS | None = None,
    port: int = 0,
    listen: str = "127.0.0.1",
    hubs: tuple[str, ...] = ("hub",),
    subscribers: tuple[str, ...] = ("subscriber",),
) -> MosquittoProcess:
    """Start Mosquitto and return once it has said that it runs.

    Args:
        directory: Folder for its configuration, state and log; made if missing. A restart in it goes on from there.
        tls: Files for mutual TLS; without them only loopback is allowed.
        port: TCP port; 0 chooses a free one.
        listen: Address to listen on.
        hubs: Names of hubs, see `render_acl`.
        subscribers: Names of subscribers.

    Raises:
        ConfigError: ``dependency-missing`` without Mosquitto; ``insecure-bind`` without TLS beyond loopback.
        LinkError: ``broker-failed`` with Mosquitto's own words.
    """
    program = find_mosquitto()
    if program is None:
        raise ConfigError(
            "dependency-missing", "mosquitto is not on PATH", hint="Install it: apt-get install mosquitto"
        )
    if tls is None and not _is_loopback(listen):
        raise ConfigError("insecure-bind", f"Mosquitto without TLS would listen on {listen!r}")
    directory = directory.absolute()
    (directory / "state").mkdir(parents=True, exist_ok=True)
    port = port or free_port(listen)
    acl_file, conf_file, log_file = (directory / name for name in (ACL_FILE, "mosquitto.conf", "mosquitto.log"))
    write_acl(directory, hubs=hubs, subscribers=subscribers)
    # Started by root, Mosquitto becomes the user mosquitto, which can read neither the key (0600) nor this folder.
    # It stays root only then; anybody else's Mosquitto runs as that user and needs no line.
    user = "root" if os.geteuid() == 0 else None
    conf = render_conf(port=port, listen=listen, state_dir=directory / "state", acl_file=acl_file, tls=tls, user=user)
    _write_private(conf_file, conf)
    with log_file.open("wb") as log:
        process = subprocess.Popen([program, "-c", str(conf_file)], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    broker = MosquittoProcess(process, host=listen, port=port, log_file=log_file)
    _wait_running(broker)
    return broker


def write_acl(directory: Path, *, hubs: tuple[str, ...], subscribers: tuple[str, ...]) -> None:
    """Write the access list of the broker in this folder, see `render_acl`."""
    _write_private(directory / ACL_FILE, render_acl(hubs=hubs, subscribers=subscribers))


def free_port(host: str) -> int:
    """Return a TCP port that was free a moment ago."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _is_loopback(listen: str) -> bool:
    try:
        return ipaddress.ip_address(listen).is_loopback
    except ValueError:
        return listen == "localhost"


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _wait_running(broker: MosquittoProcess) -> None:
    """Wait for Mosquitto's "… running", which it says after it has bound its port."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while broker.alive and time.monotonic() < deadline:
        if " running" in broker.log_tail():
            return
        time.sleep(_POLL_S)
    failed = "ended" if not broker.alive else "did not start in time"
    broker.kill()
    raise LinkError("broker-failed", f"Mosquitto {failed}: {broker.log_tail() or 'it said nothing'}")
