"""Keeps the repository's metadata from expiring: warns in time, and signs it anew where the hub holds the online keys.

Devices refuse expired metadata, so an unnoticed expiry stops every update. Only snapshot and time stamp can be signed
here: root and targets stay with people.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from edgesdk.clock import Clock
from edgesdk.errors import EdgeError
from edgesdk.fleet.releases import RepositoryView
from edgesdk.trust.change import Expiry, Options
from edgesdk.trust.keyring import KeyRing
from edgesdk.trust.metadata import Role
from edgesdk.trust.repository import refresh

log = logging.getLogger(__name__)
CHECK_S = 60.0
ONLINE: Final[tuple[Role, ...]] = ("snapshot", "timestamp")
WARN_BEFORE: Final[Mapping[Role, timedelta]] = {
    "root": timedelta(days=30),
    "targets": timedelta(days=14),
    "snapshot": timedelta(days=2),
    "timestamp": timedelta(hours=6),
}
_CURES: Final[Mapping[Role, str]] = {
    "root": "edge repo rotate root --repo REPO",
    "targets": "edge repo refresh --role targets --repo REPO",
    "snapshot": "edge repo refresh --repo REPO",
    "timestamp": "edge repo refresh --repo REPO",
}
_HOUR, _DAY = 3600, 86400


def warnings(expires: Mapping[Role, datetime], now: datetime) -> list[str]:
    """Say what expires soon or has expired, and the command that helps; nothing while there is time enough."""
    found: dict[str, list[str]] = {}
    for role, before in WARN_BEFORE.items():
        left = expires[role] - now
        if left <= before:
            said = f"expires in {_words(left)}" if left > timedelta(0) else f"expired {_words(-left)} ago"
            found.setdefault(_CURES[role], []).append(f"the repository's {role} {said}")
    return [f"{', '.join(said)}: {cure}" for cure, said in found.items()]


def due(expires: Mapping[Role, datetime], now: datetime, expiry: Expiry) -> Role | None:
    """Return the first online role of which less than half the lifetime is left; None if neither."""
    for role in ONLINE:
        if expires[role] - now < timedelta(days=getattr(expiry, role)) / 2:
            return role
    return None


def _words(span: timedelta) -> str:
    seconds = span.total_seconds()
    if seconds >= 2 * _DAY:
        return f"{seconds / _DAY:.0f} d"
    return f"{seconds / _HOUR:.0f} h" if seconds >= _HOUR else f"{seconds / 60:.0f} min"


class Refresher:
    """Signs snapshot and time stamp anew when half their time is over, in a thread of its own.

    Args:
        repository: The repository as the hub sees it; its pinned root is where verification starts.
        keys: Folder with ``snapshot-*.pem`` and ``timestamp-*.pem``; what was published last is noted in it.
        passphrase: Of these keys.
        clock: Wall time.
    """

    def __init__(self, repository: RepositoryView, keys: Path, *, passphrase: str | None, clock: Clock) -> None:
        self.counts: Counter[str] = Counter({"done": 0, "failed": 0})
        self._repository = repository
        self._keys = keys
        self._passphrase = passphrase
        self._clock = clock
        self._options = Options(now=clock.now)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="edge-hub-refresher", daemon=True)

    def start(self) -> None:
        """Check that the keys are at hand, sign what is due, and begin.

        Raises:
            TrustError: ``key-threshold``, ``key-passphrase``, ``key-permissions``, and what is refused.
            ConfigError: ``argument-invalid`` if the key folder lies in the repository.
        """
        ring = KeyRing(self._keys, self._passphrase)
        ring.check_apart(self._repository.folder)
        if not ring.has_root():
            ring.pin_root(self._repository.root_bytes())
        roles = self._repository.current().root.roles
        for role in ONLINE:
            ring.signers(role, roles[role].keyids, roles[role].threshold)
        self.step()
        self._thread.start()

    def stop(self) -> None:
        """End; a signature in progress is completed."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def step(self) -> bool:
        """Sign what is due now; returns whether anything was. A failure is logged, counted and tried again."""
        try:
            role = due(self._repository.expires(), self._clock.now(), self._options.expiry)
            if role is None:
                return False
            done = refresh(
                self._repository.folder, self._keys, role=role, passphrase=self._passphrase, options=self._options
            )
        except EdgeError as error:
            self.counts["failed"] += 1
            log.warning("the repository was not signed anew: %s; %s", error, error.hint)
            return False
        self.counts["done"] += 1
        log.info("the repository's %s was signed anew: time stamp %s", role, done.versions["timestamp"])
        return True

    def _work(self) -> None:
        while not self._stopping.wait(CHECK_S):
            try:
                self.step()
            except Exception:  # the thread outlives whatever a disk or a foreign library comes up with
                self.counts["failed"] += 1
                log.exception("the repository was not signed anew")
