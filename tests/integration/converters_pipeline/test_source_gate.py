"""A float model that only guesses on the evaluation data is refused, and what would make it right is named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from ai_edge_litert import schema_py_generated as schema
from edgesdk_converters import convert
from edgesdk_converters.passes.flatbuffer import pack, parse
from edgesdk_converters.pipeline import SilentPlan
from edgesdk_converters.planning.plan import Plan
from edgesdk_converters.running.isolation import Progress
from edgesdk_converters.running.steps import Step
from edgesdk_converters.sources.onnx import refuse_quantized
from numpy.typing import NDArray

from edgesdk.errors import ConfigError, EdgeError, ReleaseError

WEARABLE = Path(__file__).parents[3] / "examples" / "wearable" / "models"
CONTRACT = """
version = "1.0"
task = "classification"
labels = ["dark", "bright"]

[[inputs]]
name = "image"
shape = [1, 4, 4, {channels}]
layout = "NHWC"
{colour}
range = [0.0, 255.0]
{normalisation}
[[outputs]]
name = "scores"
shape = [1, 2]
"""
RIGHT = "[inputs.normalisation]\nmean = [{mean}]\nstd = [{std}]\n"


def model(path: Path, weights: NDArray[Any], shape: tuple[int, ...]) -> Path:
    """A linear classifier of flat pictures: ``[-s, s]`` for ``s = sum(weights * x)``."""
    both = np.stack([-weights.reshape(-1), weights.reshape(-1)], axis=1).astype(np.float32)
    flat = onnx.numpy_helper.from_array(np.array([1, both.shape[0]], np.int64), "flat")
    graph = onnx.helper.make_graph(
        [
            onnx.helper.make_node("Reshape", ["image", "flat"], ["row"]),
            onnx.helper.make_node("MatMul", ["row", "weights"], ["scores"]),
        ],
        "linear",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, shape)],
        [onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [1, 2])],
        [flat, onnx.numpy_helper.from_array(both, "weights")],
    )
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 15)])
    made.ir_version = 8
    onnx.save(made, path)
    return path


def pictures(rows: int = 400, channels: int = 1) -> tuple[NDArray[Any], NDArray[Any]]:
    """Pictures about half of which are brighter than grey in their first channel, and which."""
    generator = np.random.default_rng(5)
    bright = generator.integers(0, 2, rows)
    x = generator.uniform(0, 120, (rows, 4, 4, channels)).astype(np.float32)
    x[..., 0] += 130 * bright[:, None, None]
    return x, bright


def converted(folder: Path, source: Path, contract: str, x: NDArray[Any], y: NDArray[Any], **words: Any) -> Any:
    """Convert to float ONNX unless told otherwise, judged on these rows."""
    (folder / "contract.toml").write_text(contract)
    np.savez(folder / "evaluation.npz", x=x, y=y)
    asked: dict[str, Any] = {
        "targets": ["linux-x86_64-cpu"],
        "recipes": ["float"],
        "max_drop": 0.1,
        "name": "light",
    } | words
    return convert(
        source,
        release="1.0.0",
        contract=folder / "contract.toml",
        evaluation=folder / "evaluation.npz",
        cache_dir=folder / "cache",
        out=folder / "release",
        **asked,
    )


def test_a_missing_normalisation_is_named(tmp_path: Path) -> None:
    """Trained on -1 to 1 and given 0 to 255 it calls everything bright; the hint says which mean and deviation help."""
    x, y = pictures()
    source = model(tmp_path / "m.onnx", np.ones((4, 4, 1)), (1, 4, 4, 1))
    bare = CONTRACT.format(channels=1, colour='colour = "GRAY"', normalisation="")
    with pytest.raises(ReleaseError) as caught:
        converted(tmp_path, source, bare, x, y)
    assert caught.value.code == "source-wrong"
    assert caught.value.hint is not None
    assert "mean = [127.5] and std = [127.5] it is right on 200 of 200 rows" in caught.value.hint
    assert not (tmp_path / "release").exists()
    right = bare.replace("[[outputs]]", RIGHT.format(mean="127.5", std="127.5") + "[[outputs]]")
    made = converted(tmp_path, source, right, x, y)
    assert made.judged[0].evaluation.value == 1.0


def test_exchanged_colours_are_named(tmp_path: Path) -> None:
    """A model that looks at blue where the app gives red guesses; the hint says so."""
    x, y = pictures(channels=3)
    weights = np.zeros((4, 4, 3))
    weights[..., 2] = 1
    source = model(tmp_path / "m.onnx", weights, (1, 4, 4, 3))
    norm = RIGHT.format(mean="127.5, 127.5, 127.5", std="127.5, 127.5, 127.5")
    contract = CONTRACT.format(channels=3, colour='colour = "RGB"', normalisation=norm)
    with pytest.raises(ReleaseError) as caught:
        converted(tmp_path, source, contract, x, y)
    assert caught.value.code == "source-wrong"
    assert "colours exchanged" in str(caught.value.hint)


def test_a_model_whose_answer_is_no_tensor_is_refused_in_words(tmp_path: Path) -> None:
    """As scikit-learn's export gives its probabilities; no contract describes that, and the error says so."""
    x, y = pictures()
    made = onnx.load(model(tmp_path / "m.onnx", np.ones((4, 4, 1)), (1, 4, 4, 1)))
    made.graph.node[1].output[0] = "row_scores"
    made.graph.node.append(onnx.helper.make_node("SequenceConstruct", ["row_scores"], ["scores"]))
    made.graph.output[0].CopyFrom(onnx.helper.make_tensor_sequence_value_info("scores", onnx.TensorProto.FLOAT, [1, 2]))
    onnx.save(made, tmp_path / "m.onnx")
    contract = CONTRACT.format(channels=1, colour='colour = "GRAY"', normalisation="")
    with pytest.raises(EdgeError, match=r"seq\(tensor\(float\)\), which no contract can describe"):
        converted(tmp_path, tmp_path / "m.onnx", contract, x, y)


class Told(SilentPlan):
    """Notes what was planned and what began."""

    def __init__(self) -> None:
        self.planned: list[str] = []
        self.begun: list[str] = []

    def plan(self, plan: Plan, cached: set[str], expected: Mapping[str, float]) -> None:
        self.planned = [step.name for step in plan.steps]

    def begin(self, step: Step) -> Progress:
        self.begun.append(step.name)
        return lambda _done, _total: None


@pytest.mark.parametrize("repair", [False, True])
def test_labels_in_another_order_are_named_before_anything_is_quantized(tmp_path: Path, *, repair: bool) -> None:
    """All answers are right under the other name: only the source has run, as planned, and no ladder is climbed."""
    x, y = pictures()
    source = model(tmp_path / "m.onnx", np.ones((4, 4, 1)), (1, 4, 4, 1))
    norm = RIGHT.format(mean="127.5", std="127.5")
    contract = CONTRACT.format(channels=1, colour='colour = "GRAY"', normalisation=norm)
    np.savez(tmp_path / "calibration.npz", x=pictures(500)[0][400:])
    told, int8 = Told(), {"recipes": ["int8"], "calibration": tmp_path / "calibration.npz"}
    unexamined = {"doctor": False, "reason": "a test"}
    with pytest.raises(ReleaseError, match="'bright' for 'dark', 'dark' for 'bright'") as caught:
        converted(tmp_path, source, contract, x, 1 - y, repair=repair, observer=told, **int8, **unexamined)
    assert caught.value.code == "source-wrong"
    assert told.begun == ["pin onnx", "run onnx float in onnxruntime"]
    assert told.planned[: len(told.begun) + 1] == [*told.begun, "try other normalisations of onnx"]
    assert any("quantize" in name for name in told.planned)
    assert "source-wrong" in (tmp_path / "release.refused" / "report.html").read_text()


def test_a_source_that_is_right_is_run_first_and_each_step_told_once(tmp_path: Path) -> None:
    """The steps come in the order of the plan, all of them, and the report has them."""
    x, y = pictures()
    source = model(tmp_path / "m.onnx", np.ones((4, 4, 1)), (1, 4, 4, 1))
    norm = RIGHT.format(mean="127.5", std="127.5")
    contract = CONTRACT.format(channels=1, colour='colour = "GRAY"', normalisation=norm)
    told = Told()
    made = converted(tmp_path, source, contract, x, y, observer=told)
    assert told.begun == told.planned
    assert [step["name"] for step in made.report["steps"]] == told.planned
    assert "try other normalisations of onnx" in told.planned


def test_without_the_gate_it_is_the_users_word(tmp_path: Path) -> None:
    """`gate=False` with a reason packs it; so does another metric than the answered class."""
    x, y = pictures()
    source = model(tmp_path / "m.onnx", np.ones((4, 4, 1)), (1, 4, 4, 1))
    bare = CONTRACT.format(channels=1, colour='colour = "GRAY"', normalisation="")
    converted(tmp_path, source, bare, x, y, gate=False, reason="a test")
    made = converted(tmp_path, source, bare, x, y, metric="auc", force=True)
    assert made.judged[0].evaluation.value == 1.0


def test_a_preparation_that_is_far_better_is_named(tmp_path: Path) -> None:
    """Without its normalisation the model is better than guessing by its black pictures, and far worse than with it."""
    x, y = pictures()
    dark = np.flatnonzero(y == 0)
    x[dark[: len(dark) // 3]] = 0
    source = model(tmp_path / "m.onnx", np.ones((4, 4, 1)), (1, 4, 4, 1))
    bare = CONTRACT.format(channels=1, colour='colour = "GRAY"', normalisation="")
    with pytest.raises(ReleaseError, match="rows as the contract prepares them") as caught:
        converted(tmp_path, source, bare, x, y)
    assert caught.value.code == "source-wrong"
    assert "mean = [127.5] and std = [127.5] it is right on 200 of 200 rows" in str(caught.value.hint)


def test_a_preparation_that_is_somewhat_better_is_a_note(tmp_path: Path) -> None:
    """Too little to refuse, too much to keep silent: terminal and report say what in the contract to look at."""
    x, y = pictures()
    dark = np.flatnonzero(y == 0)
    x[dark[: len(dark) * 2 // 3]] = 0
    source = model(tmp_path / "m.onnx", np.ones((4, 4, 1)), (1, 4, 4, 1))
    bare = CONTRACT.format(channels=1, colour='colour = "GRAY"', normalisation="")
    made = converted(tmp_path, source, bare, x, y)
    [note] = [each for each in made.report["notes"] if "as the contract prepares them" in each]
    assert "Look at the contract: with mean = [127.5] and std = [127.5] it is right on 200 of 200 rows" in note


def test_data_that_looks_normalised_already_needs_no_large_gain(tmp_path: Path) -> None:
    """Wrong on a seventh of the rows would be a note; values of mean 0 and deviation 1 make it a refusal."""
    x, y = pictures()
    bright = np.flatnonzero(y == 1)
    x[bright[len(bright) // 3 :]] += 100
    mean, std = float(x.mean()), float(x.std())
    source = model(tmp_path / "m.onnx", np.ones((4, 4, 1)), (1, 4, 4, 1))
    norm = RIGHT.format(mean="0.5", std="0.4")
    contract = CONTRACT.format(channels=1, colour='colour = "GRAY"', normalisation=norm)
    contract = contract.replace("range = [0.0, 255.0]", "")
    with pytest.raises(ReleaseError, match="rows as the contract prepares them") as caught:
        converted(tmp_path, source, contract, (x - mean) / std, y)
    assert "looks normalised already" in str(caught.value.hint)


def test_a_quantized_source_is_refused_before_a_plan_is_shown(tmp_path: Path) -> None:
    """An ONNX file with QuantizeLinear, and a TFLite file of integers: nothing is planned or run of them."""
    x, y = pictures()
    contract = CONTRACT.format(channels=1, colour='colour = "GRAY"', normalisation="")
    source = model(tmp_path / "m.onnx", np.ones((4, 4, 1)), (1, 4, 4, 1))
    loaded = onnx.load(source)
    loaded.graph.node[0].name = "not QuantizeLinear"  # as a word it is no operator
    onnx.save(loaded, source)
    refuse_quantized(source)
    loaded.graph.node[0].op_type = "QuantizeLinear"
    onnx.save(loaded, source)
    integers = parse((WEARABLE / "v1.tflite").read_bytes())
    stored = integers.subgraphs[0].tensors[0]
    stored.type, stored.quantization = 9, schema.QuantizationParametersT(scale=np.ones(1, np.float32))
    (tmp_path / "m.tflite").write_bytes(pack(integers))
    for path in (source, tmp_path / "m.tflite"):
        told = Told()
        with pytest.raises(ConfigError, match="is quantized already") as caught:
            converted(tmp_path, path, contract, x, y, observer=told)
        assert caught.value.code == "model-format"
        assert not told.planned
