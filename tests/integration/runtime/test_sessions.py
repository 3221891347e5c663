"""Real artifacts in real runtimes through the one session."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from edgesdk.bundle.manifest import Manifest
from edgesdk.contract import Contract
from edgesdk.errors import ContractError, EdgeError, ReleaseError, TargetError
from edgesdk.runtime import describe_artifact, open_session

MODELS = Path(__file__).parents[3] / "examples" / "wearable" / "models"
BOTH = [MODELS / "v1.tflite", MODELS / "v1.onnx"]
MakeBundle = Callable[..., tuple[Path, Manifest]]
Window = NDArray[np.float32]


@pytest.mark.parametrize("artifact", BOTH, ids=["tflite", "onnx"])
def test_a_real_model_answers_probabilities(make_bundle: MakeBundle, window: Window, artifact: Path) -> None:
    """A call gives the contract's output, float32, summing to one, and says where its time went."""
    with open_session(*make_bundle(artifact)) as session:
        outputs, timings = session.run_timed({"window": window})
    assert list(outputs) == ["probabilities"]
    assert outputs["probabilities"].shape == (1, 7)
    assert outputs["probabilities"].dtype == np.float32
    assert outputs["probabilities"].sum() == pytest.approx(1.0, abs=1e-5)
    assert timings.total_ms >= timings.infer_ms > 0
    assert session.provider == "cpu"


def test_two_runtimes_agree_on_one_model(make_bundle: MakeBundle, window: Window) -> None:
    """TFLite and ONNX exports of one network give the same probabilities through the same path."""
    answers = []
    for artifact in BOTH:
        with open_session(*make_bundle(artifact)) as session:
            answers.append(session.run({"window": window})["probabilities"])
    np.testing.assert_allclose(answers[0], answers[1], atol=1e-5)


def test_normalisation_is_the_runtimes_work(make_bundle: MakeBundle, contract: Contract, window: Window) -> None:
    """An app passes raw units: the same network without normalisation sees what was normalised by hand."""
    spec = contract.inputs[0]
    assert spec.normalisation is not None
    by_hand = (window - np.float32(spec.normalisation.mean)) / np.float32(spec.normalisation.std)
    bare = msgspec.structs.replace(contract, inputs=(msgspec.structs.replace(spec, normalisation=None, range=None),))
    with open_session(*make_bundle()) as session:
        expected = session.run({"window": window})["probabilities"]
    with open_session(*make_bundle(contract=bare)) as session:
        found = session.run({"window": by_hand})["probabilities"]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("artifact", BOTH, ids=["tflite", "onnx"])
def test_threads_share_a_session(make_bundle: MakeBundle, window: Window, artifact: Path) -> None:
    """Many threads calling at once get the answers that one thread gets."""
    windows = [window * np.float32(scale) for scale in np.linspace(0.1, 1, 40)]
    with open_session(*make_bundle(artifact)) as session:
        expected = [session.run({"window": each})["probabilities"] for each in windows]
        with ThreadPoolExecutor(8) as pool:
            found = list(pool.map(lambda each: session.run({"window": each})["probabilities"], windows * 5))
    for index, answer in enumerate(found):
        np.testing.assert_array_equal(answer, expected[index % 40])


@pytest.mark.parametrize(
    ("inputs", "code", "words"),
    [
        ({}, "input-missing", "'window' is missing"),
        ({"window": np.zeros((1, 128, 6)), "more": 1}, "input-unknown", "no input is named 'more'"),
        ({"window": np.zeros((128, 6))}, "input-shape", r"expected shape \[1, 128, 6\], got \[128, 6\]"),
        ({"window": np.zeros((2, 128, 6))}, "input-shape", r"'window'.*got \[2, 128, 6\]"),
        ({"window": [[1], [1, 2]]}, "input-shape", "'window' is no array"),
        ({"window": np.full((1, 128, 6), "x")}, "input-dtype", "expected dtype float32, got <U1"),
        ({"window": np.zeros((1, 128, 6), complex)}, "input-dtype", "'window'.*complex"),
        ({"window": np.full((1, 128, 6), np.nan)}, "input-nan", "768 of 768 values"),
        ({"window": np.full((1, 128, 6), 1e300)}, "input-nan", "'window'"),
        ({"window": np.full((1, 128, 6), 41.0)}, "input-range", r"within \[-40.0, 40.0\], got \[41, 41\]"),
    ],
)
def test_wrong_inputs_are_named(make_bundle: MakeBundle, inputs: dict[str, Any], code: str, words: str) -> None:
    """Each kind of wrong input has its code, and the message names the tensor, what was expected and what came."""
    with open_session(*make_bundle()) as session, pytest.raises(ContractError, match=words) as caught:
        session.run(inputs)
    assert caught.value.code == code


def test_nan_outputs_are_returned_and_can_be_refused(make_bundle: MakeBundle, window: Window) -> None:
    """`run` gives what the model answered; `check_finite` names the output that is not finite."""
    with open_session(*make_bundle()) as session:
        outputs = session.run({"window": window})
        session.check_finite(outputs)
        outputs["probabilities"][0, 2] = np.inf
        with pytest.raises(ReleaseError, match="'probabilities'") as caught:
            session.check_finite(outputs)
    assert caught.value.code == "output-nan"


@pytest.mark.parametrize("artifact", BOTH, ids=["tflite", "onnx"])
def test_garbage_is_unloadable(make_bundle: MakeBundle, artifact: Path) -> None:
    """A file that is no model gives one clear error, not a traceback of the runtime."""
    folder, manifest = make_bundle(artifact)
    (folder / artifact.name).write_bytes(b"TFL3" * 50)
    with pytest.raises(ReleaseError) as caught:
        open_session(folder, manifest)
    assert caught.value.code == "artifact-unloadable"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"artifact_name": "other"}, "expected name other"),
        ({"dtype": "int8"}, "expected dtype int8, got float32"),
        ({"shape": (1, 64, 6)}, r"expected shape \[1, 64, 6\], got \[1, 128, 6\]"),
        ({"index": 1}, r"bindings are for \[1\], the artifact has 1"),
    ],
)
def test_bindings_are_compared_with_the_artifact(make_bundle: MakeBundle, change: dict[str, Any], words: str) -> None:
    """A manifest that describes another artifact is refused when it is loaded."""
    folder, manifest = make_bundle()
    [stage] = manifest.stages
    binding = msgspec.structs.replace(stage.bindings.inputs[0], **change)
    bindings = msgspec.structs.replace(stage.bindings, inputs=(binding,))
    wrong = msgspec.structs.replace(manifest, stages=(msgspec.structs.replace(stage, bindings=bindings),))
    with pytest.raises(ReleaseError, match=words) as caught:
        open_session(folder, wrong)
    assert caught.value.code == "artifact-mismatch"


def test_a_runtime_that_is_too_old_is_said(make_bundle: MakeBundle) -> None:
    """The bundle's requirement is checked when it is loaded, too."""
    folder, manifest = make_bundle()
    needs = msgspec.structs.replace(
        manifest.requirements,
        runtimes=(msgspec.structs.replace(manifest.requirements.runtimes[0], min_version="99"),),
    )
    with pytest.raises(TargetError, match="99") as caught:
        open_session(folder, msgspec.structs.replace(manifest, requirements=needs))
    assert caught.value.code == "runtime-too-old"


def test_providers_that_are_not_there_are_refused(make_bundle: MakeBundle) -> None:
    """ONNX Runtime falls back to the CPU in silence; we do not."""
    with pytest.raises(TargetError) as caught:
        open_session(*make_bundle(BOTH[1]), options={"providers": ["TensorrtExecutionProvider"]})
    assert caught.value.code == "accelerator-missing"


@pytest.mark.parametrize("options", [{"threads": 0}, {"thread": 1}, {"x64_quant_precision": "maybe"}])
def test_unknown_options_are_refused(make_bundle: MakeBundle, options: dict[str, Any]) -> None:
    """A misspelt or impossible option is an error, never ignored."""
    with pytest.raises(EdgeError, match="runtime options") as caught:
        open_session(*make_bundle(), options=options)
    assert caught.value.code == "config-invalid"


def test_describe_artifact(make_bundle: MakeBundle) -> None:
    """The converters learn names, shapes and dtypes from the runtime itself."""
    inputs, outputs = describe_artifact(BOTH[0], "tflite")
    assert [(raw.index, raw.dtype, raw.shape) for raw in inputs] == [(0, "float32", (1, 128, 6))]
    assert [(raw.index, raw.dtype, raw.shape) for raw in outputs] == [(0, "float32", (1, 7))]


CHILD = """
import sys
from pathlib import Path
import msgspec, numpy as np
from edgesdk.bundle.manifest import Manifest
from edgesdk.runtime import open_session
if sys.argv[2] == "tensorflow":
    sys.modules["tensorflow"] = sys
manifest = msgspec.json.decode(Path(sys.argv[1], "m.json").read_bytes(), type=Manifest)
session = open_session(Path(sys.argv[1]), manifest)
out = session.run({"window": np.full((1, 128, 6), 0.5, np.float32)})["probabilities"]
print(session.backend, out.argmax(), "ai_edge_litert" in sys.modules, "tflite_runtime" in sys.modules)
"""


def in_child(folder: Path, manifest: Manifest, package: str, what: str = "") -> subprocess.CompletedProcess[str]:
    (folder / "m.json").write_bytes(msgspec.json.encode(manifest))
    environment = {**os.environ, "EDGESDK_TFLITE": package}
    command = [sys.executable, "-c", CHILD, str(folder), what]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


def test_both_tflite_packages_run_alone(make_bundle: MakeBundle) -> None:
    """EDGESDK_TFLITE chooses the package; the other one is not even imported; both give the same class."""
    folder, manifest = make_bundle()
    litert, small = (in_child(folder, manifest, package) for package in ("ai-edge-litert", "tflite-runtime"))
    assert litert.returncode == small.returncode == 0, litert.stderr + small.stderr
    name, _version, klass, *loaded = litert.stdout.split()
    assert (name, loaded) == ("ai-edge-litert", ["True", "False"])
    name, _version, other, *loaded = small.stdout.split()
    assert (name, loaded) == ("tflite-runtime", ["False", "True"])
    assert other == klass


def test_tflite_runtime_is_refused_beside_tensorflow(make_bundle: MakeBundle) -> None:
    """Its interpreter would fail with bad_alloc; we say so first."""
    done = in_child(*make_bundle(), "tflite-runtime", "tensorflow")
    assert "runtime-conflict" in done.stderr
