"""What a device runs, and where it lies: generations, slots and the folder that apps read.

    STORE/                                (EDGESDK_STORE, default /var/lib/edge-agent/store)
      models/MODEL/slots.json             which generation serves; replaced atomically, never edited
      generations/GENERATION/             read-only: the unpacked bundle and generation.json
      evidence.sock                       apps send evidence here

The agent alone writes this folder (`edgesdk_agent.store`); apps only read it through `edgesdk.model`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edgesdk.bundle.manifest import ModelName, ReleaseVersion, Sha256, VariantName
from edgesdk.canonical import canonical_json, sha256_hex
from edgesdk.errors import DeploymentError

SLOTS_SCHEMA = "edge.slots/1"
GENERATION_SCHEMA = "edge.generation/1"
DEFAULT_STORE = "/var/lib/edge-agent/store"

Serve = Literal["good", "trial", "none"]


class TrialPolicy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a deployment is tried on a device. Part of the generation: it changes behaviour.

    Attributes:
        min_seconds: Earliest commit after apps were first served by the trial.
        max_seconds: Deadline; then `on_thin_evidence` decides if there is too little evidence.
        min_calls: Calls that live evidence must hold before a commit.
        on_thin_evidence: ``hold`` keeps trying, ``commit`` or ``rollback`` ends it.
        max_bad_rate: Share of calls (errors, NaN, infinities) that is tolerated.
        slow_ms: A call slower than this counts as slow; None: no latency budget.
        max_slow_rate: Share of slow calls that is tolerated.
        max_unsure_rate: Share of answers that may be less confident than the good generation's least confident tenth
            was in service; None: not judged. A release that is as confident has a share of 0.1.
        alpha: Probability with which a release *at* the tolerated rates is rolled back wrongly.
        testing_seconds: Limit of the testing worker.
        testing_memory_bytes: Address-space limit of the testing worker; 0: none.
        max_slowdown: How many times as long as the good generation's a call may take, measured in testing; None: any.
        max_growth_bytes: Memory that a call may leave behind on average, measured in testing; None: any.
    """

    min_seconds: Annotated[float, Meta(ge=0)] = 60.0
    max_seconds: Annotated[float, Meta(gt=0)] = 3600.0
    min_calls: Annotated[int, Meta(ge=0)] = 200
    on_thin_evidence: Literal["hold", "commit", "rollback"] = "hold"
    max_bad_rate: Annotated[float, Meta(ge=0, le=1)] = 0.001
    slow_ms: Annotated[float, Meta(gt=0)] | None = None
    max_slow_rate: Annotated[float, Meta(ge=0, le=1)] = 0.05
    max_unsure_rate: Annotated[float, Meta(ge=0, le=1)] | None = None
    alpha: Annotated[float, Meta(gt=0, lt=1)] = 0.01
    testing_seconds: Annotated[float, Meta(gt=0)] = 120.0
    testing_memory_bytes: Annotated[int, Meta(ge=0)] = 0
    max_slowdown: Annotated[float, Meta(gt=0)] | None = 1.5
    max_growth_bytes: Annotated[int, Meta(ge=0)] | None = 1024


class Generation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`generation.json`: the identity of a generation and what it was made of.

    Attributes:
        generation: ``sha256(canonical JSON {bundle, config, policy})``; also the folder's name.
        bundle_sha256: Hash of the whole bundle file.
        config: Runtime options and thresholds set by the operator for this deployment.
    """

    schema: str
    generation: Sha256
    model: ModelName
    release: ReleaseVersion
    variant: VariantName
    bundle_sha256: Sha256
    config: dict[str, Any]
    policy: TrialPolicy


class Slots(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model's slots: the truth of what serves.

    `seq` grows by one with every write. See `architecture.md` of the docs for the moves (commit, rollback).
    """

    schema: str
    model: ModelName
    seq: Annotated[int, Meta(ge=0)]
    good: Sha256 | None = None
    previous: Sha256 | None = None
    trial: Sha256 | None = None
    serve: Serve = "none"

    @property
    def serving(self) -> str | None:
        """The generation that apps are to run, or None."""
        return {"good": self.good, "trial": self.trial, "none": None}[self.serve]


def empty_slots(model: str) -> Slots:
    """Return the slots of a model that was never deployed here."""
    return Slots(schema=SLOTS_SCHEMA, model=model, seq=0)


def generation_id(bundle_sha256: str, config: dict[str, Any], policy: TrialPolicy) -> str:
    """Return the identity of a generation: 64 hexadecimal characters.

    A policy written with ``60`` is the one that is read back as ``60.0``: both have one identity.
    """
    read_back = msgspec.convert(msgspec.to_builtins(policy), TrialPolicy)
    return sha256_hex(canonical_json({"bundle": bundle_sha256, "config": config, "policy": read_back}))


def store_path(explicit: str | os.PathLike[str] | None = None) -> Path:
    """Return the store's folder: the argument, else ``EDGESDK_STORE``, else `DEFAULT_STORE`."""
    return Path(explicit or os.environ.get("EDGESDK_STORE") or DEFAULT_STORE)


def slots_file(store: Path, model: str) -> Path:
    """Return the path of a model's slots file."""
    return store / "models" / model / "slots.json"


def generation_dir(store: Path, generation: str) -> Path:
    """Return the folder of a generation."""
    return store / "generations" / generation


def evidence_socket(store: Path) -> Path:
    """Return the path of the Unix datagram socket to which apps send evidence."""
    return store / "evidence.sock"


def read_slots(store: Path, model: str) -> Slots | None:
    """Read a model's slots in one read; None when the model was never deployed here.

    Raises:
        DeploymentError: ``store-corrupt`` if the file does not hold slots.
    """
    try:
        data = slots_file(store, model).read_bytes()
    except FileNotFoundError:
        return None
    return decode_slots(data, where=str(slots_file(store, model)))


def decode_slots(data: bytes, *, where: str) -> Slots:
    """Decode the bytes of a slots file.

    Raises:
        DeploymentError: ``store-corrupt`` if they are not valid slots; `where` is named in the message.
    """
    try:
        slots = msgspec.json.decode(data, type=Slots)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DeploymentError("store-corrupt", f"{where} does not hold slots: {error}") from error
    if slots.schema != SLOTS_SCHEMA or (slots.serve != "none" and slots.serving is None):
        raise DeploymentError("store-corrupt", f"{where} serves {slots.serve!r}, but that slot is empty")
    return slots


def decode_generation(data: bytes, *, where: str) -> Generation:
    """Decode `generation.json` and check that its identity follows from its contents.

    Raises:
        DeploymentError: ``store-corrupt`` if it does not.
    """
    try:
        found = msgspec.json.decode(data, type=Generation)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise DeploymentError("store-corrupt", f"{where} does not describe a generation: {error}") from error
    expected = generation_id(found.bundle_sha256, found.config, found.policy)
    if found.schema != GENERATION_SCHEMA or found.generation != expected:
        raise DeploymentError("store-corrupt", f"{where} names generation {found.generation}, expected {expected}")
    return found
