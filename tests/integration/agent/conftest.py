"""Fixtures of the agent's integration tests: a small ONNX classifier, packed and unpacked as a device has it."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgesdk.bundle.archive import BundleFile, file_entry, open_bundle, write_bundle
from edgesdk.bundle.golden import parity_files, truth_files
from edgesdk.bundle.manifest import (
    BUNDLE_SCHEMA,
    GoldenSet,
    Manifest,
    Requirements,
    RuntimeRequirement,
    Stage,
    Tolerance,
)
from edgesdk.bundle.release import write_release
from edgesdk.clock import rfc3339
from edgesdk.contract import Binding, Bindings, Contract, TensorSpec
from edgesdk.trust.keys import generate_key
from edgesdk.trust.repository import first_root, init_repository, publish_release

sys.path.insert(0, str(Path(__file__).parent))

from agent_world import NOW, Quiet, World

CLASSES = ("up", "down", "left")
FEATURES = 4
Array = NDArray[np.float32]


def weights() -> Array:
    """Weights that make the classes separable for `examples`."""
    return np.eye(FEATURES, len(CLASSES), dtype=np.float32)


def onnx_bytes(matrix: Array, *, logarithm: bool = False) -> bytes:
    """A model that answers ``x @ matrix``; with `logarithm` NaN wherever that is negative."""
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y" if not logarithm else "z"])]
    if logarithm:
        nodes.append(helper.make_node("Log", ["z"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, FEATURES])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, len(CLASSES)])],
        [numpy_helper.from_array(matrix, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def examples(count: int, seed: int = 1) -> tuple[Array, NDArray[np.int64]]:
    """Inputs ``(count, 1, FEATURES)`` and their labels: the class whose feature is largest."""
    values = np.random.default_rng(seed).normal(size=(count, 1, FEATURES)).astype(np.float32)
    return values, values[:, 0, : len(CLASSES)].argmax(axis=1).astype(np.int64)


def contract(version: str = "1.0", labels: tuple[str, ...] = CLASSES, name: str = "x") -> Contract:
    return Contract(
        version=version,
        task="classification",
        inputs=(TensorSpec(name=name, shape=(1, FEATURES)),),
        outputs=(TensorSpec(name="scores", shape=(1, len(CLASSES))),),
        labels=labels,
        margin=0.02,
    )


MakeBundle = Callable[..., BundleFile]


@pytest.fixture
def make_bundle(tmp_path: Path) -> MakeBundle:
    """Pack a release of the model `tiny`; its golden set is its own truth unless told otherwise."""

    def make(
        release: str = "1.0.0",
        *,
        matrix: Array | None = None,
        truth: int = 300,
        relabel: tuple[int, ...] = (0, 1, 2),
        parity_shift: float = 0.0,
        logarithm: bool = False,
        parity_inputs: Array | None = None,
        terms: Contract | None = None,
        artifact: bytes | None = None,
        correct: NDArray[np.bool_] | None = None,
    ) -> BundleFile:
        terms = terms or contract()
        matrix = weights() if matrix is None else matrix
        name = terms.inputs[0].name
        inputs = examples(8, seed=3)[0] if parity_inputs is None else parity_inputs
        outputs = inputs @ matrix
        outputs = (np.log(outputs) if logarithm else outputs) + np.float32(parity_shift)
        parity, parity_data = parity_files(
            {name: inputs}, {"scores": outputs}, {"scores": Tolerance(absolute=1e-5, relative=1e-5)}
        )
        values, labels = examples(truth)
        labels = np.array(relabel)[labels]
        answers = (values[:, 0] @ matrix).argmax(axis=1)
        flags = answers == labels if correct is None else correct
        record, truth_data = truth_files({name: values}, labels, CLASSES, correct=flags)
        data = {"model.onnx": artifact or onnx_bytes(matrix, logarithm=logarithm), **parity_data, **truth_data}
        manifest = Manifest(
            schema=BUNDLE_SCHEMA,
            model="tiny",
            release=release,
            variant="onnx-float32",
            target="linux-x86_64-cpu",
            contract=terms,
            requirements=Requirements(
                runtimes=(RuntimeRequirement(name="onnxruntime", min_version="1.18"),),
                architectures=("x86_64", "aarch64"),
            ),
            stages=(
                Stage(
                    name="main",
                    artifact="model.onnx",
                    runtime="onnxruntime",
                    bindings=Bindings(
                        inputs=(
                            Binding(tensor=name, artifact_name="x", index=0, dtype="float32", shape=(1, FEATURES)),
                        ),
                        outputs=(
                            Binding(
                                tensor="scores", artifact_name="y", index=0, dtype="float32", shape=(1, len(CLASSES))
                            ),
                        ),
                    ),
                ),
            ),
            files=tuple(
                file_entry(
                    path,
                    content,
                    "application/octet-stream",
                    "artifact" if path == "model.onnx" else "golden",
                )
                for path, content in data.items()
            ),
            golden=GoldenSet(parity=parity, truth=record),
        )
        return write_bundle(tmp_path / f"tiny-{release}.edge", manifest, data)

    return make


@pytest.fixture
def unpack(tmp_path: Path) -> Callable[[BundleFile], Path]:
    """Unpack a bundle into a folder of its own, as a generation lies on a device."""

    def unpacked(bundle: BundleFile) -> Path:
        folder = tmp_path / f"unpacked-{bundle.sha256[:12]}"
        with open_bundle(bundle.path) as opened:
            opened.extract(folder)
        return folder

    return unpacked


@pytest.fixture
def world(tmp_path: Path, make_bundle: MakeBundle) -> Iterator[World]:
    public = generate_key(tmp_path / "deployment.pem", None)
    generate_key(tmp_path / "stranger.pem", None)
    init_repository(tmp_path / "repo", tmp_path / "keys", deployment_keys=(public,))
    bundle = make_bundle("1.0.0")
    write_release(tmp_path, [bundle.path], built_at=rfc3339(NOW - timedelta(days=1)))
    publish_release(tmp_path / "repo", tmp_path / "keys", tmp_path)
    (tmp_path / "root.json").write_bytes(first_root(tmp_path / "repo"))
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path / "repo")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield World(tmp_path, f"http://127.0.0.1:{server.server_address[1]}", bundle)
    server.shutdown()
    server.server_close()
