"""What comes down: cheap checks on the link's thread, then one trust worker at a time on a thread of its own.

A message that is too large, no envelope, or not addressed to this device never costs a process. Only the newest desired
document counts; commands wait in a short queue; a refused document makes the next one wait. The same thread signs
statements, because both need the trust worker.
"""

from __future__ import annotations

import base64
import binascii
import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from edgesdk.clock import Clock, rfc3339
from edgesdk.errors import EdgeError, LinkError, TrustError
from edgesdk.protocol.backoff import Backoff
from edgesdk.protocol.link_types import Message
from edgesdk.protocol.messages import COMMAND_TYPE, DESIRED_TYPE, Command, Reason
from edgesdk.protocol.topics import ALL, MAX_PAYLOAD
from edgesdk_agent.identity import Identity
from edgesdk_agent.store.records import Accepted
from edgesdk_agent.store.state import StateDb
from edgesdk_agent.timekeeping import TrustedTime
from edgesdk_agent.workers.client import AgentStopping, ChildWorkers
from edgesdk_agent.workers.messages import Repository, VerifiedDesired, VerifyCommand, VerifyDesired

logger = logging.getLogger(__name__)

MAX_COMMANDS = 16
REFUSED_PAUSE_S = 2.0
"""After a document was not accepted the next one waits this long: forged ones cannot keep the device busy."""
MAX_WORDS = 1000
SIGN_EVERY_S = 0.5
"""Statements that follow each other within this time are signed by one worker."""
ABOUT_THE_DOCUMENT = {
    "audience",
    "document-expired",
    "message-invalid",
    "message-too-large",
    "payload-type",
    "serial-replayed",
    "signature-invalid",
    "signature-missing",
}
"""Refusals that asking again cannot cure; all others are about the repository, the network or this device."""


class _Envelope(msgspec.Struct):
    payload: str
    payload_type: str = msgspec.field(name="payloadType")
    signatures: list[dict[str, str]]


class _Hints(msgspec.Struct):
    """The part of an unverified payload that may save a worker; nothing is believed because of it."""

    fleet: str
    device: str
    run: str | None = None


@dataclass(slots=True)
class Counts:
    """What came down since the agent started.

    Attributes:
        last_refusal: The last reason that was told to the fleet; the same one is not told twice.
        last_problem: Why the newest desired document is not in force now; "" once one was accepted.
    """

    desired: int = 0
    commands: int = 0
    malformed: int = 0
    misaddressed: int = 0
    refused: int = 0
    replayed: int = 0
    dropped: int = 0
    last_refusal: str = ""
    last_problem: str = ""


@dataclass(slots=True)
class _Waiting:
    """What the thread is to do next; guarded by the condition.

    Attributes:
        desired: The newest document that came down.
        retry: One that could not be verified for now (the repository, the network); a newer one replaces it.
    """

    desired: dict[str, Any] | None = None
    retry: dict[str, Any] | None = None
    commands: deque[tuple[dict[str, Any], Message]] = field(default_factory=deque)
    sign: bool = True
    stop: bool = False


def read_envelope(data: bytes, payload_type: str) -> tuple[dict[str, Any], _Hints]:
    """Decode an envelope without believing it.

    Raises:
        LinkError: ``message-too-large`` or ``message-invalid``.
    """
    if len(data) > MAX_PAYLOAD:
        raise LinkError("message-too-large", f"a message of {len(data)} bytes; {MAX_PAYLOAD} is the most")
    try:
        envelope = msgspec.json.decode(data, type=_Envelope)
        hints = msgspec.json.decode(base64.b64decode(envelope.payload, validate=True), type=_Hints)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, binascii.Error, ValueError) as error:
        raise LinkError("message-invalid", f"no envelope of {payload_type}: {error}") from error
    if envelope.payload_type != payload_type or not envelope.signatures:
        raise LinkError("message-invalid", f"an envelope of {envelope.payload_type[:80]!r}, expected {payload_type}")
    return msgspec.to_builtins(envelope), hints


class Intake:
    """Takes messages in and has them verified.

    Args:
        identity: Who this device is.
        run: Id of this run; commands name it.
        state: Where the accepted document and seen commands are kept.
        workers: The trust worker.
        time: The time to judge by.
        repository: Makes the repository part of a request; called anew for each.
        on_desired: Called with every verified document (again after every look at the repository).
        on_command: Called with a verified command and the message it came in.
        on_refused: Called with the reason when something was refused by the trust worker.
        on_problem: Called when `problem` is another one than before, or none any more.
        sign: Signs waiting statements; raises `EdgeError` to be called again later.
        backoff: Delays after failures.
        poll_seconds: Time between two looks at the repository when all is well.
        clock: For deadlines.

    Attributes:
        counts: What came down.
        problem: Why the newest desired document is not acted on; None once one was accepted.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        run: str,
        state: StateDb,
        workers: ChildWorkers,
        time: TrustedTime,
        repository: Callable[[], Repository],
        on_desired: Callable[[VerifiedDesired], None],
        on_command: Callable[[Command, Message], None],
        on_refused: Callable[[Reason], None],
        on_problem: Callable[[], None],
        sign: Callable[[], None],
        backoff: Backoff,
        poll_seconds: float,
        clock: Clock,
    ) -> None:
        self.counts = Counts()
        self.problem: Reason | None = None
        self._identity = identity
        self._run = run
        self._state = state
        self._workers = workers
        self._time = time
        self._repository = repository
        self._on_desired = on_desired
        self._on_command = on_command
        self._on_refused = on_refused
        self._on_problem = on_problem
        self._sign = sign
        self._backoff = backoff
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._condition = threading.Condition()
        self._waiting = _Waiting()
        self._look_at = 0.0
        self._not_before = 0.0
        self._sign_at = 0.0
        self._thread = threading.Thread(target=self._work, name="edge-intake", daemon=True)

    # ---- for the link's thread and the supervisor

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End the thread; a worker that runs is killed by `ChildWorkers.stop`."""
        with self._condition:
            self._waiting.stop = True
            self._condition.notify()
        self._thread.join(timeout)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def desired(self, message: Message) -> None:
        """Take a desired document; the newest replaces one that waits. An empty message (no document) is nothing."""
        if not message.payload:
            return
        envelope = self._screen(message, DESIRED_TYPE, {self._identity.device})
        if envelope is None:
            return
        with self._condition:
            self.counts.desired += 1
            self.counts.dropped += self._waiting.desired is not None
            self._waiting.desired = envelope
            self._condition.notify()

    def command(self, message: Message) -> None:
        """Take a command; when too many wait it is dropped and counted."""
        envelope = self._screen(message, COMMAND_TYPE, {self._identity.device, ALL})
        if envelope is None:
            return
        with self._condition:
            self.counts.commands += 1
            if len(self._waiting.commands) >= MAX_COMMANDS:
                self.counts.dropped += 1
                return
            self._waiting.commands.append((envelope, message))
            self._condition.notify()

    def look_now(self) -> None:
        """Look at the repository for the accepted document at once."""
        with self._condition:
            self._look_at = 0.0
            self._condition.notify()

    def sign_now(self) -> None:
        """Note that statements wait to be signed."""
        with self._condition:
            self._waiting.sign = True
            self._condition.notify()

    def _screen(self, message: Message, payload_type: str, names: set[str]) -> dict[str, Any] | None:
        try:
            envelope, hints = read_envelope(message.payload, payload_type)
        except LinkError as error:
            self.counts.malformed += 1
            logger.warning("dropped a message on %s: %s", message.topic, error)
            return None
        foreign_run = payload_type == COMMAND_TYPE and hints.run not in {None, self._run}
        if hints.fleet != self._identity.fleet or hints.device not in names or foreign_run:
            self.counts.misaddressed += 1
            return None
        return envelope

    # ---- the thread

    def _work(self) -> None:
        while True:
            job = self._next()
            if job is None:
                return
            try:
                job()
            except AgentStopping:
                return
            except Exception:
                logger.exception("the intake failed unexpectedly; it goes on")
                self._look_at = self._clock.monotonic() + self._backoff.next()

    def _next(self) -> Callable[[], None] | None:
        """Wait for the next thing to do: signing first, then the desired document, then commands, then a look."""
        with self._condition:
            while not self._waiting.stop:
                now, waiting = self._clock.monotonic(), self._waiting
                if waiting.sign and now >= self._sign_at:
                    waiting.sign = False
                    return self._do_sign
                if waiting.desired is not None and now >= self._not_before:
                    envelope, waiting.desired = waiting.desired, None
                    return lambda: self._verify_desired(envelope, new=True)
                if waiting.commands:
                    command, message = waiting.commands.popleft()
                    return lambda: self._verify_command(command, message)
                if now >= self._look_at and (again := self._to_look_at()) is not None:
                    return lambda: self._verify_desired(again, new=waiting.retry is not None)
                self._condition.wait(self._pause(now))
            return None

    def _to_look_at(self) -> dict[str, Any] | None:
        accepted = self._state.accepted()
        return self._waiting.retry or (accepted.envelope if accepted else None)

    def _pause(self, now: float) -> float:
        due = [self._look_at] if self._look_at > now else []
        if self._waiting.sign:
            due.append(self._sign_at)
        if self._waiting.desired is not None:
            due.append(self._not_before)
        return max(0.01, min(due, default=now + self._poll_seconds) - now)

    def _do_sign(self) -> None:
        with self._condition:
            self._sign_at = self._clock.monotonic() + SIGN_EVERY_S
        try:
            self._sign()
        except EdgeError as error:
            logger.warning("statements could not be signed now: %s", error)
            with self._condition:
                self._waiting.sign = True
                self._sign_at = self._clock.monotonic() + self._backoff.next()

    def _verify_desired(self, envelope: dict[str, Any], *, new: bool) -> None:
        accepted = self._state.accepted()
        request = VerifyDesired(
            envelope=envelope,
            repository=self._repository(),
            device=self._identity.device,
            fleet=self._identity.fleet,
            serial_floor=self._state.serial_floor,
            accepted_sha256=accepted.payload_sha256 if accepted else None,
            keys_epoch=accepted.keys_epoch if accepted else None,
            time_floor=self._time.floor,
        )
        try:
            verified = self._workers.verify_desired(request)
            self._accept(verified, envelope)
        except EdgeError as error:
            self._not_verified(error, envelope, new=new)
            return
        failed = any(offer.error is not None and not offer.error.permanent for offer in verified.offers.values())
        if not failed:
            self._backoff.reset()
        self._look_at = self._clock.monotonic() + (self._backoff.next() if failed else self._poll_seconds)

    def _accept(self, verified: VerifiedDesired, envelope: dict[str, Any]) -> None:
        self._time.raise_floor(verified.time_floor)
        self._state.accept(
            Accepted(
                envelope=envelope,
                serial=verified.desired.serial,
                payload_sha256=verified.payload_sha256,
                keys_epoch=verified.keys_epoch,
                time_floor=verified.time_floor,
            )
        )
        with self._condition:
            self._waiting.retry = None
        self.counts.last_problem = ""
        self._note_problem(None)
        self._on_desired(verified)

    def _not_verified(self, error: EdgeError, envelope: dict[str, Any], *, new: bool) -> None:
        logger.warning("the %s desired document is not acted on: %s", "new" if new else "accepted", error)
        self.counts.last_problem = str(error)
        now = self._clock.monotonic()
        with self._condition:
            self._not_before = now + REFUSED_PAUSE_S
            if error.code in ABOUT_THE_DOCUMENT and new:
                self._waiting.retry = None if self._waiting.retry == envelope else self._waiting.retry
            else:
                self._look_at = now + self._backoff.next()
                self._waiting.retry = envelope if new else self._waiting.retry
        if isinstance(error, TrustError):
            self._refused(error)
        self._note_problem(Reason(code=error.code, message=error.message[:MAX_WORDS], hint=error.hint))

    def _note_problem(self, problem: Reason | None) -> None:
        changed = (problem and problem.code) != (self.problem and self.problem.code)
        self.problem = problem
        if changed:
            self._on_problem()

    def _refused(self, error: EdgeError) -> None:
        self.counts.refused += 1
        self.counts.replayed += error.code == "serial-replayed"
        if self.counts.last_refusal != str(error):
            self.counts.last_refusal = str(error)
            self._on_refused(Reason(code=error.code, message=error.message, hint=error.hint))

    def _verify_command(self, envelope: dict[str, Any], message: Message) -> None:
        request = VerifyCommand(
            envelope=envelope,
            repository=self._repository(),
            device=self._identity.device,
            fleet=self._identity.fleet,
            run=self._run,
        )
        try:
            command = self._workers.verify_command(request).command
        except EdgeError as error:
            logger.warning("a command is not carried out: %s", error)
            if isinstance(error, TrustError):
                self._refused(error)
            return
        now = rfc3339(self._time.now())
        if not self._state.first_sight(command.id, expires_at=command.expires_at, now=now):
            self.counts.replayed += 1
            logger.warning("the command %s was carried out before: refused", command.id)
            return
        self._on_command(command, message)
