"""HDF5, SavedModel and both ways between formats, with the real TensorFlow in children."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from edgesdk_converters.drafting import keras_config
from edgesdk_converters.recipes import RECIPES
from edgesdk_converters.running.isolation import Task, run_child
from edgesdk_converters.sources import savedmodel
from edgesdk_converters.sources.agreement import check_agreement

from edgesdk.contract import Contract, TensorSpec
from edgesdk.errors import ConfigError, EdgeError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
CONTRACT = Contract(
    version="1.0",
    task="other",
    inputs=(TensorSpec(name="image", shape=("n", 8, 8, 3)), TensorSpec(name="extra", shape=("n", 4))),
    outputs=(TensorSpec(name="scores", shape=("n", 5)), TensorSpec(name="level", shape=("n", 1))),
)
ADAPTED = Contract(
    version="1.0",
    task="other",
    inputs=(TensorSpec(name="x", shape=("n", 4)),),
    outputs=(TensorSpec(name="wide", shape=("n", 3)), TensorSpec(name="narrow", shape=("n", 2))),
)
SOURCES = {"keras": ("model.keras", "model.h5", "adapted.keras"), "savedmodel": ("saved", "adapted")}
BUILD = """
import json
import pathlib
import sys
import keras
import numpy as np
import tensorflow as tf
from edgesdk_converters.drafting import ports
from edgesdk_converters.running.isolation import Call
keras.utils.set_random_seed(0)
image, extra = keras.Input((8, 8, 3), name="image"), keras.Input((4,), name="extra")
x = keras.layers.Conv2D(6, 3, activation="relu")(image)
x = keras.layers.Concatenate()([keras.layers.GlobalAveragePooling2D()(x), extra])
scores = keras.layers.Dense(5, name="scores")(x)
x = keras.layers.Dense(4, activation="gelu")(x)  # of an Erfc, which ONNX has not
level = keras.layers.Dense(1, activation="sigmoid", name="level")(x)
model = keras.Model([image, extra], [scores, level])
model.save(sys.argv[1] + "/model.h5")
model.save(sys.argv[1] + "/model.keras")
model.save_weights(sys.argv[1] + "/only.weights.h5")
model.export(sys.argv[1] + "/saved", verbose=False)

x = keras.Input((64,), name="x")
dense = keras.layers.Dense(64)
thin = keras.Model(x, dense(x))
blocks = np.random.default_rng(0).random((64, 4)) < 0.2
dense.set_weights([dense.get_weights()[0] * np.repeat(blocks, 16, axis=1).T, np.zeros(64)])
thin.export(sys.argv[1] + "/thin", verbose=False)
converter = tf.lite.TFLiteConverter.from_saved_model(sys.argv[1] + "/thin")
converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
open(sys.argv[1] + "/sparse.tflite", "wb").write(converter.convert())

normal = keras.layers.Normalization()
normal.adapt(np.random.default_rng(0).normal(3.0, 5.0, (64, 4)).astype(np.float32))
x = keras.Input((4,), name="x")
hidden = normal(x)
outputs = [keras.layers.Dense(3, name="wide")(hidden), keras.layers.Dense(2, name="narrow")(hidden)]
adapted = keras.Model(x, outputs)
adapted.save(sys.argv[1] + "/adapted.keras")
adapted.export(sys.argv[1] + "/adapted", verbose=False)

plain = keras.Sequential([keras.Input((6, 2)), keras.layers.Dense(4), keras.layers.Dense(3), keras.layers.Softmax()])
plain.save(sys.argv[1] + "/plain.keras")
x = keras.Input((6,), name="x", dtype="int32")
pooled = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(9, 4)(x))
keras.Model(x, pooled).save(sys.argv[1] + "/pooled.keras")
half = keras.layers.Dense(2, dtype="mixed_float16")
keras.Model(x, half(keras.layers.Rescaling(1.0)(x))).save(sys.argv[1] + "/half.keras")
told = {}
for name in ("model", "adapted", "plain", "pooled", "half"):
    source = pathlib.Path(sys.argv[1], name + ".keras")
    told[name] = ports.describe_keras(Call(inputs={"source": source}, params={}, out=source, progress=print))
pathlib.Path(sys.argv[1], "told.json").write_text(json.dumps(told))

class Several(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 4])])
    def one(self, x):
        return x + 1
    @tf.function(input_signature=[tf.TensorSpec([None, 4])])
    def two(self, x):
        return x + 2

several = Several()
tf.saved_model.save(several, sys.argv[1] + "/several", signatures={"one": several.one, "two": several.two})
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """One model with two inputs and two outputs, saved in every way."""
    folder = tmp_path_factory.mktemp("models")
    subprocess.run([sys.executable, "-c", textwrap.dedent(BUILD), folder], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def converted(models, limits, tmp_path_factory):
    """Return the function that gives what an action made of one of `SOURCES`; each action runs in one child."""
    sys.path.insert(0, str(Path(__file__).parent))

    @functools.cache
    def everything(kind, function):
        names = SOURCES[kind]
        contracts = {name: ADAPTED if name.startswith("adapted") else CONTRACT for name in names}
        params = {name: {**limits, "contract": msgspec.to_builtins(contract)} for name, contract in contracts.items()}
        action = {"module": f"edgesdk_converters.sources.{kind}", "function": function}
        task = Task(
            action="several_sources:run", inputs={name: models / name for name in names}, params=params | action
        )
        out = tmp_path_factory.mktemp(f"{kind}-{function}") / "out"
        out.mkdir()
        run_child(task, out, log=out.with_suffix(".log"), timeout_s=120)
        return out

    yield lambda kind, function, name: everything(kind, function) / name
    sys.path.remove(str(Path(__file__).parent))


@pytest.fixture
def contract():
    """Two inputs, two outputs, an open batch."""
    return msgspec.to_builtins(CONTRACT)


def test_every_way_of_saving_gives_the_same_model_in_both_formats(converted, act):
    """From .keras, .h5 and SavedModel come TFLite and ONNX that answer alike, by the contract's names."""
    made = []
    for kind, name in (("keras", "model.keras"), ("keras", "model.h5"), ("savedmodel", "saved")):
        out, _ = act("tflite:read", converted(kind, "to_tflite", name) / "model.tflite")
        made.append(out / "model.tflite")
        out, _ = act("onnx:pin", converted(kind, "to_onnx", name) / "model.onnx")
        made.append(out / "model.onnx")
    for other in made[1:]:
        check_agreement(made[0], other, CONTRACT, what=str(other))


def test_what_a_keras_file_tells_without_keras_is_what_keras_says(models):
    """Inputs and outputs of plain models stand in the file; of a last layer without a plain rule nothing is claimed."""
    told = json.loads((models / "told.json").read_text())
    for name in ("model", "adapted", "plain"):
        assert keras_config.described(models / f"{name}.keras") == told[name]
    for name in ("pooled", "half"):
        assert told[name]["outputs"]
        assert keras_config.described(models / f"{name}.keras") is None


@pytest.mark.parametrize(("kind", "name"), [("keras", "adapted.keras"), ("savedmodel", "adapted")])
def test_constants_that_a_layer_captured_are_no_inputs(converted, act, kind, name):
    """The mean and variance of an adapted Normalization are frozen into the ONNX: one input, and TFLite's answers."""
    described = msgspec.to_builtins(ADAPTED)
    lite, _ = act("tflite:read", converted(kind, "to_tflite", name) / "model.tflite", contract=described)
    exported = converted(kind, "to_onnx", name)
    assert [each.name for each in onnx.load(exported / "model.onnx").graph.input] == ["x"]
    pinned, _ = act("onnx:pin", exported / "model.onnx", contract=described)
    check_agreement(lite / "model.tflite", pinned / "model.onnx", ADAPTED, what=name)


def test_tflite_becomes_onnx_with_the_bias_of_its_last_layer(converted, act):
    """tf2onnx forgets a bias that is added at an output of the graph; ours is there, and the answers agree."""
    source, _ = act("tflite:read", converted("keras", "to_tflite", "model.keras") / "model.tflite")
    made, _ = act("tflite_to_onnx:convert", source / "model.tflite")
    check_agreement(source / "model.tflite", made / "model.onnx", CONTRACT, what="it")


@pytest.mark.parametrize(
    ("action", "name", "words"),
    [
        ("keras:to_tflite", "only.weights.h5", "no whole Keras model"),
        ("savedmodel:to_tflite", "several", "2 signatures"),
    ],
)
def test_what_is_no_single_whole_model_is_refused(models, act, action, name, words):
    """Weights alone and several signatures are one clear error each."""
    with pytest.raises(ConfigError, match=words) as caught:
        act(action, models / name)
    assert caught.value.code == "model-format"


@pytest.mark.parametrize("package", ["tflite-runtime", "ai-edge-litert"])
def test_a_sparse_file_ends_in_an_answer_or_one_error_and_kills_nobody(models, tmp_path, package):
    """`get_tensor_details` has crashed tflite-runtime on such files; ours runs them, and quantizing is one error."""
    thin = Contract(
        version="1.0",
        task="other",
        inputs=(TensorSpec(name="x", shape=(1, 64)),),
        outputs=(TensorSpec(name="y", shape=(1, 64)),),
    )
    np.savez(tmp_path / "x.npz", x=np.ones((3, 64), np.float32))

    def act(action, **params):
        out = tmp_path / action.partition(":")[2]
        out.mkdir()
        inputs = {"artifact": models / "sparse.tflite", "source": models / "sparse.tflite", "x": tmp_path / "x.npz"}
        task = Task(action=f"edgesdk_converters.{action}", inputs=inputs, params=params)
        return run_child(task, out, log=tmp_path / "log", timeout_s=60)

    said = act("evaluate.measure:measure", contract=msgspec.to_builtins(thin), runtime="tflite", package=package)
    assert "unloadable" not in said
    with pytest.raises(EdgeError) as caught:
        act("passes.quantize_tflite:quantize", recipe=msgspec.to_builtins(RECIPES["int8-dynamic"]))
    assert caught.value.code in {"conversion-failed", "model-format"}


def test_outputs_of_a_signature_come_in_the_order_of_their_numbers():
    """A signature is a map without order: the tenth output is not the second, and the first not the last."""
    names = [f"output_{number}" for number in range(12)]
    assert list(savedmodel.numbered(dict.fromkeys(reversed(names)))) == names
