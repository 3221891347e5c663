"""One process, one machine: HTTP API, broker, controller, on one folder.

Ports are chosen once and kept in the database, because devices are told where the hub is when they enrol.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import uvicorn

from edgesdk.clock import Clock, SystemClock
from edgesdk.durable import make_folder, write_atomic
from edgesdk.errors import ConfigError
from edgesdk.fleet import children
from edgesdk.fleet.access import adopt_first_token
from edgesdk.fleet.api import Services, create_app
from edgesdk.fleet.broker import MosquittoProcess, find_mosquitto, start_mosquitto
from edgesdk.fleet.commands import Commands
from edgesdk.fleet.controller import Controller, broker_link
from edgesdk.fleet.devices import Addresses, Enrolment
from edgesdk.fleet.folder import HubFolder, Running
from edgesdk.fleet.freshness import Refresher
from edgesdk.fleet.gatekeeper import Gatekeeper
from edgesdk.fleet.keeper import BrokerKeeper
from edgesdk.fleet.mosquitto import BrokerTLS
from edgesdk.fleet.operations import Operations
from edgesdk.fleet.registry import Registry
from edgesdk.fleet.releases import RepositoryView
from edgesdk.protocol.link import LinkTLS
from edgesdk.trust.ca import Authority, Issued

log = logging.getLogger(__name__)
GRACE_S = 3
START_S = 20.0
BrokerKind = Literal["mosquitto", "devbroker", "external"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How a hub is started.

    Attributes:
        repo: The repository's folder.
        host: Address to listen on; beyond loopback only with `tls`.
        port: TCP port of the API; 0: the one of last time, else a free one.
        broker: ``auto`` (Mosquitto where it is installed, else the dev broker), ``mosquitto``, ``devbroker`` or a URL.
        broker_port: TCP port of the broker that the hub runs; 0: the one of last time, else a free one.
        tls: Serve HTTPS, and MQTT with client certificates, from the fleet's authority.
        public_host: Name under which devices reach this machine; the listening address when None.
        database: SQLAlchemy URL; SQLite in the folder when None.
        passphrase: Of the folder's keys, and of the online keys.
        online_keys: Folder with the repository's snapshot and timestamp keys, to sign anew before expiry; None leaves
            that to `edge repo refresh` somewhere else.
    """

    repo: Path
    host: str = "127.0.0.1"
    port: int = 0
    broker: str = "auto"
    broker_port: int = 0
    tls: bool = False
    public_host: str | None = None
    database: str | None = None
    passphrase: str | None = None
    online_keys: Path | None = None


class Hub:
    """A running hub; `start` returns when it is ready, the ``with`` block's end stops it.

    Args:
        folder: What the hub is.
        options: How it runs.
        clock: Wall time.

    Attributes:
        refresher: Signs the repository anew; None without `Options.online_keys`.
    """

    def __init__(self, folder: HubFolder, options: Options, *, clock: Clock | None = None) -> None:
        self._folder = folder
        self._options = options
        self._clock = clock or SystemClock()
        self._stack = ExitStack()
        self.refresher: Refresher | None = None
        check_protection(options)

    def start(self) -> Running:
        """Start everything.

        Raises:
            DeploymentError: ``hub-running``.
            ConfigError: ``port-in-use``, ``dependency-missing`` and what the folder's files are refused for.
            LinkError: ``broker-failed`` or ``link-offline``.
        """
        try:
            return self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop in reverse order: no new requests, controller, broker, database."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> Running:
        options, folder = self._options, self._folder
        self._stack.callback(os.close, folder.lock())
        children.end_left_behind(folder.path / "broker")
        registry = Registry(options.database or folder.path / "hub.db", clock=self._clock)
        self._stack.callback(registry.close)
        if options.database is not None:
            adopt_first_token(registry, folder.admin_token())
        authority, signer = folder.authority(options.passphrase), folder.signer(options.passphrase)
        repository = RepositoryView(options.repo, root_sha256=folder.pin_root(options.repo), clock=self._clock)
        repository.root_bytes()
        self._start_refresher(repository)
        listening = self._stack.enter_context(_listen(options.host, options.port or _kept(registry, "http-port")))
        port = listening.getsockname()[1]
        registry.set_meta("http-port", str(port))
        self._issue(authority)
        gatekeeper = Gatekeeper(registry, authority, folder.path)
        gatekeeper.follow()
        broker, kind = self._start_broker(registry, gatekeeper)
        url = f"{'https' if options.tls else 'http'}://{self._name}:{port}"
        operations = Operations(registry, repository, signer, fleet=folder.settings.fleet)
        commands = Commands(registry, repository, signer, fleet=folder.settings.fleet)
        controller = Controller(operations, commands, broker.hub, tls=self._link_tls(), tick=gatekeeper.follow)
        controller.start()
        host, broker_port, files = broker_link(broker.hub, self._link_tls())
        gatekeeper.at(host, broker_port, tls=files is not None)
        self._stack.callback(controller.stop)
        addresses = Addresses(hub=url, broker=broker.devices, repository=f"{url}/repo/")
        enrolment = Enrolment(registry, authority, repository, addresses, fleet=folder.settings.fleet)
        self._serve(
            Services(operations, commands, enrolment, authority, gatekeeper, lambda: controller.online, self.refresher),
            listening,
        )
        self._stack.callback(commands.stop)  # first: the server waits for requests, which wait for devices
        running = Running(
            url=url,
            broker=broker.devices,
            repository=addresses.repository,
            pid=os.getpid(),
            fleet=folder.settings.fleet,
            broker_kind=kind,
            ca=str(folder.path / "ca" / "ca.pem") if options.tls else None,
        )
        folder.write_running(running)
        return running

    def _start_refresher(self, repository: RepositoryView) -> None:
        keys = self._options.online_keys
        if keys is not None:
            self.refresher = Refresher(repository, keys, passphrase=self._options.passphrase, clock=self._clock)
            self.refresher.start()
            self._stack.callback(self.refresher.stop)

    @property
    def _name(self) -> str:
        if self._options.public_host:
            return self._options.public_host
        wildcard = self._options.host in {"0.0.0.0", "::"}  # noqa: S104 - compared, not bound
        name = socket.gethostname() if wildcard else self._options.host
        return f"[{name}]" if ":" in name else name

    def _issue(self, authority: Authority) -> None:
        """Make fresh certificates for this start: the server's, and the hub's own as a client of the broker."""
        hosts = dict.fromkeys([self._name.strip("[]"), "localhost", "127.0.0.1"])
        tls = self._folder.path / "tls"
        make_folder(tls, mode=0o700)
        for name, issued in (("server", authority.issue_server(list(hosts))), ("hub", authority.issue_client("hub"))):
            _write_issued(tls, name, issued)

    def _link_tls(self) -> LinkTLS:
        tls = self._folder.path / "tls"
        return LinkTLS(ca=self._folder.path / "ca" / "ca.pem", cert=tls / "hub.pem", key=tls / "hub.key")

    def _start_broker(self, registry: Registry, gatekeeper: Gatekeeper) -> tuple[_Broker, BrokerKind]:
        options, asked = self._options, self._options.broker
        if "://" in asked:
            return _Broker(hub=asked, devices=asked), "external"
        if asked not in {"auto", "mosquitto", "devbroker"}:
            raise ConfigError("argument-invalid", f"--broker is auto, mosquitto, devbroker or a URL, got {asked!r}")
        port = options.broker_port or _kept(registry, "broker-port")
        mosquitto = asked == "mosquitto" or options.tls or (asked == "auto" and find_mosquitto() is not None)
        port = self._start_mosquitto(port, gatekeeper) if mosquitto else self._start_devbroker(port)
        registry.set_meta("broker-port", str(port))
        scheme = "mqtts" if options.tls else "mqtt"
        local = self._name if _is_loopback(options.host) else "127.0.0.1"
        addresses = _Broker(hub=f"{scheme}://{local}:{port}", devices=f"{scheme}://{self._name}:{port}")
        return addresses, "mosquitto" if mosquitto else "devbroker"

    def _start_mosquitto(self, port: int, gatekeeper: Gatekeeper) -> int:
        options, tls = self._options, self._folder.path / "tls"
        files = BrokerTLS(
            ca=self._folder.path / "ca" / "ca.pem",
            cert=tls / "server.pem",
            key=tls / "server.key",
            crl=gatekeeper.crl,
        )
        directory = self._folder.path / "broker"
        # Beyond loopback the hub itself still connects to 127.0.0.1, so the broker listens everywhere.
        listen = options.host if _is_loopback(options.host) else "0.0.0.0"  # noqa: S104 - with mutual TLS only

        def begin(at: int) -> MosquittoProcess:
            broker = start_mosquitto(
                directory,
                tls=files if options.tls else None,
                port=at,
                listen=listen,
                hubs=gatekeeper.hubs,
                subscribers=gatekeeper.subscribers,
            )
            gatekeeper.watch(broker)
            children.remember(directory, broker.pid)
            return broker

        keeper = BrokerKeeper(begin)
        self._stack.callback(keeper.stop)
        return keeper.start(port).port

    def _start_devbroker(self, port: int) -> int:
        from edgesdk.devbroker.server import DevBroker  # noqa: PLC0415 - only where there is no Mosquitto

        return self._stack.enter_context(DevBroker.running(host=self._options.host, port=port)).port

    def _serve(self, services: Services, listening: socket.socket) -> None:
        tls = self._folder.path / "tls"
        config = uvicorn.Config(
            create_app(services),
            log_level="warning",
            access_log=False,
            server_header=False,
            ws="none",
            lifespan="off",
            timeout_keep_alive=30,
            timeout_graceful_shutdown=GRACE_S,
            ssl_keyfile=str(tls / "server.key") if self._options.tls else None,
            ssl_certfile=str(tls / "server.pem") if self._options.tls else None,
        )
        server = uvicorn.Server(config)
        # In a thread of its own uvicorn leaves signals alone; they belong to whoever owns the process.
        thread = threading.Thread(target=server.run, args=([listening],), name="edge-hub-http", daemon=True)
        thread.start()

        def stop() -> None:
            server.should_exit = True
            thread.join(2 * GRACE_S)

        self._stack.callback(stop)
        waited = threading.Event()
        deadline = self._clock.monotonic() + START_S
        while not server.started:
            if not thread.is_alive() or self._clock.monotonic() > deadline:
                raise ConfigError("config-invalid", "the HTTP server did not start; its log says why")
            waited.wait(0.01)


@dataclass(frozen=True, slots=True)
class _Broker:
    """The broker's URLs: as this process reaches it, and as devices do."""

    hub: str
    devices: str


def check_protection(options: Options) -> None:
    """Refuse to be reachable from other machines without protection.

    Raises:
        ConfigError: ``insecure-bind``.
    """
    if not options.tls and not _is_loopback(options.host):
        raise ConfigError(
            "insecure-bind",
            f"the hub would listen on {options.host} without TLS",
            hint="Add --tls, or listen on 127.0.0.1.",
        )
    if options.tls and options.broker == "devbroker":
        raise ConfigError("insecure-bind", "the dev broker knows no TLS", hint="Use Mosquitto or an mqtts:// URL.")
    if options.broker.startswith("mqtt://") and not _is_loopback(broker_link(options.broker, None)[0]):
        raise ConfigError(
            "insecure-bind", f"{options.broker} would carry the fleet's messages unprotected", hint="Use mqtts://."
        )


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _kept(registry: Registry, key: str) -> int:
    return int(registry.meta(key) or 0)


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise ConfigError("port-in-use", f"cannot listen on {host}:{port}: {error.strerror}") from error
    return listening


def _write_issued(folder: Path, name: str, issued: Issued) -> None:
    write_atomic(folder / f"{name}.key", issued.key_pem, mode=0o600)
    write_atomic(folder / f"{name}.pem", issued.certificate_pem)


def describe(running: Running) -> Sequence[str]:
    """Return what a person is told once the hub is ready."""
    return (
        f"hub of fleet {running.fleet} is ready (process {running.pid})",
        f"  API         {running.url}",
        f"  repository  {running.repository}",
        f"  broker      {running.broker} ({running.broker_kind})",
    )
