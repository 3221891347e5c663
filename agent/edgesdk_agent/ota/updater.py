"""Walks each model through the table. (The surface that the supervisor drives.)"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from edgesdk.clock import Clock
from edgesdk.protocol.evidence import Evidence
from edgesdk.protocol.messages import Desired, ModelTelemetry
from edgesdk_agent.ota.download import Downloader
from edgesdk_agent.paths import Paths
from edgesdk_agent.store.records import StatementDraft
from edgesdk_agent.store.state import StateDb
from edgesdk_agent.workers.messages import Offer, Workers


class UpdaterSurface(Protocol):
    """`Updater(*, paths, state, workers, download, capabilities, clock, emit, boot_id, run_id, disk_budget=0)`.

    `paths: Paths`, `state: StateDb` (give it ``on_full=updater_reserve.give_up``), `workers: Workers`,
    `download: Downloader`, `capabilities: Callable[[], Capabilities]`, `clock: Clock`, `emit: Callable[[StatementDraft], None]`.
    """

    def resume(self) -> None: ...
    def offer(self, desired: Desired, offers: Mapping[str, Offer]) -> None: ...
    def evidence(self, evidence: Evidence) -> None: ...
    def step(self) -> float: ...
    def interval(self) -> tuple[ModelTelemetry, ...]: ...
    def stop(self) -> None: ...
