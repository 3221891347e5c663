"""What apps tell the agent: one JSON datagram on a Unix socket, never blocking, never failing the app.

Counters are *cumulative* per (session, generation), so that a lost datagram does not bias them: the agent keeps the
latest (highest `seq`) of each. `session` is random per `edgesdk.Model` object and process.

Before a generation is loaded the SDK says ``loading``, after it ``loaded`` (or ``load-failed``): two unpaired
``loading`` of one app mean that the generation crashes it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edgesdk.bundle.manifest import ModelName, Sha256
from edgesdk.errors import LinkError

MAX_DATAGRAM = 64 * 1024
Count = Annotated[int, Meta(ge=0)]


class Counters(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What happened in this session with this generation since it was loaded.

    Attributes:
        calls: Calls that reached the artifact (rejected inputs are not among them).
        errors: Calls that raised, by error code.
        nan: Calls whose output held NaN or infinity.
        rejects: Inputs that the contract refused.
        slow: Calls slower than the policy's `slow_ms`.
        answered_by_good: Calls of a trial that the good generation answered instead.
        latency_ms: DDSketches by split (``total``, ``pre``, ``infer``, ``post``).
        confidence: DDSketch of the top class's probability, for classifications.
        classes: Answers by label.
    """

    calls: Count = 0
    errors: dict[str, int] = {}
    nan: Count = 0
    rejects: Count = 0
    slow: Count = 0
    answered_by_good: Count = 0
    latency_ms: dict[str, dict[str, Any]] = {}
    confidence: dict[str, Any] | None = None
    classes: dict[str, int] = {}


class Evidence(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One datagram."""

    v: Literal[1]
    kind: Literal["loading", "loaded", "load-failed", "counters", "closed"]
    app: Annotated[str, Meta(min_length=1, max_length=64)]
    pid: Annotated[int, Meta(ge=1)]
    session: Annotated[str, Meta(min_length=8, max_length=64)]
    seq: Count
    model: ModelName
    generation: Sha256
    counters: Counters = Counters()
    reason: dict[str, str] | None = None
    backend: str = ""
    provider: str = ""
    sdk: str = ""


def encode_evidence(evidence: Evidence) -> bytes:
    """Encode a datagram; without its sketches when it would exceed `MAX_DATAGRAM`."""
    data = msgspec.json.encode(evidence)
    if len(data) <= MAX_DATAGRAM:
        return data
    slim = msgspec.structs.replace(evidence.counters, latency_ms={}, confidence=None, classes={})
    return msgspec.json.encode(msgspec.structs.replace(evidence, counters=slim))


def decode_evidence(data: bytes) -> Evidence:
    """Decode a datagram.

    Raises:
        LinkError: ``message-invalid`` or ``message-too-large``.
    """
    if len(data) > MAX_DATAGRAM:
        raise LinkError("message-too-large", f"an evidence datagram of {len(data)} bytes; {MAX_DATAGRAM} is the most")
    try:
        return msgspec.json.decode(data, type=Evidence)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LinkError("message-invalid", f"no valid evidence: {error}") from error
