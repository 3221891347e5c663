"""Every message of the protocol, version 1, as msgspec types; `docs/asyncapi.yaml` is rendered from them.

JSON, UTC time stamps in RFC 3339 beside the sender's monotonic milliseconds. Devices and hubs of different ages meet:
unknown fields are ignored in what devices send *up*, and refused in signed documents that go *down*.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta

from edgesdk.bundle.manifest import ModelName, ReleaseVersion, Sha256
from edgesdk.errors import LinkError
from edgesdk.generation import TrialPolicy
from edgesdk.protocol.topics import MAX_PAYLOAD
from edgesdk.targets.matching import Capabilities

DESIRED_TYPE = "application/vnd.edgesdk.desired.v1+json"
COMMAND_TYPE = "application/vnd.edgesdk.command.v1+json"
STATEMENT_TYPE = "application/vnd.edgesdk.statement.v1+json"
TELEMETRY_SCHEMA = "edge.telemetry/1"
EVENT_SCHEMA = "edge.event/1"

DeviceId = Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,64}$(?!\n)")]
FleetId = Annotated[str, Meta(pattern=r"^[a-z0-9-]{1,64}$(?!\n)")]
Count = Annotated[int, Meta(ge=0)]

State = Literal[
    "idle",
    "offered",
    "refused",
    "downloading",
    "verified",
    "staged",
    "testing",
    "trial",
    "committed",
    "failed",
    "rolled_back",
]


class _Down(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Signed documents to a device: an unknown field is refused."""


class _Up(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a device sends: unknown fields are ignored."""


# ---- down -----------------------------------------------------------------------------------------------------------


class MinTuf(_Down, frozen=True, kw_only=True):
    """Lowest versions of TUF metadata that the hub knows of: a frozen mirror is seen by them."""

    root: Count
    timestamp: Count


class DesiredModel(_Down, frozen=True, kw_only=True):
    """What one model should be on a device.

    Attributes:
        release: Version to run; None removes the model.
        deployment: The operator's rollout (or single deployment) that wants it; echoed in statements.
        config: Runtime options and thresholds.
        policy: How it is tried.
        retry_quarantined: Try a generation again that failed here.
    """

    release: ReleaseVersion | None
    deployment: Annotated[str, Meta(max_length=64)]
    config: dict[str, Any] = {}
    policy: TrialPolicy = TrialPolicy()
    retry_quarantined: bool = False


class Desired(_Down, frozen=True, kw_only=True):
    """`down/desired` (DSSE, retained): the truth of what should run."""

    fleet: FleetId
    device: DeviceId
    serial: Annotated[int, Meta(ge=1, le=2**63 - 1)]
    issued_at: str
    min_tuf: MinTuf
    models: dict[ModelName, DesiredModel] = {}
    paused: bool = False
    expires_at: str | None = None


class Command(_Down, frozen=True, kw_only=True):
    """`down/cmd` (DSSE, never retained): only for immediacy.

    `run` is the recipient's run id from its presence; None only for nudges to all.
    """

    fleet: FleetId
    device: Annotated[str, Meta(pattern=r"^([a-z0-9-]{1,64}|_all)$(?!\n)")]
    id: Annotated[str, Meta(min_length=8, max_length=64)]
    name: Literal["ping", "status", "deploy-now", "capture", "logs", "benchmark"]
    issued_at: str
    expires_at: str
    run: str | None = None
    arguments: dict[str, Any] = {}


# ---- up -------------------------------------------------------------------------------------------------------------


class Reason(_Up, frozen=True, kw_only=True):
    """Why: a code of `edgesdk.errors.CODES`, a sentence, and what to do."""

    code: str
    message: str = ""
    hint: str = ""
    permanent: bool = False


class Presence(_Up, frozen=True, kw_only=True):
    """`up/presence` (retained; the last will says offline).

    `ended` says how the run before ended: first, stopped, killed, planned, power loss, watchdog or crash.
    `capabilities` is what the device can do, told when it comes online. `problem` says why the newest desired document
    that came is not acted on (refused, or the repository or the disk is in the way); it needs no room on the disk and
    is told anew when it changes. Neither is signed: they inform, they decide nothing.
    """

    device: DeviceId
    fleet: FleetId
    online: bool
    run: str
    ts: str
    agent: str = ""
    boot: str = ""
    ended: str = ""
    capabilities: Capabilities | None = None
    problem: Reason | None = None


class Statement(_Up, frozen=True, kw_only=True):
    """A signed fact by a device about one model (DSSE, key: the device's statement key).

    `counter` is durable before sending and grows by one per statement of this enrolment; `serial` is the desired
    that this answers (0: none yet). `evidence_sha256` is the digest of `evidence` in canonical JSON.
    """

    device: DeviceId
    fleet: FleetId
    enrolment: str
    model: ModelName
    deployment: str
    serial: Count
    release: str | None
    generation: Sha256 | None
    state: State
    good: Sha256 | None
    good_release: str | None
    serving: Literal["good", "trial", "none"]
    counter: Annotated[int, Meta(ge=1)]
    run: str
    boot: str
    ts: str
    time_floor: str
    reason: Reason | None = None
    evidence: dict[str, Any] = {}
    evidence_sha256: Sha256 | None = None


class Lost(_Up, frozen=True, kw_only=True):
    """Records that the outbox had to drop: inclusive ranges of `seq` of one run."""

    run: str
    ranges: tuple[tuple[int, int], ...]


class ModelTelemetry(_Up, frozen=True, kw_only=True):
    """One model and generation in one interval, over all apps or for one.

    `latency_ms` holds sketches by split (``total``, ``pre``, ``infer``, ``post``); each sketch names
    its encoding (see `edgesdk.telemetry.sketches`).
    """

    model: ModelName
    generation: Sha256
    release: str
    slot: Literal["good", "trial", "other"]
    app: str
    calls: Count
    errors: dict[str, int] = {}
    nan: Count = 0
    rejects: Count = 0
    slow: Count = 0
    answered_by_good: Count = 0
    latency_ms: dict[str, dict[str, Any]] = {}
    confidence: dict[str, Any] | None = None
    classes: dict[str, int] = {}
    backend: str = ""
    provider: str = ""
    sdk: str = ""


class DeviceTelemetry(_Up, frozen=True, kw_only=True):
    """The device itself; None where it cannot be read. Sizes in bytes, temperature in °C, shares 0..1."""

    cpu_share: float | None = None
    agent_rss: int | None = None
    memory_free: int | None = None
    disk_free: int | None = None
    temperature: float | None = None
    uptime_s: float | None = None
    clock: Literal["proven", "unproven"] = "unproven"


class Record(_Up, frozen=True, kw_only=True):
    """`up/telemetry`: one interval. `(device, run, seq)` is unique; drop duplicates by it."""

    schema: str
    device: DeviceId
    fleet: FleetId
    run: str
    seq: Count
    ts: str
    mono_ms: Count
    historical: bool = False
    start: str = ""
    end: str = ""
    agent: str = ""
    models: tuple[ModelTelemetry, ...] = ()
    host: DeviceTelemetry | None = None
    lost: tuple[Lost, ...] = ()


class Event(_Up, frozen=True, kw_only=True):
    """`up/event`: a state change (with its signed statement), an error or an alarm."""

    schema: str
    device: DeviceId
    fleet: FleetId
    run: str
    seq: Count
    ts: str
    mono_ms: Count
    historical: bool = False
    kind: Literal["state", "error", "alarm", "lost"] = "state"
    model: str | None = None
    state: State | None = None
    reason: Reason | None = None
    statement: dict[str, Any] | None = None
    lost: tuple[Lost, ...] = ()


class StateReport(_Up, frozen=True, kw_only=True):
    """`up/state` (retained): the latest statement of every model, each a DSSE envelope."""

    device: DeviceId
    fleet: FleetId
    statements: dict[ModelName, dict[str, Any]] = {}


class Reply(_Up, frozen=True, kw_only=True):
    """`up/reply`: the answer to a command, by its id."""

    device: DeviceId
    fleet: FleetId
    id: str
    ok: bool
    ts: str
    result: dict[str, Any] = {}
    reason: Reason | None = None


M = TypeVar("M", bound=msgspec.Struct)


def encode(message: msgspec.Struct) -> bytes:
    """Encode a message as JSON.

    Raises:
        LinkError: ``message-too-large`` beyond `MAX_PAYLOAD` bytes.
    """
    data = msgspec.json.encode(message)
    if len(data) > MAX_PAYLOAD:
        raise LinkError(
            "message-too-large", f"a {type(message).__name__} of {len(data)} bytes; {MAX_PAYLOAD} is the most"
        )
    return data


def decode(data: bytes, kind: type[M]) -> M:
    """Decode and validate a message.

    Raises:
        LinkError: ``message-too-large`` or ``message-invalid`` (the field is named).
    """
    if len(data) > MAX_PAYLOAD:
        raise LinkError("message-too-large", f"a {kind.__name__} of {len(data)} bytes; {MAX_PAYLOAD} is the most")
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LinkError("message-invalid", f"no valid {kind.__name__}: {error}") from error
