"""`edge-agent import`: what a technician carries to a device that has no network.

The file is verified by the trust worker as a repository is, with the same floors, and moves them the same way. With a
signed desired document in it the deployment begins here and goes on when the agent runs; without one its bundles are
kept ready, so that the hub's word, whenever it comes, needs no download.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

import msgspec

from edgesdk.clock import Clock, SystemClock, rfc3339
from edgesdk.errors import ConfigError
from edgesdk.protocol.messages import Desired, DesiredModel, MinTuf
from edgesdk_agent.app import daily_allowance, proxies, repository_ca, worker_environment
from edgesdk_agent.config import AgentConfig
from edgesdk_agent.device import capabilities, conditions, limits
from edgesdk_agent.enrol import give_to_owner
from edgesdk_agent.identity import Identity, load_identity, trusted_root
from edgesdk_agent.lock import only_agent, tenure
from edgesdk_agent.ota.backoff import Backoff
from edgesdk_agent.ota.download import Downloader, adopt, discard, imported
from edgesdk_agent.ota.preflight import check
from edgesdk_agent.ota.updater import Updater
from edgesdk_agent.paths import Paths
from edgesdk_agent.status_file import read_status, write_status
from edgesdk_agent.store.disk import Reserve, check_room
from edgesdk_agent.store.records import Accepted
from edgesdk_agent.store.state import StateDb
from edgesdk_agent.telemetry.probes import Probes
from edgesdk_agent.timekeeping import TrustedTime
from edgesdk_agent.why import IMPORTED
from edgesdk_agent.workers.client import ChildWorkers
from edgesdk_agent.workers.messages import Offer, Repository, VerifiedImport, VerifyImport

BEFORE_TESTING = frozenset({"offered", "downloading", "verified", "staged"})
MAX_STEPS = 64


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """How an import ended.

    Attributes:
        deployed: A deployment was begun; False: the bundles are only kept ready.
        serial: Of the signed desired document in the file; None if it holds none.
        state: Of the model's deployment now; "" if none was begun.
        reason: Why it is there: a sentence and its code; "" if nothing is wrong.
        bundles: Files that were taken over.
    """

    model: str
    release: str
    deployed: bool
    serial: int | None
    state: str
    reason: str
    bundles: int


def import_file(file: Path, *, paths: Paths, config: AgentConfig, clock: Clock | None = None) -> Imported:
    """Verify a file of `edge bundle export` and take over what it brings. The agent must not run meanwhile.

    Raises:
        ConfigError: ``file-missing``.
        DeploymentError: ``not-enrolled``, ``agent-running``, ``disk-full``.
        ReleaseError: ``bundle-…``, ``manifest-…``: the file is damaged or no exported file.
        TrustError: What an online device would refuse too.
        LinkError: ``http-status`` for what the file lacks.
    """
    clock = clock or SystemClock()
    identity = load_identity(paths)
    if not file.is_file():
        raise ConfigError("file-missing", f"there is no file {file}")
    paths.make()
    with only_agent(paths.lock):
        check_room(paths.downloads, needed=file.stat().st_size, used=0, budget=0)
        state = StateDb(paths.state_db, on_full=Reserve(paths.reserve).give_up)
        try:
            return _Import(identity, paths, config, clock, state).run(file)
        finally:
            state.close()
            give_to_owner(paths)


class _Import:
    """One import; holds what it needs."""

    def __init__(self, identity: Identity, paths: Paths, config: AgentConfig, clock: Clock, state: StateDb) -> None:
        self._identity, self._paths, self._config = identity, paths, config
        self._clock, self._state = clock, state
        self._probes = Probes(paths.store)
        self._time = TrustedTime(clock, state.time_floor)
        self._workers = ChildWorkers(environment=worker_environment(config))

    def run(self, file: Path) -> Imported:
        found = self._workers.verify_import(self._request(file.absolute()), size=file.stat().st_size)
        self._time.raise_floor(found.time_floor)
        self._adopt_files(found)
        if found.verified is not None and found.envelope is not None:
            self._state.accept(
                Accepted(
                    envelope=found.envelope,
                    serial=found.verified.desired.serial,
                    payload_sha256=found.verified.payload_sha256,
                    keys_epoch=found.verified.keys_epoch,
                    time_floor=found.time_floor,
                )
            )
            return self._deploy(found, found.verified.desired, found.verified.offers)
        self._state.raise_time_floor(found.time_floor)
        if self._config.offline.activate_without_desired:
            return self._deploy(found, self._own_choice(found), {found.model: found.offer})
        return _imported(found, deployed=False)

    def _request(self, file: Path) -> VerifyImport:
        url = self._config.link.repository or self._identity.repository
        ca = repository_ca(url, self._identity, self._paths)
        accepted = self._state.accepted()
        return VerifyImport(
            path=str(file),
            repository=Repository(
                url=url,
                tuf_dir=str(self._paths.tuf),
                root=str(trusted_root(self._paths)),
                now=rfc3339(self._time.now()),
                ca=str(ca) if ca else None,
            ),
            device=self._identity.device,
            fleet=self._identity.fleet,
            downloads=str(self._paths.downloads),
            serial_floor=self._state.serial_floor,
            accepted_sha256=accepted.payload_sha256 if accepted else None,
            keys_epoch=accepted.keys_epoch if accepted else None,
            time_floor=self._time.floor if self._state.time_floor else "",
        )

    def _adopt_files(self, found: VerifiedImport) -> None:
        """Keep what this file brought; what an earlier one brought and nobody used makes room for it."""
        offers = found.verified.offers.values() if found.verified else (found.offer,)
        wanted = {target.sha256 for offer in offers for target in (*offer.targets.values(), offer.anchor) if target}
        for name in imported(self._paths.downloads) - wanted:
            discard(self._paths.downloads / name)
        for target in found.placed:
            adopt(self._paths.downloads / target.sha256, target.url)

    def _own_choice(self, found: VerifiedImport) -> Desired:
        """Return what local policy asks for; it answers the serial in force, so that the hub's next word is newer."""
        return Desired(
            fleet=self._identity.fleet,
            device=self._identity.device,
            serial=max(self._state.serial_floor, 1),
            issued_at=rfc3339(self._clock.now()),
            min_tuf=MinTuf(root=1, timestamp=1),
            models={found.model: DesiredModel(release=found.release, deployment=IMPORTED)},
        )

    def _deploy(self, found: VerifiedImport, desired: Desired, offers: dict[str, Offer]) -> Imported:
        """Begin the deployment, up to its tests: those, and the trial, are the running agent's."""
        config, allowed, boot = self._config, limits(self._config.maintenance), self._probes.boot_id()
        updater = Updater(
            paths=self._paths,
            state=self._state,
            workers=self._workers,
            download=Downloader(
                bytes_per_second=config.download.bytes_per_second,
                environment={**os.environ, **proxies(config)},
                allowance=daily_allowance(config, self._state, self._time, boot, self._clock),
            ),
            capabilities=lambda: capabilities(config.runtime, self._probes),
            clock=self._clock,
            emit=lambda _: None,
            boot_id=boot,
            run_id=secrets.token_hex(8),
            backoff=Backoff(draw=secrets.SystemRandom().random),
            disk_budget=config.store.disk_budget_bytes,
            preflight=lambda needs: check(allowed, conditions(self._time, self._probes), needs),
        )
        updater.resume()
        updater.offer(desired, offers)
        updater.adopt()
        for _ in range(MAX_STEPS):
            status = updater.snapshot().get(found.model)
            if status is None or status.state not in BEFORE_TESTING:
                break
            updater.step()
        self._tell(updater)
        reason = status.reason if status else None
        return _imported(
            found,
            deployed=True,
            state=status.state if status else "",
            reason=f"{reason.message} [{reason.code}]" if reason else "",
        )

    def _tell(self, updater: Updater) -> None:
        """Leave what the agent would say now, for `edge-agent status` and `why` before it runs again."""
        accepted = self._state.accepted()
        said = read_status(self._paths.status, tenure=None) | {
            "device": self._identity.device,
            "fleet": self._identity.fleet,
            "online": False,
            "serial": accepted.serial if accepted else 0,
            "time_floor": self._time.floor,
            "clock": self._time.state,
            "models": msgspec.to_builtins(updater.snapshot()),
            "quarantine": msgspec.to_builtins(self._state.quarantined()),
            "intake": {},
        }
        with suppress(OSError):  # it is only for looking at
            write_status(self._paths.status, said, tenure=tenure(self._paths.lock))


def _imported(found: VerifiedImport, *, deployed: bool, state: str = "", reason: str = "") -> Imported:
    return Imported(
        model=found.model,
        release=found.release,
        deployed=deployed,
        serial=found.verified.desired.serial if found.verified else None,
        state=state,
        reason=reason,
        bundles=len(found.placed),
    )
