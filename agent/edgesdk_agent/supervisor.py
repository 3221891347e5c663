"""The resident process: keeps the link, the clock and the outboxes; everything heavy happens in children.

Threads: this loop (publishes, records, watchdog), the link's (receives), the intake's (trust worker), the updater's
(deployments) and the evidence socket's. Each hands over by a queue or a flag and wakes this loop.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edgesdk.clock import Clock, rfc3339
from edgesdk.errors import EdgeError, LinkError
from edgesdk.protocol.link import Link
from edgesdk.protocol.link_types import LinkState, Message
from edgesdk.protocol.messages import Command, Presence, Reason, Reply, encode
from edgesdk.protocol.topics import ALL, Up, down, up
from edgesdk.targets.matching import Capabilities
from edgesdk_agent.boots import Boots, End
from edgesdk_agent.commands import Commands
from edgesdk_agent.evidence_socket import EvidenceSocket
from edgesdk_agent.identity import Identity
from edgesdk_agent.intake import Intake
from edgesdk_agent.notify import Notifier
from edgesdk_agent.ota.updater import Updater
from edgesdk_agent.statements import StatementPublisher
from edgesdk_agent.status_file import write_status
from edgesdk_agent.store.state import StateDb
from edgesdk_agent.telemetry.outbox import Outbox
from edgesdk_agent.telemetry.probes import Probes
from edgesdk_agent.telemetry.publisher import Publisher
from edgesdk_agent.telemetry.recorder import Recorder
from edgesdk_agent.timekeeping import TrustedTime
from edgesdk_agent.workers.client import AgentStopping, ChildWorkers

logger = logging.getLogger(__name__)

MAX_UPDATER_WAIT_S = 60.0
UPDATER_FAILED_S = 5.0
STATUS_S = 1.0
GOODBYE_S = 1.0
STOP_S = 5.0
SLOW = {"benchmark"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What the supervisor drives; made by `edgesdk_agent.app.build`."""

    identity: Identity
    run: str
    boot: str
    boots: Boots
    ended: End
    version: str
    clock: Clock
    time: TrustedTime
    state: StateDb
    outbox: Outbox
    recorder: Recorder
    probes: Probes
    capabilities: Callable[[], Capabilities]
    workers: ChildWorkers
    updater: Updater
    intake: Intake
    link: Link
    publisher: Publisher
    statements: StatementPublisher
    evidence: EvidenceSocket
    commands: Commands
    notifier: Notifier
    status_file: Path
    tenure: str
    interval_seconds: float


class Supervisor:
    """Runs one agent until `stop` is called."""

    def __init__(self) -> None:
        self.wake = threading.Event()
        self._stopping = threading.Event()
        self._offer = threading.Event()
        self._link_states: list[LinkState] = []
        self._parts: Parts | None = None
        self._last_status: dict[str, Any] = {}
        self._presence_due = False

    # ---- what the parts call, on their threads

    def stop(self) -> None:
        """Ask for a clean end; safe in a signal handler."""
        self._stopping.set()
        self.wake.set()

    def publish(
        self, channel: Up, payload: bytes, *, retain: bool = False, correlation: bytes | None = None
    ) -> Future[int]:
        """Publish on one of this device's topics with QoS 1.

        Raises:
            LinkError: ``link-offline`` or ``link-busy``.
        """
        identity = self.parts.identity
        topic = up(identity.fleet, identity.device, channel)
        return self.parts.link.publish(topic, payload, qos=1, retain=retain, correlation=correlation).future

    def link_changed(self, state: LinkState) -> None:
        """Note that the connection came or went."""
        self._link_states.append(state)
        self.wake.set()

    def received(self, message: Message) -> None:
        """Hand a message to the intake."""
        identity = self.parts.identity
        if message.topic == down(identity.fleet, identity.device, "desired"):
            self.parts.intake.desired(message)
        else:
            self.parts.intake.command(message)

    def updater_has_work(self) -> None:
        """Wake the updater's thread."""
        self._offer.set()

    def refused(self, reason: Reason) -> None:
        """Tell the fleet that something was refused."""
        self.parts.recorder.error(reason)
        self.wake.set()

    def problem_changed(self) -> None:
        """Tell the fleet why a desired document is not acted on, or that nothing is in its way any more."""
        self._presence_due = True
        self.wake.set()

    def command(self, command: Command, message: Message) -> None:
        """Carry a verified command out and answer it; a slow one on a thread of its own."""
        if command.name in SLOW:
            threading.Thread(target=self._answer, args=(command, message), name="edge-command", daemon=True).start()
        else:
            self._answer(command, message)

    def _answer(self, command: Command, message: Message) -> None:
        parts = self.parts
        try:
            result, reason = parts.commands.carry_out(command)
        except AgentStopping:
            return
        reply = Reply(
            device=parts.identity.device,
            fleet=parts.identity.fleet,
            id=command.id,
            ok=reason is None,
            ts=rfc3339(parts.clock.now()),
            result=result,
            reason=reason,
        )
        try:
            self.publish("reply", encode(reply), correlation=message.correlation)
        except LinkError as error:
            logger.warning("the answer to command %s could not be sent: %s", command.id, error)

    def status(self) -> dict[str, Any]:
        """Return what `edge-agent status` and the command `status` say."""
        parts = self.parts
        waiting, waiting_bytes = parts.outbox.size()
        accepted = parts.state.accepted()
        return {
            "agent": parts.version,
            "device": parts.identity.device,
            "fleet": parts.identity.fleet,
            "run": parts.run,
            "ended": parts.ended,
            "online": parts.link.online,
            "serial": accepted.serial if accepted else 0,
            "time_floor": parts.time.floor,
            "clock": parts.time.state,
            "models": msgspec.to_builtins(parts.updater.snapshot()),
            "quarantine": msgspec.to_builtins(parts.state.quarantined()),
            "intake": msgspec.to_builtins(parts.intake.counts),
            "evidence": msgspec.to_builtins(parts.evidence.counts),
            "outbox": {"waiting": waiting, "bytes": waiting_bytes, "recreated": parts.outbox.recreated},
        }

    # ---- running

    @property
    def parts(self) -> Parts:
        """The parts; set by `run`."""
        assert self._parts is not None
        return self._parts

    def attach(self, parts: Parts) -> None:
        """Set the parts, which refer back to this supervisor."""
        self._parts = parts

    def run(self, *, ready: Callable[[], None] = lambda: None) -> None:
        """Run until `stop`; `ready` is called once everything was started.

        Raises:
            EdgeError: If the store cannot be resumed.
        """
        parts = self.parts
        parts.updater.resume()
        mark = parts.outbox.mark()
        if mark is not None:
            parts.updater.continue_from(mark)
        updater = threading.Thread(target=self._drive_updater, name="edge-updater", daemon=True)
        parts.evidence.start()
        updater.start()
        parts.intake.start()
        self._write_status()
        self._connect()
        parts.notifier.send("READY=1")
        ready()
        try:
            self._loop(updater)
        finally:
            self._shut_down(updater)

    def _connect(self) -> None:
        identity, link = self.parts.identity, self.parts.link
        for topic in (
            down(identity.fleet, identity.device, "desired"),
            down(identity.fleet, identity.device, "cmd"),
            down(identity.fleet, ALL, "cmd"),
        ):
            link.subscribe(topic).add_done_callback(_log_denied)
        link.start()

    def _loop(self, updater: threading.Thread) -> None:
        clock, parts = self.parts.clock, self.parts
        next_record = clock.monotonic() + parts.interval_seconds
        next_status = next_watchdog = clock.monotonic()
        while not self._stopping.is_set():
            self._pump()
            now = clock.monotonic()
            if now >= next_record:
                self._record()
                next_record = max(next_record + parts.interval_seconds, now)
                continue
            if now >= next_status:
                self._write_status()
                next_status = now + STATUS_S
            pauses = [next_record - now, next_status - now]
            if parts.notifier.watchdog_seconds is not None:
                if now >= next_watchdog and updater.is_alive() and parts.intake.alive:
                    parts.notifier.send("WATCHDOG=1")
                    next_watchdog = now + parts.notifier.watchdog_seconds
                pauses.append(max(0.1, next_watchdog - now))
            self.wake.wait(max(0.0, min(pauses)))
            self.wake.clear()

    def _pump(self) -> None:
        parts = self.parts
        while self._link_states:
            if self._link_states.pop(0).online:
                self._presence_due = True
                parts.publisher.connected()
                parts.statements.connected()
        if self._presence_due and parts.link.online and not self._stopping.is_set():
            self._presence_due = False
            self._announce(online=True)
        parts.statements.pump()
        if parts.link.online:
            parts.publisher.pump()

    def _announce(self, *, online: bool) -> Future[int] | None:
        try:
            return self.publish("presence", presence(self.parts, online=online), retain=True)
        except LinkError as error:
            logger.debug("presence could not be published: %s", error)
            return None

    def _record(self) -> None:
        parts = self.parts
        models = parts.updater.interval()
        parts.recorder.record(models, parts.probes.read(parts.time.state), parts.updater.reported())

    def _write_status(self) -> None:
        """Write the status for `edge-agent status` when it changed."""
        status = self.status()
        if status == self._last_status:
            return
        try:
            write_status(self.parts.status_file, status, tenure=self.parts.tenure)
        except OSError as error:
            logger.debug("the status could not be written: %s", error)
        else:
            self._last_status = status

    def _drive_updater(self) -> None:
        updater = self.parts.updater
        while not self._stopping.is_set():
            try:
                pause = min(updater.step(), MAX_UPDATER_WAIT_S)
            except AgentStopping:
                return
            except Exception:
                logger.exception("the updater failed; it goes on in %.0f s", UPDATER_FAILED_S)
                pause = UPDATER_FAILED_S
            self.wake.set()
            self._offer.wait(pause)
            self._offer.clear()

    def _shut_down(self, updater: threading.Thread) -> None:
        """End everything; what is not done is done by the next run."""
        parts = self.parts
        self._stopping.set()
        parts.notifier.send("STOPPING=1")
        parts.updater.stop()
        self._offer.set()
        parts.workers.stop()
        parts.intake.stop(STOP_S)
        updater.join(STOP_S)
        parts.evidence.close()
        with suppress(EdgeError):
            self._record()
        self._pump()
        goodbye = self._announce(online=False)
        if goodbye is not None:
            wait([goodbye], timeout=GOODBYE_S)
        self._pump()
        parts.link.stop()
        self._write_status()
        parts.outbox.close()
        with suppress(EdgeError):
            parts.boots.end()
        parts.state.close()
        logger.info("stopped")


def presence(parts: Parts, *, online: bool) -> bytes:
    """Return the presence message of this run."""
    return encode(
        Presence(
            device=parts.identity.device,
            fleet=parts.identity.fleet,
            online=online,
            run=parts.run,
            ts=rfc3339(parts.clock.now()),
            agent=parts.version,
            boot=parts.boot,
            ended=parts.ended,
            capabilities=parts.capabilities() if online else None,
            problem=parts.intake.problem if online else None,
        )
    )


def loaded_modules() -> list[str]:
    """Return the names of the top-level modules of this process, to see that it stays lean."""
    return sorted({name.partition(".")[0] for name in sys.modules})


def _log_denied(future: Future[None]) -> None:
    error = future.exception()
    if isinstance(error, LinkError) and error.code == "link-denied":
        logger.error("a subscription failed: %s", error)
