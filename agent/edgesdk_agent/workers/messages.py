"""What the agent and its children say to each other: one JSON request on stdin, one JSON answer on stdout.

    request  {"task": "verify-bundle", …}             one struct below, named by its tag
    answer   {"ok": true, "result": {…}}              the struct that the request's docstring names
             {"ok": false, "error": {code, message, hint}}

Paths are absolute strings; times are RFC 3339. Both sides are of one installation, so an unknown field is an error.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Protocol

import msgspec
from msgspec import Meta

from edgesdk.bundle.manifest import ModelName, ModelPolicy, ReleaseIndex, ReleaseVersion, Sha256, VariantName
from edgesdk.generation import TrialPolicy
from edgesdk.protocol.messages import Command, Desired, DeviceId, FleetId, Reason, Statement

Judge = Literal["own", "incumbent", "anchor"]
Verdict = Literal["passed", "weak", "refused"]


class _Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Common behaviour of requests and results."""


class _Request(_Message, frozen=True, kw_only=True, tag_field="task"):
    """Requests carry their name in ``task``."""


# ---- trust ----------------------------------------------------------------------------------------------------------


class Repository(_Message, frozen=True, kw_only=True):
    """Where verified updates come from, and where what was seen of them is kept.

    Attributes:
        url: Base address of the TUF repository.
        tuf_dir: Folder of the client's trusted metadata.
        root: The trusted root of enrolment (`root.json`).
        ca: PEM file of the fleet's authority for ``https``; None: the system's.
        now: The time at which expiry is judged: the system's clock when it is proven, else floor + uptime.
        offline: Use the metadata that was verified last; fetch nothing.
    """

    url: str
    tuf_dir: str
    root: str
    now: str
    ca: str | None = None
    offline: bool = False


class TufVersions(_Message, frozen=True, kw_only=True):
    """Versions of the metadata in force; statements and `min_tuf` speak of them."""

    root: int
    timestamp: int


class TargetFile(_Message, frozen=True, kw_only=True):
    """One file of the repository as signed metadata describes it: all that the downloader needs."""

    path: str
    url: str
    length: Annotated[int, Meta(ge=0)]
    sha256: Sha256


class Offer(_Message, frozen=True, kw_only=True):
    """What the repository has for one model of a desired document.

    Attributes:
        index: The release index; None if `error` says why it could not be had.
        targets: By `VariantEntry.bundle`; a bundle that signed metadata does not list (or lists with another length
            or hash than the index) is not among them.
        policy: The model's signed policy, if the publisher made one.
        anchor: The anchor set that `policy` names.
        error: Why this model cannot be offered now; ``permanent`` when asking again will not help.
    """

    index: ReleaseIndex | None = None
    targets: dict[str, TargetFile] = {}
    policy: ModelPolicy | None = None
    anchor: TargetFile | None = None
    error: Reason | None = None


class VerifyDesired(_Request, frozen=True, kw_only=True, tag="verify-desired"):
    """Verify a desired document and look up what it names. Result: `VerifiedDesired`.

    Refused: wrong audience, expired, a serial below `serial_floor`, another document with the serial `serial_floor`
    (the accepted one itself is welcome again: it is read after every connection), unless deployment keys changed. Where
    the accepted document was lost, `accepted_sha256` and `keys_epoch` are None and the serial alone decides.

    Attributes:
        envelope: The DSSE envelope.
        serial_floor: Serial of the accepted document; 0: none yet.
        accepted_sha256: Digest of the accepted document's payload.
        keys_epoch: Epoch of the deployment keys under which it was accepted.
        time_floor: The trusted-time floor so far; "" if none.
    """

    envelope: dict[str, Any]
    repository: Repository
    device: DeviceId
    fleet: FleetId
    serial_floor: int = 0
    accepted_sha256: Sha256 | None = None
    keys_epoch: int | None = None
    time_floor: str = ""


class VerifiedDesired(_Message, frozen=True, kw_only=True):
    """A desired document that may be acted on.

    Attributes:
        offers: By model, for the models whose `release` is not None.
        payload_sha256: Digest of the payload, to be stored as `VerifyDesired.accepted_sha256`.
        time_floor: The new floor: the greatest of the old one, `issued_at` and the releases' build times.
    """

    desired: Desired
    offers: dict[ModelName, Offer]
    payload_sha256: Sha256
    keys_epoch: int
    time_floor: str
    tuf: TufVersions


class VerifyCommand(_Request, frozen=True, kw_only=True, tag="verify-command"):
    """Verify a command's signature, audience, run id and expiry. Result: `VerifiedCommand`."""

    envelope: dict[str, Any]
    repository: Repository
    device: DeviceId
    fleet: FleetId
    run: str


class VerifiedCommand(_Message, frozen=True, kw_only=True):
    """A command that may be carried out once."""

    command: Command


class VerifyBundle(_Request, frozen=True, kw_only=True, tag="verify-bundle"):
    """Verify a downloaded bundle and unpack it. Result: `VerifiedBundle`.

    Attributes:
        path: The downloaded file.
        length: From signed metadata, bytes.
        sha256: From signed metadata.
        destination: A folder that does not exist; the bundle is unpacked there (files and folders fsynced). It is
            removed when anything fails.
        model: The manifest must name this model.
        release: And this release; None: any (an anchor set).
        variant: And this variant; None: any.
    """

    path: str
    length: int
    sha256: Sha256
    destination: str
    model: ModelName
    release: ReleaseVersion | None = None
    variant: VariantName | None = None


class VerifiedBundle(_Message, frozen=True, kw_only=True):
    """What was unpacked, and how many bytes it takes."""

    release: ReleaseVersion
    variant: VariantName
    contract_version: str
    unpacked_bytes: int


class VerifyImport(_Request, frozen=True, kw_only=True, tag="verify-import"):
    """Verify a file of `edge bundle export` as if it were the repository. Result: `VerifiedImport`.

    The fields mean what they mean in `VerifyDesired`; they count if the file holds a desired document.

    Attributes:
        path: The file.
        downloads: Folder into which the targets of the file that are offered are copied, by their SHA-256.
    """

    path: str
    repository: Repository
    device: DeviceId
    fleet: FleetId
    downloads: str
    serial_floor: int = 0
    accepted_sha256: Sha256 | None = None
    keys_epoch: int | None = None
    time_floor: str = ""


class VerifiedImport(_Message, frozen=True, kw_only=True):
    """What a file brought.

    Attributes:
        model: The model that it was exported for.
        release: Its release.
        verified: The desired document in it, and its offers; None if it holds none.
        envelope: The envelope of that document.
        offer: What the file has for `model`.
        placed: The targets that were copied into `downloads`.
        time_floor: The new floor.
    """

    model: ModelName
    release: ReleaseVersion
    offer: Offer
    placed: tuple[TargetFile, ...]
    time_floor: str
    verified: VerifiedDesired | None = None
    envelope: dict[str, Any] | None = None


class Sign(_Request, frozen=True, kw_only=True, tag="sign"):
    """Sign statements with the device's statement key (a file). Result: `Signed`."""

    statements: tuple[Statement, ...]
    key: str


class Signed(_Message, frozen=True, kw_only=True):
    """DSSE envelopes, in the order of the statements."""

    envelopes: tuple[dict[str, Any], ...]


TrustRequest = VerifyDesired | VerifyCommand | VerifyBundle | VerifyImport | Sign


# ---- testing --------------------------------------------------------------------------------------------------------


class JudgeNewcomer(_Request, frozen=True, kw_only=True, tag="judge"):
    """Judge a newcomer before any app sees it. Result: `Judgement`.

    Attributes:
        newcomer: Folder of the unpacked bundle (staged or a generation).
        options: Runtime options of the newcomer's deployment (`DesiredModel.config`).
        incumbent: Folder of the good generation; None for a first release.
        incumbent_options: Its options.
        anchor: Folder of the unpacked anchor set; None if the policy names none.
        policy: Limits (`testing_seconds`, `testing_memory_bytes`), the latency budget and alpha.
    """

    newcomer: str
    policy: TrialPolicy
    options: dict[str, Any] = {}
    incumbent: str | None = None
    incumbent_options: dict[str, Any] = {}
    anchor: str | None = None


class ParityResult(_Message, frozen=True, kw_only=True):
    """How the artifact's outputs here differ from the expected ones.

    `share` is the smallest share of elements within tolerance over the outputs; `largest` the largest difference.
    """

    count: int
    share: float
    largest: float
    passed: bool


class TruthResult(_Message, frozen=True, kw_only=True):
    """One truth set's verdict.

    Attributes:
        judge: Whose truth set: the newcomer's own, the incumbent's, or the anchor set.
        n: Labelled examples.
        wins: Examples that the newcomer gets right and the incumbent wrong.
        losses: The reverse.
        newcomer_score: Share that the newcomer gets right.
        incumbent_score: The incumbent's; for the own set without an incumbent, the score the release claims.
        p_value: Of the test for a loss beyond the margin.
        verdict: ``weak`` passes, but there are too few examples to trust it.
    """

    judge: Judge
    n: int
    wins: int
    losses: int
    newcomer_score: float
    incumbent_score: float | None
    p_value: float | None
    verdict: Verdict


class LatencyResult(_Message, frozen=True, kw_only=True):
    """Milliseconds per call over the parity inputs, after one warm-up call.

    `judged_ms` is the quantile that the budget judges: ``1 - max_slow_rate`` of the policy.
    """

    count: int
    p50_ms: float
    p95_ms: float
    judged_ms: float
    budget_ms: float | None = None


class SlowdownResult(_Message, frozen=True, kw_only=True):
    """How long calls take beside those of the good generation, the two called in turn.

    `p_value` is of the sign test for "the median call takes more than `factor` times as long"; `ratio` the median.
    """

    pairs: int
    slower: int
    ratio: float
    factor: float
    p_value: float
    passed: bool


class GrowthResult(_Message, frozen=True, kw_only=True):
    """What repeated inference leaves behind, states handed on as an app would.

    `rising` of `blocks` blocks of calls ended with more memory than they began with.
    """

    calls: int
    blocks: int
    rising: int
    bytes_per_call: float
    limit: int
    passed: bool


class Judgement(_Message, frozen=True, kw_only=True):
    """What testing found. `reason` is set exactly when `passed` is false.

    Attributes:
        weak: Some truth set has too few examples to be trusted (it is said so in statements).
        peak_memory: Largest resident set of the child, bytes.
        backend: For example ``"tflite-runtime 2.14.0"``.
    """

    passed: bool
    reason: Reason | None = None
    weak: bool = False
    parity: ParityResult | None = None
    truth: tuple[TruthResult, ...] = ()
    latency: LatencyResult | None = None
    slowdown: SlowdownResult | None = None
    growth: GrowthResult | None = None
    peak_memory: int = 0
    backend: str = ""
    provider: str = ""


class Workers(Protocol):
    """The two children that the updater needs; `edgesdk_agent.workers.client.ChildWorkers` starts them."""

    def verify_bundle(self, request: VerifyBundle) -> VerifiedBundle:
        """Verify and unpack.

        Raises:
            ReleaseError: bundle-* or manifest-*: permanent.
            TrustError: ``tuf-target-mismatch``: the file is not the one that was signed.
            DeploymentError: ``disk-full`` or ``worker-failed``: transient.
        """
        ...

    def test(self, request: JudgeNewcomer) -> Judgement:
        """Judge a newcomer. A model that is merely bad is a `Judgement`, not an exception.

        Raises:
            DeploymentError: ``testing-crashed`` or ``testing-timeout`` (permanent), ``worker-failed`` (transient).
        """
        ...
