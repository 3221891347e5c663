"""Who may connect to the broker: its two lists follow the database, and who is revoked is put out.

The hub refuses what a revoked device says whatever the broker does; this is about the connection itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from edgesdk.durable import write_atomic
from edgesdk.errors import EdgeError
from edgesdk.fleet import certificates
from edgesdk.fleet.broker import MosquittoProcess, write_acl
from edgesdk.fleet.registry import Registry
from edgesdk.protocol.link import Link, LinkTLS
from edgesdk.trust.ca import ROLES, Authority, make_request_pem
from edgesdk.trust.keys import generate_tls_key

log = logging.getLogger(__name__)
EVICTION_S = 5.0


@dataclass(frozen=True, slots=True)
class _Lists:
    """Who may connect by role, and which serial numbers may not since when."""

    hubs: tuple[str, ...] = ("hub",)
    subscribers: tuple[str, ...] = ("subscriber",)
    revoked: Mapping[int, datetime] | None = None

    @classmethod
    def of(cls, registry: Registry) -> _Lists:
        hubs, subscribers = (certificates.role_names(registry, role) for role in ROLES)
        return cls(hubs, subscribers, certificates.revoked(registry))


class Gatekeeper:
    """Keeps the broker's lists.

    Args:
        registry: Knows the certificates.
        authority: Signs the revocation list.
        folder: The hub's folder; the lists go to its ``tls/crl.pem`` and ``broker/acl``.
    """

    def __init__(self, registry: Registry, authority: Authority, folder: Path) -> None:
        self.crl = folder / "tls" / "crl.pem"
        self._registry = registry
        self._authority = authority
        self._folder = folder
        self._lock = threading.Lock()
        self._written = _Lists()
        self._broker: MosquittoProcess | None = None
        self._address: tuple[str, int, bool] | None = None

    @property
    def hubs(self) -> tuple[str, ...]:
        """Names of the hub's role."""
        return self._written.hubs

    @property
    def subscribers(self) -> tuple[str, ...]:
        """Names of the subscribers' role."""
        return self._written.subscribers

    def watch(self, broker: MosquittoProcess) -> None:
        """Let this broker, started with the present lists, follow from now on."""
        self._broker = broker

    def at(self, host: str, port: int, *, tls: bool) -> None:
        """Say where the broker listens."""
        self._address = (host, port, tls)

    def revocation_list(self) -> bytes:
        """Return what counts no more, signed by the authority (PEM)."""
        return self._authority.revocation_list(certificates.revoked(self._registry))

    def follow(self) -> None:
        """Write the lists, and let the broker read them, if the database says something new.

        The connections of roles whose certificates are newly revoked end; those of devices end in `put_out`.
        """
        with self._lock:
            lists = _Lists.of(self._registry)
            if lists == self._written:
                return
            newly = set(lists.revoked or {}) - set(self._written.revoked or {})
            write_atomic(self.crl, self._authority.revocation_list(lists.revoked or {}))
            if self._broker is not None and self._broker.alive:
                write_acl(self._folder / "broker", hubs=lists.hubs, subscribers=lists.subscribers)
                self._broker.reload()
            self._written = lists
        for subject in certificates.roles_of(self._registry, newly):
            self._end_connection(subject)

    def put_out(self, device: str) -> None:
        """Follow, and end the device's present connection and session by taking its name for a moment.

        A broker checks certificates only when a client connects. A broker that does not answer changes nothing of
        the revocation itself, so that is only logged.
        """
        self.follow()
        self._end_connection(device)

    def _end_connection(self, name: str) -> None:
        try:
            self._take_over(name)
        except EdgeError as error:
            log.warning("the connection of %s could not be ended: %s", name, error)

    def _take_over(self, name: str) -> None:
        if self._address is None:
            return
        host, port, secured = self._address
        cert, key = (self._folder / "tls" / f"evict-{name}{suffix}" for suffix in (".pem", ".key"))
        tls = None
        try:
            if secured:
                self._certify(name, cert, key)
                tls = LinkTLS(ca=self._folder / "ca" / "ca.pem", cert=cert, key=key)
            with Link(host, port, name, tls=tls) as link:
                if not link.wait_online(EVICTION_S):
                    log.warning("the connection of %s could not be ended: the broker did not answer", name)
        finally:
            for path in (cert, key):
                with suppress(FileNotFoundError):
                    path.unlink()

    def _certify(self, name: str, cert: Path, key: Path) -> None:
        """Make a key and certificate of this name, for a moment."""
        role, _, rest = name.partition(".")
        if role in ROLES:
            issued = self._authority.issue_client(certificates.parse_role(role), name=rest, days=1)
            write_atomic(key, issued.key_pem, mode=0o600)
            write_atomic(cert, issued.certificate_pem)
        else:
            request = make_request_pem(generate_tls_key(key))
            write_atomic(cert, self._authority.issue_device(request, name, days=1))
