"""Correctly built releases of good and of bad models: bundle, golden set, index."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray

from edgesdk.bundle.archive import file_entry, write_bundle
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
from edgesdk.bundle.release import bundle_name, write_release
from edgesdk.clock import SystemClock, rfc3339
from edgesdk.contract import Bindings, Contract, StateSpec, TensorSpec, load_contract_toml
from edgesdk.runtime import bindings_in_order, describe_artifact, open_session
from planted import graphs

MODEL = "wearable"
VARIANT = "onnx-planted"
ARTIFACT = "model.onnx"
PARITY_SAMPLES = 32
Array = NDArray[Any]
CONTRACT = load_contract_toml((graphs.EXAMPLE / "contract.toml").read_text())
STALE = tuple(sorted(CONTRACT.labels))
REMEMBERING = msgspec.structs.replace(
    CONTRACT,
    version="1.1",
    inputs=(*CONTRACT.inputs, TensorSpec(name="history", shape=(1, "past", 6))),
    outputs=(*CONTRACT.outputs, TensorSpec(name="history_next", shape=(1, "longer", 6))),
    states=(StateSpec(input="history", output="history_next"),),
)


@dataclass(frozen=True)
class Labelled:
    """Windows ``(count, 128, 6)`` with their labels (indices into the example's contract)."""

    windows: Array
    labels: Array

    @classmethod
    def read(cls, path: Path) -> Labelled:
        with np.load(path, allow_pickle=False) as data:
            return cls(data["x"], data["y"])


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a release is made.

    Attributes:
        fault: What is wrong with it; "" for a good one.
        graph: Makes the artifact; it is given calibration windows.
        golden: ``honest``: the labels are people's. ``own answers``: they are the model's own, so that the golden set
            agrees with the fault.
        parity_of: Makes the artifact that the parity outputs are taken from, where that is another one: a conversion
            that went wrong after its outputs were recorded.
        contract: What it promises.
        rebind: Changes the bindings.
        expected: How a device must end it: state and reason code.
    """

    fault: str = ""
    graph: Callable[[Array], onnx.ModelProto]
    golden: str = "honest"
    parity_of: Callable[[Array], onnx.ModelProto] | None = None
    contract: Contract = CONTRACT
    rebind: Callable[[Bindings], Bindings] = lambda bindings: bindings
    expected: tuple[str, str] = ("committed", "")


def _as_int8(bindings: Bindings) -> Bindings:
    window = msgspec.structs.replace(bindings.inputs[0], dtype="int8", scale=0.05, zero_point=3)
    return msgspec.structs.replace(bindings, inputs=(window, *bindings.inputs[1:]))


REFUSED_BY_TRUTH = ("failed", "golden-truth-loss")
FAULTS: tuple[Recipe, ...] = (
    Recipe(
        fault="label swap", graph=lambda _: graphs.swapped_labels(), golden="own answers", expected=REFUSED_BY_TRUTH
    ),
    Recipe(fault="input scale (m/s² for g)", graph=lambda _: graphs.scaled_input(), golden="own answers",
           expected=REFUSED_BY_TRUTH),
    Recipe(fault="channel order (BGR for RGB)", graph=lambda _: graphs.swapped_axes(), golden="own answers",
           expected=REFUSED_BY_TRUTH),
    Recipe(fault="NaN on rare inputs", graph=lambda _: graphs.nan_when_forceful(),
           expected=("rolled_back", "trial-evidence")),
    Recipe(fault="wrong zero point", graph=lambda data: graphs.wrong_zero_point(graphs.quantized(data)),
           parity_of=graphs.quantized, expected=("failed", "golden-mismatch")),
    Recipe(fault="truncated weights", graph=lambda _: graphs.truncated_weights(), golden="own answers",
           expected=REFUSED_BY_TRUTH),
    Recipe(fault="twice the latency", graph=lambda _: graphs.twice_the_work(), expected=("failed", "latency-budget")),
    Recipe(fault="memory leak (endless state)", graph=lambda _: graphs.endless_history(), contract=REMEMBERING,
           expected=("failed", "memory-growth")),
    Recipe(fault="wrong operation (sigmoid for ReLU)", graph=lambda _: graphs.wrong_operation(), golden="own answers",
           expected=REFUSED_BY_TRUTH),
    Recipe(fault="stale labels (older order)", graph=lambda _: graphs.good(), golden="own answers",
           contract=msgspec.structs.replace(CONTRACT, labels=STALE), expected=REFUSED_BY_TRUTH),
    Recipe(fault="threshold (one class favoured)", graph=lambda _: graphs.shifted_threshold(), golden="own answers",
           expected=REFUSED_BY_TRUTH),
    Recipe(fault="dtype (int8 bound, float32 built)", graph=lambda _: graphs.good(), rebind=_as_int8,
           expected=("failed", "artifact-mismatch")),
)  # fmt: skip


def good_recipe(seed: int) -> Recipe:
    """Return the recipe of a good model: v2, fine-tuned a little at random; v2 itself for seed 0."""
    return Recipe(graph=lambda _: graphs.fine_tuned(seed) if seed else graphs.good())


@dataclass
class Factory:
    """Makes release folders.

    Attributes:
        folder: Where they are made.
        truth: Labelled examples of held-out people.
        calibration: Windows to calibrate with.
    """

    folder: Path
    truth: Labelled
    calibration: Array
    made: dict[str, Path] = field(default_factory=dict)

    def release(self, version: str, recipe: Recipe) -> Path:
        """Make a release folder as `edge convert` does: artifact, golden set, manifest, index."""
        artifact = recipe.graph(self.calibration).SerializeToString()
        answers = self._answers(artifact, recipe)
        recorded = answers
        if recipe.parity_of is not None:
            recorded = self._answers(recipe.parity_of(self.calibration).SerializeToString(), recipe)
        out = self.folder / f"{MODEL}-{version}"
        out.mkdir(parents=True)
        bundle = self._bundle(
            out / bundle_name(MODEL, version, VARIANT),
            version,
            recipe,
            artifact,
            self._golden(recipe, answers, recorded),
        )
        write_release(out, [bundle], built_at=rfc3339(SystemClock().now()))
        return out

    def _bundle(
        self, path: Path, version: str, recipe: Recipe, artifact: bytes, golden_set: tuple[GoldenSet, dict[str, bytes]]
    ) -> Path:
        golden, files = golden_set
        contents: dict[str, bytes | Path] = {ARTIFACT: artifact, **files}
        manifest = Manifest(
            schema=BUNDLE_SCHEMA,
            model=MODEL,
            release=version,
            variant=VARIANT,
            target="linux-x86_64-cpu",
            contract=recipe.contract,
            requirements=Requirements(
                runtimes=(RuntimeRequirement(name="onnxruntime", min_version="1.18"),),
                architectures=("x86_64", "aarch64"),
            ),
            stages=(
                Stage(
                    name="main",
                    artifact=ARTIFACT,
                    runtime="onnxruntime",
                    bindings=recipe.rebind(self._bindings(artifact, recipe.contract)),
                ),
            ),
            files=tuple(
                file_entry(name, data, "application/octet-stream", "artifact" if name == ARTIFACT else "golden")
                for name, data in sorted(contents.items())
            ),
            golden=golden,
        )
        return write_bundle(path, manifest, contents).path

    def _golden(
        self, recipe: Recipe, answers: Mapping[str, Array], recorded: Mapping[str, Array]
    ) -> tuple[GoldenSet, dict[str, bytes]]:
        windows = self.truth.windows[:, None]
        rows = np.linspace(0, len(windows) - 1, PARITY_SAMPLES).astype(np.int64)
        states = {"history": np.zeros((len(windows), 1, 1, 6), np.float32)} if recipe.contract.states else {}
        parity, files = parity_files(
            {name: values[rows] for name, values in {"window": windows, **states}.items()},
            {name: values[rows] for name, values in recorded.items()},
            {name: Tolerance(absolute=1e-4) for name in recorded},
        )
        own = answers[CONTRACT.outputs[0].name].reshape(len(windows), -1).argmax(axis=1)
        names = recipe.contract.labels
        people = np.array([names.index(CONTRACT.labels[label]) for label in self.truth.labels.tolist()])
        labels = own if recipe.golden == "own answers" else people
        truth, more = truth_files({"window": windows, **states}, labels, names, correct=own == labels)
        return GoldenSet(parity=parity, truth=truth), {**files, **more}

    def _answers(self, artifact: bytes, recipe: Recipe) -> dict[str, Array]:
        """Return what the artifact answers to the truth windows, computed as a device computes it."""
        bindings = self._bindings(artifact, recipe.contract)
        manifest = Manifest(
            schema=BUNDLE_SCHEMA, model=MODEL, release="0.0.0", variant=VARIANT, target="linux-x86_64-cpu",
            contract=recipe.contract,
            requirements=Requirements(
                runtimes=(RuntimeRequirement(name="onnxruntime", min_version="1.18"),), architectures=("x86_64",)
            ),
            stages=(Stage(name="main", artifact=ARTIFACT, runtime="onnxruntime", bindings=bindings),),
            files=(file_entry(ARTIFACT, artifact, "application/octet-stream", "artifact"),),
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / ARTIFACT).write_bytes(artifact)
            with open_session(Path(folder), manifest) as session:
                each = [session.run({"window": window[None]}) for window in self.truth.windows]
        return {name: np.stack([answer[name] for answer in each]) for name in each[0]}

    @staticmethod
    def _bindings(artifact: bytes, contract: Contract) -> Bindings:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / ARTIFACT
            path.write_bytes(artifact)
            return bindings_in_order(contract, *describe_artifact(path, "onnxruntime"))
