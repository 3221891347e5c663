"""Recurrent Keras layers: TensorFlow's own int8 conversion kills Python; ours converts them, or says what to change."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import numpy as np
import pytest
from edgesdk_converters import convert

from edgesdk.errors import ReleaseError

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
BUILD = """
import sys
import keras
import numpy as np
import tensorflow as tf
keras.utils.set_random_seed(0)
for name, layer in (("lstm", keras.layers.LSTM), ("gru", keras.layers.GRU)):
    for unroll in (False, True):
        x = keras.Input((8, 4), name="x")
        y = keras.layers.Dense(3, activation="softmax")(layer(6, unroll=unroll)(x))
        model = keras.Model(x, y)
        archive = keras.export.ExportArchive()
        archive.track(model)
        signature = [tf.TensorSpec((1, 8, 4), name="x")]
        archive.add_endpoint("serve", lambda x: {"scores": model(x, training=False)}, input_signature=signature)
        folder = f"{sys.argv[1]}/{name}-{'unrolled' if unroll else 'loop'}"
        archive.write_out(folder, verbose=False)
        open(folder + ".tflite", "wb").write(tf.lite.TFLiteConverter.from_saved_model(folder).convert())
print("exported", flush=True)
"""
TRAP = """
converter = tf.lite.TFLiteConverter.from_saved_model(sys.argv[1] + "/lstm-loop")
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.representative_dataset = lambda: ([np.ones((1, 8, 4), np.float32) * scale] for scale in range(9))
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
converter.convert()
"""
CONTRACT = """
version = "1.0"
task = "classification"
labels = ["a", "b", "c"]
[[inputs]]
name = "x"
shape = [1, 8, 4]
[[outputs]]
name = "scores"
shape = [1, 3]
"""


def python(code, *arguments):
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def trap(tmp_path_factory):
    """Float exports with the loop and unrolled, and how TensorFlow ended that converted one of them to int8."""
    folder = tmp_path_factory.mktemp("recurrent")
    made = python(BUILD + TRAP, folder)
    assert "exported" in made.stdout, made.stderr[-2000:]
    return folder, made


@pytest.fixture(scope="module")
def folder(trap):
    """The float exports, smooth made-up series, and a contract."""
    folder, _ = trap
    for seed, (name, count) in enumerate((("calibration", 200), ("evaluation", 1500))):
        series = np.random.default_rng(seed).normal(size=(count, 8, 4)).cumsum(axis=1)
        np.savez(folder / f"{name}.npz", x=series.astype(np.float32) / 3)
    (folder / "contract.toml").write_text(CONTRACT)
    return folder


@pytest.fixture
def made_of(folder, cache, tmp_path):
    """Convert one of the exports by a recipe."""

    def run(name, recipe):
        return convert(
            folder / f"{name}.tflite",
            name="recurrent",
            release="1.0.0",
            targets=["linux-x86_64-cpu"],
            contract=folder / "contract.toml",
            calibration=folder / "calibration.npz",
            evaluation=folder / "evaluation.npz",
            recipes=[recipe],
            max_drop=0.05,
            cache_dir=cache,
            out=tmp_path / "release",
        )

    return run


def test_tensorflows_own_conversion_dies(trap):
    """The trap: int8 of a loop ends Python by a signal. If it ends otherwise, the trap has changed: read it again."""
    _, made = trap
    assert made.returncode < 0


@pytest.mark.parametrize("recipe", ["int8", "int16x8"])
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_a_loop_is_refused_with_the_cure(made_of, name, recipe):
    """Ours is one typed error that names the layer and `unroll=True`; nothing dies and nothing is left."""
    with pytest.raises(ReleaseError, match=f"{name}.* computes in a WHILE") as caught:
        made_of(f"{name}-loop", recipe)
    assert caught.value.code == "conversion-failed"
    assert "unroll=True" in caught.value.hint


@pytest.mark.parametrize("recipe", ["int8", "int16x8"])
@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_unrolled_it_becomes_full_integer_in_every_runtime(made_of, name, recipe):
    """The cure works: both runtimes load it (also where a part of a split is read by nobody), and it agrees."""
    [variant] = made_of(f"{name}-unrolled", recipe).report["variants"]
    assert set(variant["runtimes"]) == {"tflite-runtime", "ai-edge-litert"}
    assert variant["evaluation"]["metric"] == "agreement"
    assert variant["evaluation"]["value"] > 0.97


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_without_calibration_a_loop_may_stay(made_of, name):
    """Dynamic int8 needs no ranges: the loop runs in both runtimes, and agrees."""
    [variant] = made_of(f"{name}-loop", "int8-dynamic").report["variants"]
    assert set(variant["runtimes"]) == {"tflite-runtime", "ai-edge-litert"}
    assert variant["evaluation"]["value"] > 0.97
