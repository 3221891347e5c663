"""Tiny real ONNX models that behave well or badly on purpose, packed as bundles and served from a store."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgesdk.bundle.archive import file_entry, write_bundle
from edgesdk.bundle.manifest import BUNDLE_SCHEMA, Manifest, Requirements, RuntimeRequirement, Stage
from edgesdk.contract import Contract, TensorSpec
from edgesdk.errors import EdgeError
from edgesdk.generation import Generation, evidence_socket
from edgesdk.protocol.evidence import Evidence, decode_evidence
from edgesdk.runtime import bindings_in_order, describe_artifact
from edgesdk.testing import serve_bundle

LABELS = ("zero", "one")
PATIENCE_S = 30.0


def tiny_onnx(answer: int, flaw: str) -> bytes:
    """A softmax that always answers class `answer`; with a flaw when x[0, 0] is negative."""
    weights = np.zeros((4, 2), np.float32)
    bias = np.full((1, 2), -2.0, np.float32)
    bias[0, answer] = 2.0
    initial = [
        numpy_helper.from_array(array, name)
        for name, array in {
            "w": weights,
            "b": bias,
            "zero": np.float32([0]),
            "first": np.int64([0]),
            "one": np.int64([1]),
            "table": np.float32([0, 0, 0]),
        }.items()
    ]
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["xw"]),
        helper.make_node("Add", ["xw", "b"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["p"], axis=-1),
        helper.make_node("Slice", ["x", "first", "one", "one"], ["x0"]),
    ]
    if flaw == "nan":  # log of a negative number
        nodes += [helper.make_node("Log", ["x0"], ["bad"]), helper.make_node("Mul", ["bad", "zero"], ["extra"])]
    elif flaw == "raise":  # an index far outside the table
        nodes += [
            helper.make_node("Mul", ["x0", "scale"], ["far"]),
            helper.make_node("Relu", ["far"], ["negative_only"]),
            helper.make_node("Cast", ["negative_only"], ["index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "index"], ["extra"]),
        ]
        initial.append(numpy_helper.from_array(np.float32([-1000.0]), "scale"))
    else:
        nodes.append(helper.make_node("Mul", ["x0", "zero"], ["extra"]))
    nodes.append(helper.make_node("Add", ["p", "extra"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        initial,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def make_tiny(tmp_path: Path) -> Callable[..., Path]:
    """Write the bundle of a tiny model: ``make_tiny("1.0.0", answer=0, flaw="", version="1.0", data=None)``."""

    def make(
        release: str,
        *,
        answer: int = 0,
        flaw: str = "",
        version: str = "1.0",
        data: bytes | None = None,
        limits: tuple[float, float] | None = None,
    ) -> Path:
        artifact = tmp_path / f"{release}.onnx"
        artifact.write_bytes(tiny_onnx(answer, flaw))
        contract = Contract(
            version=version,
            task="classification",
            inputs=(TensorSpec(name="x", shape=(1, 4), range=limits),),
            outputs=(TensorSpec(name="y", shape=(1, 2)),),
            labels=LABELS,
        )
        bindings = bindings_in_order(contract, *describe_artifact(artifact, "onnxruntime"))
        if data is not None:
            artifact.write_bytes(data)
        manifest = Manifest(
            schema=BUNDLE_SCHEMA,
            model="tiny",
            release=release,
            variant="host",
            target="linux-x86_64-cpu",
            contract=contract,
            requirements=Requirements(
                runtimes=(RuntimeRequirement(name="onnxruntime", min_version="1.18"),), architectures=("x86_64",)
            ),
            stages=(Stage(name="main", artifact="m.onnx", runtime="onnxruntime", bindings=bindings),),
            files=(file_entry("m.onnx", artifact, "application/onnx", "artifact"),),
        )
        return write_bundle(tmp_path / f"{release}.edge", manifest, {"m.onnx": artifact}).path

    return make


@pytest.fixture
def serve(store: Path, make_tiny: Callable[..., Path]) -> Callable[..., Generation]:
    """Serve a new tiny model: ``serve("1.0.0", slot="good", policy=None, **make_tiny's)``."""

    def put(release: str, *, slot: Any = "good", policy: Any = None, config: Any = None, **kind: Any) -> Generation:
        return serve_bundle(make_tiny(release, **kind), store, slot=slot, policy=policy, config=config)

    return put


class Ear:
    """Hears evidence in the agent's place."""

    def __init__(self, store: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(evidence_socket(store)))
        self._socket.settimeout(PATIENCE_S)
        self.heard: list[Evidence] = []

    def until(self, wanted: Callable[[Evidence], bool]) -> Evidence:
        """Return the first datagram, heard already or still to come, that is wanted."""
        for evidence in self.heard:
            if wanted(evidence):
                return evidence
        while True:
            self.heard.append(decode_evidence(self._socket.recv(1 << 17)))
            if wanted(self.heard[-1]):
                return self.heard[-1]

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def ear(store: Path) -> Iterator[Ear]:
    found = Ear(store)
    yield found
    found.close()


@pytest.fixture
def until() -> Callable[[Callable[[], Any]], None]:
    """Poll until a condition holds; the test's time-out is the only clock that judges."""

    def wait(condition: Callable[[], Any]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                if condition():
                    return
            except EdgeError:
                pass
            assert time.monotonic() < deadline, "the condition never held"
            time.sleep(0.01)

    return wait
