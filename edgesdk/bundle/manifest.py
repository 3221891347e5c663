"""The manifest of a bundle and the index of a release (schema version 1).

Both are JSON, validated by msgspec: an unknown field is refused, except inside `extensions`; a name in `critical` that
this version does not know is refused, so that a later version can add meaning that must not be ignored.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edgesdk.contract import Bindings, Contract

BUNDLE_SCHEMA = "edge.bundle/1"
RELEASE_SCHEMA = "edge.release/1"
MODEL_POLICY_SCHEMA = "edge.model-policy/1"
KNOWN_CRITICAL: frozenset[str] = frozenset()

# `$(?!\n)` is the end of the text; a bare `$` would also match before a last line feed.
ModelName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$(?!\n)")]
ReleaseVersion = Annotated[str, Meta(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.-]{1,32})?$(?!\n)")]
VariantName = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.+-]{0,95}$(?!\n)")]
Sha256 = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}$(?!\n)")]
BundlePath = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*(/[A-Za-z0-9_][A-Za-z0-9_.-]*)*$(?!\n)", max_length=200)
]
Size = Annotated[int, Meta(ge=0, le=2**53)]
RuntimeName = Literal["tflite", "onnxruntime", "tflite-micro", "rknn"]
"""What runs an artifact: the first two by the agent, the others by firmware or a vendor's own program."""
Role = Literal["artifact", "external-data", "golden", "reference", "labels", "tokenizer", "licence", "sbom", "other"]


class _Record(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Common behaviour of the manifest's records."""


class FileEntry(_Record, frozen=True, kw_only=True):
    """One file of the bundle; the manifest itself is not listed."""

    path: BundlePath
    size: Size
    sha256: Sha256
    media_type: Annotated[str, Meta(max_length=100)]
    role: Role


class RuntimeRequirement(_Record, frozen=True, kw_only=True):
    """A runtime that can run the artifact, and the oldest version in which that was checked.

    `package` narrows to one implementation: the runtime ``tflite`` is provided by the packages ``tflite-runtime``
    and ``ai-edge-litert``.
    """

    name: RuntimeName
    min_version: Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+){0,3}$(?!\n)")]
    package: str | None = None


class Requirements(_Record, frozen=True, kw_only=True):
    """What a device must have. Any one of `runtimes` is enough; everything else must hold.

    `opset` and `ir_version` are those of an ONNX artifact: a runtime whose ceiling is known to be lower does not fit.
    """

    runtimes: tuple[RuntimeRequirement, ...]
    architectures: tuple[str, ...]
    accelerator: str | None = None
    opset: Annotated[int, Meta(ge=1)] | None = None
    ir_version: Annotated[int, Meta(ge=1)] | None = None
    memory_bytes: Size = 0
    disk_bytes: Size = 0


class Stage(_Record, frozen=True, kw_only=True):
    """One artifact of the bundle and how it is run. Most bundles have one stage; they run in order.

    Attributes:
        name: The name of the stage.
        artifact: Path of the runnable file.
        runtime: Which runtime runs it.
        bindings: How contract tensors (or the previous stage's outputs) are carried.
        source_sha256: For a vendor's compilation: hash of the portable file it was compiled from.
    """

    name: Annotated[str, Meta(pattern=r"^[a-z0-9_-]{1,32}$(?!\n)")]
    artifact: BundlePath
    runtime: RuntimeName
    bindings: Bindings
    source_sha256: Sha256 | None = None


class Tolerance(_Record, frozen=True, kw_only=True):
    """``|actual - expected| <= absolute + relative * |expected|``, for at least `share` of the elements."""

    absolute: Annotated[float, Meta(ge=0)]
    relative: Annotated[float, Meta(ge=0)] = 0.0
    share: Annotated[float, Meta(gt=0, le=1)] = 1.0


class Parity(_Record, frozen=True, kw_only=True):
    """Inputs with this artifact's expected outputs: is this device computing it right?

    `inputs` and `outputs` map contract tensor names to ``.npy`` files of shape ``(count, *shape)``: inputs in the app's
    units, outputs dequantized, float32.
    """

    count: Annotated[int, Meta(ge=1, le=1_000_000)]
    inputs: dict[str, BundlePath]
    outputs: dict[str, BundlePath]
    tolerances: dict[str, Tolerance]
    origin: Literal["artifact", "precompiled-source", "simulator"] = "artifact"


class Truth(_Record, frozen=True, kw_only=True):
    """Labelled examples, not chosen by what the model gets right: is this model right?

    `labels` is a ``.npy`` of int64 class indices into `label_names`; label *names* are compared, never indices, so a
    release with reordered labels is judged rightly. `incumbent_score` is this release's own score, stored beside it.
    """

    count: Annotated[int, Meta(ge=1, le=1_000_000)]
    inputs: dict[str, BundlePath]
    labels: BundlePath
    label_names: tuple[str, ...]
    score: Annotated[float, Meta(ge=0, le=1)] | None = None
    correct: BundlePath | None = None


class GoldenSet(_Record, frozen=True, kw_only=True):
    """The two parts of the golden set."""

    parity: Parity | None = None
    truth: Truth | None = None


class Evaluation(_Record, frozen=True, kw_only=True):
    """What was measured on the artifact in its own runtime, paired with its float source.

    Attributes:
        metric: For example ``"accuracy"``; without labels ``"agreement"``.
        value: The artifact's value.
        source_value: The float source's value on the same samples.
        difference: ``value - source_value``.
        interval: Paired confidence interval of the difference.
        confidence: Its level, for example 0.95.
        samples: How many samples were judged.
        runtime: For example ``"tflite-runtime 2.14.0"``.
        measured_on: Architecture of the machine that measured, for example ``"x86_64"``.
        on_target: Whether that is the architecture of the target.
        details: Per-class figures, confusion matrix and whatever else the report shows.
    """

    metric: str
    value: float
    source_value: float
    difference: float
    interval: tuple[float, float]
    confidence: float
    samples: int
    runtime: str
    measured_on: str
    on_target: bool
    details: dict[str, Any] = {}


class Lineage(_Record, frozen=True, kw_only=True):
    """Where the release came from."""

    source_sha256: Sha256
    source_format: str
    data_sha256: dict[str, Sha256] = {}
    code_commit: str | None = None
    tools: dict[str, str] = {}
    recipe: dict[str, Any] = {}
    parent_release: str | None = None
    built_at: str | None = None


class Delta(_Record, frozen=True, kw_only=True):
    """A delta from another bundle to this one, offered beside the full file."""

    base_sha256: Sha256
    algorithm: str
    path: str
    size: Size
    sha256: Sha256


class Encryption(_Record, frozen=True, kw_only=True):
    """Room for encrypted artifacts; a device that does not know the scheme refuses."""

    scheme: str
    key_id: str


class Manifest(_Record, frozen=True, kw_only=True):
    """The manifest of one bundle: `manifest.json`, always its first entry."""

    schema: str
    model: ModelName
    release: ReleaseVersion
    variant: VariantName
    target: str
    contract: Contract
    requirements: Requirements
    stages: Annotated[tuple[Stage, ...], Meta(min_length=1, max_length=16)]
    files: Annotated[tuple[FileEntry, ...], Meta(min_length=1, max_length=4096)]
    golden: GoldenSet = GoldenSet()
    reference: BundlePath | None = None
    options: dict[str, Any] = {}
    evaluation: Evaluation | None = None
    lineage: Lineage | None = None
    licence: str | None = None
    sbom: BundlePath | None = None
    encryption: Encryption | None = None
    critical: tuple[str, ...] = ()
    extensions: dict[str, Any] = {}


class VariantEntry(_Record, frozen=True, kw_only=True):
    """One variant in a release index. `bundle` is the file's name beside the index."""

    variant: VariantName
    target: str
    bundle: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.+-]{0,120}\.edge$(?!\n)")]
    size: Size
    sha256: Sha256
    requirements: Requirements
    precision: str = "float32"
    evaluation: Evaluation | None = None
    deltas: tuple[Delta, ...] = ()


class ReleaseIndex(_Record, frozen=True, kw_only=True):
    """`release.json`: one immutable version of a model and its variants, best first for equal fit.

    Attributes:
        built_at: RFC 3339; a signed time that may advance a device's trusted-time floor.
    """

    schema: str
    model: ModelName
    release: ReleaseVersion
    built_at: str
    contract_version: str
    variants: Annotated[tuple[VariantEntry, ...], Meta(min_length=1, max_length=256)]
    lineage: Lineage | None = None
    notes: str = ""
    critical: tuple[str, ...] = ()
    extensions: dict[str, Any] = {}


class AnchorSet(_Record, frozen=True, kw_only=True):
    """The truth set that judges every release of a model: a TUF target, a bundle whose truth part counts."""

    path: str
    sha256: Sha256
    size: Size
    reason: str


class ModelPolicy(_Record, frozen=True, kw_only=True):
    """TUF target `models/{model}/policy.json`: signed by the publisher, changed only with a reason."""

    schema: str
    model: ModelName
    version: Annotated[int, Meta(ge=1)]
    anchor: AnchorSet | None = None
    reason: str = ""


def release_target(model: str, release: str) -> str:
    """TUF target path of a release index."""
    return f"models/{model}/{release}/release.json"


def bundle_target(model: str, release: str, bundle: str) -> str:
    """TUF target path of a bundle; `bundle` is `VariantEntry.bundle`."""
    return f"models/{model}/{release}/{bundle}"


def policy_target(model: str) -> str:
    """TUF target path of a model's policy."""
    return f"models/{model}/policy.json"


DEPLOYMENT_KEYS_TARGET = "trust/deployment.json"
