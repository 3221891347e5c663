"""What is fuzzed: every parser of bytes that another party wrote, with valid seeds and the errors it may raise."""

from __future__ import annotations

import base64
import io
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from edgesdk_agent.config import load_config

from edgesdk.bundle.decode import decode_manifest, decode_release, encode_manifest, encode_release
from edgesdk.bundle.export import open_export, write_export
from edgesdk.bundle.golden import parity_files, read_npy, truth_files, write_npy
from edgesdk.bundle.manifest import (
    BUNDLE_SCHEMA,
    RELEASE_SCHEMA,
    GoldenSet,
    Manifest,
    ReleaseIndex,
    Requirements,
    RuntimeRequirement,
    Stage,
    Tolerance,
    VariantEntry,
)
from edgesdk.bundle.reader import open_bundle
from edgesdk.bundle.writer import file_entry, write_bundle
from edgesdk.canonical import canonical_json
from edgesdk.contract import Binding, Bindings, Contract, Normalisation, TensorSpec
from edgesdk.devbroker import packets
from edgesdk.devbroker.codec import Decoder
from edgesdk.devbroker.codec import encode as encode_packet
from edgesdk.devbroker.wire import PacketError, Properties
from edgesdk.errors import EdgeError
from edgesdk.generation import (
    GENERATION_SCHEMA,
    SLOTS_SCHEMA,
    Generation,
    Slots,
    TrialPolicy,
    decode_generation,
    decode_slots,
    generation_id,
)
from edgesdk.protocol import messages
from edgesdk.protocol.evidence import Counters, Evidence, decode_evidence, encode_evidence
from edgesdk.telemetry.sketches import DDSketch
from edgesdk.trust.deployment import decode_deployment_keys
from edgesdk.trust.dsse import sign_document, verify_document
from edgesdk.trust.enrolment import parse_token
from edgesdk.trust.keys import generate_key, load_signer

DIGEST = "ab" * 32
NOW = "2026-11-23T00:00:00.000Z"
CONTRACT = Contract(
    version="1.0",
    task="classification",
    inputs=(
        TensorSpec(
            name="x", shape=(1, 4, 3), layout="NTC", range=(-9.0, 9.0),
            normalisation=Normalisation(mean=(0.0, 0.1, 0.2), std=(1.0, 1.0, 2.0)),
        ),
    ),
    outputs=(TensorSpec(name="y", shape=(1, 2)),),
    labels=("a", "b"),
)  # fmt: skip
TOML = b"""root = "/var/lib/edge-agent"
[telemetry]
interval_seconds = 2
[runtime]
packages = ["onnxruntime"]
[store]
apps_group = "apps"
"""


@dataclass(frozen=True, kw_only=True)
class Target:
    """One parser.

    Attributes:
        run: Parses bytes.
        seeds: Valid inputs.
        json: Whether the seeds are JSON, so that documents are mutated by their parts, too.
        allowed: What it may raise.
        weight: How often it is run beside the others.
    """

    name: str
    run: Callable[[bytes], Any]
    seeds: tuple[bytes, ...]
    json: bool = True
    allowed: tuple[type[Exception], ...] = (EdgeError,)
    weight: int = 4


def targets() -> tuple[Target, ...]:
    """Return everything that is fuzzed; each seed passes its parser."""
    with tempfile.TemporaryDirectory() as folder:
        return (*_bundles(Path(folder)), *_documents(), *_signed(Path(folder)), *_others())


def _manifest() -> tuple[Manifest, dict[str, bytes]]:
    window, scores = np.zeros((2, 1, 4, 3), np.float32), np.zeros((2, 1, 2), np.float32)
    parity, files = parity_files({"x": window}, {"y": scores}, {"y": Tolerance(absolute=0.1)})
    truth, more = truth_files({"x": window}, np.array([0, 1]), ("a", "b"), correct=np.array([True, False]))
    contents = {"model.onnx": b"\x08\x09not a model" * 3, **files, **more}
    stage = Stage(
        name="main",
        artifact="model.onnx",
        runtime="onnxruntime",
        bindings=Bindings(
            inputs=(
                Binding(tensor="x", artifact_name="x", index=0, dtype="int8", shape=(1, 4, 3), scale=0.1, zero_point=3),
            ),
            outputs=(Binding(tensor="y", artifact_name="y", index=0, dtype="float32", shape=(1, 2)),),
        ),
    )
    manifest = Manifest(
        schema=BUNDLE_SCHEMA, model="wearable", release="1.0.0", variant="onnx-int8", target="linux-x86_64-cpu",
        contract=CONTRACT, requirements=_requirements(), stages=(stage,), golden=GoldenSet(parity=parity, truth=truth),
        files=tuple(
            file_entry(name, data, "application/octet-stream", "golden" if "golden" in name else "artifact")
            for name, data in sorted(contents.items())
        ),
    )  # fmt: skip
    return manifest, contents


def _requirements() -> Requirements:
    return Requirements(
        runtimes=(RuntimeRequirement(name="onnxruntime", min_version="1.18"),), architectures=("x86_64",)
    )


def _bundles(folder: Path) -> tuple[Target, ...]:
    manifest, contents = _manifest()
    made = write_bundle(folder / "seed.edge", manifest, contents)
    small = write_bundle(
        folder / "small.edge",
        msgspec.structs.replace(manifest, files=manifest.files[-1:], golden=GoldenSet()),
        {manifest.files[-1].path: contents[manifest.files[-1].path]},
    )
    entry = VariantEntry(
        variant="onnx-int8", target="linux-x86_64-cpu", bundle="a.edge", size=made.size, sha256=made.sha256,
        requirements=_requirements(),
    )  # fmt: skip
    index = ReleaseIndex(
        schema=RELEASE_SCHEMA, model="wearable", release="1.0.0", built_at=NOW, contract_version="1.0",
        variants=(entry,),
    )  # fmt: skip
    handle = os.memfd_create("bundle")

    def read_bundle(data: bytes) -> None:
        os.ftruncate(handle, 0)
        os.pwrite(handle, data, 0)
        with open_bundle(f"/proc/self/fd/{handle}") as opened:
            opened.verify()

    def read_export(data: bytes) -> None:
        os.ftruncate(handle, 0)
        os.pwrite(handle, data, 0)
        with open_export(f"/proc/self/fd/{handle}") as opened:
            opened.verify()

    carried = write_export(
        folder / "seed.export", {"metadata/1.root.json": b"{}", "targets/" + DIGEST: b"bytes", "desired.json": b"{}"},
        model="wearable", release="1.0.0", variants=("onnx-int8",), device="d",
    )  # fmt: skip
    arrays = (np.zeros((2, 3), np.float32), np.arange(5), np.array([True]), np.zeros((), np.int8))
    old = io.BytesIO()
    np.save(old, np.zeros((2, 2), "<f8"))
    return (
        Target(name="bundle", run=read_bundle, json=False, weight=2,
               seeds=tuple(each.path.read_bytes() for each in (made, small))),
        Target(name="exported file", run=read_export, json=False, weight=2, seeds=(carried.path.read_bytes(),)),
        Target(name="manifest", run=decode_manifest, seeds=(encode_manifest(manifest),)),
        Target(name="release index", run=decode_release, seeds=(encode_release(index),)),
        Target(name="golden arrays", run=lambda data: read_npy(data, "fuzz"), json=False,
               seeds=(*map(write_npy, arrays), old.getvalue())),
    )  # fmt: skip


def _documents() -> tuple[Target, ...]:
    sketch = DDSketch()
    for value in (0.5, 3.0, -2.0, 0.0):
        sketch.add(value)
    desired = messages.Desired(
        fleet="f", device="d", serial=3, issued_at=NOW, min_tuf=messages.MinTuf(root=1, timestamp=2),
        models={"wearable": messages.DesiredModel(release="1.0.0", deployment="d1", config={"x": {"threads": 1}})},
    )  # fmt: skip
    command = messages.Command(
        fleet="f", device="d", id="command-1", name="ping", issued_at=NOW, expires_at=NOW, run="run-1"
    )
    statement = messages.Statement(
        device="d", fleet="f", enrolment="e", model="wearable", deployment="d1", serial=3, release="1.0.0",
        generation=DIGEST, state="trial", good=None, good_release=None, serving="trial", counter=1, run="r", boot="b",
        ts=NOW, time_floor=NOW, reason=messages.Reason(code="x"), evidence={"calls": 3},
    )  # fmt: skip
    model = messages.ModelTelemetry(
        model="wearable", generation=DIGEST, release="1.0.0", slot="good", app="a", calls=4,
        latency_ms={"total": sketch.to_dict()},
    )  # fmt: skip
    record = messages.Record(
        schema=messages.TELEMETRY_SCHEMA, device="d", fleet="f", run="r", seq=1, ts=NOW, mono_ms=5, models=(model,),
        host=messages.DeviceTelemetry(), lost=(messages.Lost(run="r", ranges=((1, 2),)),),
    )  # fmt: skip
    event = messages.Event(
        schema=messages.EVENT_SCHEMA, device="d", fleet="f", run="r", seq=1, ts=NOW, mono_ms=5, state="trial"
    )
    presence = messages.Presence(device="d", fleet="f", online=True, run="r", ts=NOW)
    up = (statement, record, event, presence, messages.StateReport(device="d", fleet="f", statements={"m": {}}))
    evidence = Evidence(
        v=1, kind="counters", app="a", pid=1, session="12345678", seq=1, model="wearable", generation=DIGEST,
        counters=Counters(calls=3, latency_ms={"total": sketch.to_dict()}, classes={"a": 3}),
    )  # fmt: skip
    return (
        *(
            Target(name=type(each).__name__.lower(), seeds=(messages.encode(each),),
                   run=partial(messages.decode, kind=type(each)))
            for each in (desired, command, *up)
        ),
        Target(name="evidence", run=decode_evidence, seeds=(encode_evidence(evidence),)),
        Target(name="sketch", seeds=(canonical_json(sketch.to_dict()),), run=_sketch),
    )  # fmt: skip


def _sketch(data: bytes) -> None:
    try:
        tree = msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return  # the messages that carry sketches are targets of their own
    DDSketch.from_dict(tree)


def _signed(folder: Path) -> tuple[Target, ...]:
    key = generate_key(folder / "key.pem", None)
    envelope = sign_document("application/x", b'{"a":1}', load_signer(folder / "key.pem"))
    keys = {
        "schema": "edge.deployment-keys/1", "epoch": 1, "threshold": 1,
        "keys": [msgspec.to_builtins(key)],
    }  # fmt: skip
    token = {"hub": "http://h", "fleet": "f", "root_sha256": DIGEST, "secret": "A" * 43, "expires_at": NOW}

    def read_token(data: bytes) -> None:
        parse_token("edge1." + base64.urlsafe_b64encode(data).decode())

    return (
        Target(name="signed envelope", run=lambda data: verify_document(data, "application/x", (key,)),
               seeds=(canonical_json(envelope),), weight=2),
        Target(name="deployment keys", run=decode_deployment_keys, seeds=(canonical_json(keys),)),
        Target(name="enrolment token", run=read_token, seeds=(canonical_json(token),)),
    )  # fmt: skip


def _others() -> tuple[Target, ...]:
    policy, config = TrialPolicy(), {"runtime": {"threads": 1}}
    identity = generation_id(DIGEST, config, policy)
    generation = Generation(
        schema=GENERATION_SCHEMA, generation=identity, model="wearable", release="1.0.0", variant="v",
        bundle_sha256=DIGEST, config=config, policy=policy,
    )  # fmt: skip
    slots = Slots(schema=SLOTS_SCHEMA, model="wearable", seq=3, good=DIGEST, serve="good")
    handle = os.memfd_create("config")

    def read_config(data: bytes) -> None:
        os.ftruncate(handle, 0)
        os.pwrite(handle, data, 0)
        load_config(Path(f"/proc/self/fd/{handle}"), {})

    def read_packets(data: bytes, version: int) -> None:
        list(Decoder(version=version).feed(data))

    sent = (
        packets.Connect(client_id="d", clean_start=True, keep_alive=30, username="u", password=b"p",
                        will=packets.Will(topic="a/b", payload=b"x"), properties=Properties()),
        packets.Publish(topic="edge/v1/f/d/up/event", payload=b"{}", qos=1, packet_id=7),
        packets.Subscribe(packet_id=1, filters=(packets.Filter(topic_filter="a/+/#", qos=1),)),
        packets.Unsubscribe(packet_id=2, filters=("a/#",)),
        packets.Puback(packet_id=7),
        packets.Disconnect(),
    )  # fmt: skip
    return (
        Target(name="slots", run=lambda data: decode_slots(data, where="fuzz"), seeds=(msgspec.json.encode(slots),)),
        Target(name="generation", run=lambda data: decode_generation(data, where="fuzz"),
               seeds=(msgspec.json.encode(generation),)),
        *(
            Target(name=f"MQTT {name} packets", run=partial(read_packets, version=version), json=False,
                   allowed=(PacketError,), weight=6, seeds=tuple(encode_packet(each, version) for each in sent))
            for name, version in (("5", packets.MQTT_5), ("3.1.1", packets.MQTT_311))
        ),
        Target(name="agent.toml", run=read_config, seeds=(TOML,), json=False, weight=1),
    )  # fmt: skip
