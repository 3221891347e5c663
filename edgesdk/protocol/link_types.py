"""What a link takes and gives: messages, TLS files, states and handles; no network here."""

from __future__ import annotations

import ssl
import threading
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

from edgesdk.errors import LinkError


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkTLS:
    """Files for TLS: the authority to trust, and the client's certificate with its key."""

    ca: Path
    cert: Path | None = None
    key: Path | None = None

    def context(self) -> ssl.SSLContext:
        """Return a context that checks the broker's name and shows the client's certificate.

        Raises:
            LinkError: ``link-tls`` when a file cannot be read or key and certificate do not belong together.
        """
        try:
            context = ssl.create_default_context(cafile=str(self.ca))
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self.cert is not None:
                context.load_cert_chain(str(self.cert), None if self.key is None else str(self.key))
        except OSError as error:  # ssl.SSLError is one
            reason = error.strerror or str(error)
            raise LinkError("link-tls", f"the TLS files ({self.ca}, {self.cert}) cannot be used: {reason}") from error
        return context


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """An application message, either way; `expiry` in seconds."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    expiry: int | None = None
    correlation: bytes | None = None
    response_topic: str | None = None
    content_type: str | None = None
    user_properties: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkState:
    """What `on_state` is told: online or not, why not, and whether the broker had kept the session."""

    online: bool
    error: LinkError | None = None
    session_present: bool = False


@dataclass(slots=True)
class PublishHandle:
    """One publish under way.

    Attributes:
        message: What is published.
        future: Done with MQTT's reason code when the broker has acknowledged (QoS 0: when sent); 0 is success and
            16 says that nobody subscribes. Fails with `LinkError` when denied or when the connection is lost first.
        reason_code: The broker's code, also of a refusal; None until it answers.
    """

    message: Message
    future: Future[int] = field(default_factory=Future)
    reason_code: int | None = None
    _forbidden: int | None = None

    def __post_init__(self) -> None:
        self.future.set_running_or_notify_cancel()  # what was handed over cannot be taken back

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the acknowledgement and return its reason code.

        Raises:
            LinkError: ``link-denied``, ``link-offline``, or ``link-waiting`` when called from a callback of the link.
            TimeoutError: The broker has not answered within `timeout` seconds.
        """
        if threading.get_ident() == self._forbidden and not self.future.done():
            raise LinkError("link-waiting", "a callback of the link waits for an answer that the callback holds up")
        return self.future.result(timeout)
