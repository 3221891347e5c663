"""What an operator asks of one device now: a signed command out, the device's reply back, and nothing kept in between.

A question lives as long as the request that asks it: a hub that stops forgets it, and none asks it again. A reply is
not signed; the broker lets a device write its own topics only. It informs an operator and decides nothing.
"""

from __future__ import annotations

import math
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import msgspec
from securesystemslib.signer import CryptoSigner

from edgesdk.clock import rfc3339
from edgesdk.errors import LinkError, TrustError
from edgesdk.fleet.devices import WHERE_IDS
from edgesdk.fleet.registry import Registry
from edgesdk.fleet.releases import RepositoryView
from edgesdk.fleet.tables import Device
from edgesdk.protocol import topics
from edgesdk.protocol.link_types import PublishHandle
from edgesdk.protocol.messages import COMMAND_TYPE, Command, Reason, Reply
from edgesdk.trust.dsse import sign_document

Name = Literal["ping", "status", "deploy-now", "logs", "benchmark"]
Arguments = Mapping[str, str | int]

MAX_OF_DEVICE = 4
MAX_WAITING = 16
"""Each waits in one of the HTTP server's threads; the others stay free."""
MAX_TIMEOUT_S = 300.0
MARGIN_S = 5.0
"""A command expires so long after nobody waits for its reply any more: clocks differ."""
MAX_DEPTH = 24
"""Levels of a result; a device must not make the hub or its client run out of stack."""
NOBODY = 0x10
"""MQTT's reason code of a publish that no subscription matches."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What the device replied: a result, or its reason why there is none; `seconds` from question to reply."""

    id: str
    result: dict[str, Any]
    reason: Reason | None
    seconds: float


class Commands:
    """Asks devices, and waits for their replies.

    Args:
        registry: Knows each device's presence, and keeps the audit log.
        repository: Tells whether devices believe the deployment key.
        signer: The deployment key.
        fleet: The name of the fleet.

    Attributes:
        publish: The broker link's `edgesdk.protocol.link.Link.publish`; the controller sets it.
    """

    publish: Callable[..., PublishHandle]

    def __init__(self, registry: Registry, repository: RepositoryView, signer: CryptoSigner, *, fleet: str) -> None:
        self._registry = registry
        self._repository = repository
        self._signer = signer
        self._fleet = fleet
        self._lock = threading.Lock()
        self._stopped = False
        self._waiting: dict[tuple[str, str], Future[Reply]] = {}

    def ask(self, device: str, name: Name, arguments: Arguments, *, timeout: float, actor: str) -> Answer:
        """Send a command and wait for its reply; what the device refuses is an answer too.

        Args:
            device: Its id.
            name: What it is to do.
            arguments: ``lines`` of ``logs``, ``model`` of ``benchmark``.
            timeout: Seconds, at most `MAX_TIMEOUT_S`.
            actor: Who asks, for the audit log.

        Raises:
            TrustError: ``device-unknown``, ``deployment-key-unlisted`` or a ``tuf-…`` code.
            LinkError: ``device-offline``, ``command-busy``, ``command-unanswered``, ``link-offline``, ``link-denied``
                or ``message-too-large``.
        """
        self._repository.require_deployment_key(self._signer.public_key.keyid)
        began = self._registry.clock.monotonic()
        with self._place(device) as (command_id, replied):
            command = self._write(device, command_id, name, arguments, timeout, actor)
            try:
                if self._send(command, timeout).wait(timeout) == NOBODY:
                    raise LinkError("device-offline", f"{device} does not listen; the command reached nobody")
                left = began + timeout - self._registry.clock.monotonic()
                reply = replied.result(max(left, 0.0))
            except TimeoutError:
                raise LinkError("command-unanswered", f"{device} did not answer {name} in {timeout:g} s") from None
        seconds = round(self._registry.clock.monotonic() - began, 3)
        return Answer(id=command_id, result=reply.result, reason=reply.reason, seconds=seconds)

    def replied(self, reply: Reply) -> None:
        """Take a reply whose sender was checked; one that nobody waits for is late or forged, and is nothing.

        Raises:
            LinkError: ``message-invalid`` if it says both that all is well and why not, or neither, or is too deep.
        """
        if _deeper_than(MAX_DEPTH, reply.result):
            raise LinkError("message-invalid", f"a result of {reply.device} has more than {MAX_DEPTH} levels")
        if reply.ok is not (reply.reason is None):
            raise LinkError("message-invalid", f"the reply of {reply.device} is ok and has a reason, or is neither")
        with self._lock:
            waiting = self._waiting.pop((reply.device, reply.id), None)
        if waiting is not None:
            waiting.set_result(reply)

    def stop(self) -> None:
        """Let nobody wait any more."""
        with self._lock:
            self._stopped = True
            waiting, self._waiting = self._waiting, {}
        for (device, _), future in waiting.items():
            future.set_exception(LinkError("command-unanswered", f"the hub stopped before {device} answered"))

    @contextmanager
    def _place(self, device: str) -> Iterator[tuple[str, Future[Reply]]]:
        """Take a place among those who wait, under a new id that nobody can guess."""
        command_id, future = secrets.token_hex(16), Future[Reply]()
        with self._lock:
            if self._stopped:
                raise LinkError("command-unanswered", "the hub is stopping")
            of_device = Counter(waiting for waiting, _ in self._waiting)[device]
            if of_device >= MAX_OF_DEVICE or len(self._waiting) >= MAX_WAITING:
                counted = f"{of_device} commands wait for {device}, {len(self._waiting)} for all devices"
                raise LinkError("command-busy", f"{counted}; {MAX_OF_DEVICE} and {MAX_WAITING} are the most")
            self._waiting[device, command_id] = future
        try:
            yield command_id, future
        finally:
            with self._lock:
                self._waiting.pop((device, command_id), None)

    def _write(  # noqa: PLR0917 - what a command is made of
        self, device_id: str, command_id: str, name: Name, arguments: Arguments, timeout: float, actor: str
    ) -> Command:
        """Address a command to the run of the device that is online now, and note it in the audit log."""
        now = self._registry.clock.now()
        with self._registry.writing() as session:
            device = session.get(Device, device_id)
            if device is None or device.revoked_at is not None or device.fleet != self._fleet:
                text = f"there is no device {device_id[:80]!r}, or it is revoked"
                raise TrustError("device-unknown", text, hint=WHERE_IDS)
            if not device.online:
                raise LinkError("device-offline", f"{device_id} {_absence(device)}; the command was not sent")
            asked = {"id": command_id, "command": name, "arguments": dict(arguments)}
            self._registry.audit(session, actor, "device.ask", device_id, **asked)
            return Command(
                fleet=self._fleet,
                device=device_id,
                id=command_id,
                name=name,
                issued_at=rfc3339(now),
                expires_at=rfc3339(now + timedelta(seconds=timeout + MARGIN_S)),
                run=device.run,
                arguments=dict(arguments),
            )

    def _send(self, command: Command, timeout: float) -> PublishHandle:
        return self.publish(
            topics.down(self._fleet, command.device, "cmd"),
            msgspec.json.encode(sign_document(COMMAND_TYPE, command, self._signer)),
            expiry=math.ceil(timeout + MARGIN_S),
            correlation=command.id.encode(),
            response_topic=topics.up(self._fleet, command.device, "reply"),
        )


def _deeper_than(levels: int, value: Any) -> bool:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels == 0 or any(_deeper_than(levels - 1, each) for each in inner)


def _absence(device: Device) -> str:
    if device.presence_at is None:
        return "was never online"
    return f"is offline since {rfc3339(datetime.fromtimestamp(device.presence_at / 1000, UTC))}"
