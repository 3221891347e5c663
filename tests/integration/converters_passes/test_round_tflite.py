"""Float TFLite whose weights calibration data rounded: every kind of layer, and what the quantizer finds in it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from edgesdk_converters.passes import moments
from edgesdk_converters.passes.flatbuffer import parse
from edgesdk_converters.passes.moments import columns_of
from edgesdk_converters.passes.observe import open_tflite
from edgesdk_converters.passes.quantize_tflite import quantized
from edgesdk_converters.passes.round_tflite import layers_of, take
from edgesdk_converters.passes.rounding import scales_of
from edgesdk_converters.passes.tflite_core import read_layers
from edgesdk_converters.recipes import Recipe, TfliteWeights

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
from lint_graphs.build import Builder

MOST, SAME, VALID = 127, 0, 1
HIGH, WIDE, CHANNELS, ROWS, CLASSES = 13, 12, 4, 96, 3
CONTRACT = {
    "version": "1.0",
    "task": "classification",
    "labels": [str(number) for number in range(CLASSES)],
    "inputs": [{"name": "t0", "shape": [1, HIGH, WIDE, CHANNELS]}],
    "outputs": [{"name": "scores", "shape": [1, CLASSES]}],
}
KINDS = {"plain": "CONV_2D", "grouped": "CONV_2D", "depthwise": "DEPTHWISE_CONV_2D", "dense": "FULLY_CONNECTED"}


def network() -> tuple[bytes, dict[str, str]]:
    """Convolutions: with stride, with groups, depthwise with dilation and two channels each; and a dense layer."""
    random, build = np.random.default_rng(0), Builder()

    def stored(*shape: int) -> int:
        values = random.normal(size=shape) / max(1, np.prod(shape[1:])) ** 0.5
        return build.tensor(shape, "float32", data=values.astype(np.float32), scale=None)

    def made(*shape: int) -> int:
        return build.tensor(shape, "float32", scale=None)

    x = build.input((1, HIGH, WIDE, CHANNELS), "float32", scale=None)
    a, b, c, d, e = made(1, 7, 6, 6), made(1, 7, 6, 4), made(1, 3, 4, 8), made(1, 96), made(1, CLASSES)
    step = {"dilationHFactor": 1, "dilationWFactor": 1}
    build.op("CONV_2D", [x, stored(6, 3, 2, 4), stored(6)], [a], padding=SAME, strideH=2, strideW=2, **step)
    build.op("CONV_2D", [a, stored(4, 2, 3, 3), stored(4)], [b], padding=SAME, strideH=1, strideW=1, **step)
    wide = {"strideH": 1, "strideW": 1, "dilationHFactor": 2, "dilationWFactor": 1, "depthMultiplier": 2}
    build.op("DEPTHWISE_CONV_2D", [b, stored(1, 3, 3, 8), stored(8)], [c], padding=VALID, **wide)
    build.op("RESHAPE", [c, build.ints([1, 96])], [d], newShape=[1, 96])
    build.op("FULLY_CONNECTED", [d, stored(CLASSES, 96), -1], [e])
    return build.bytes([e]), dict(zip(KINDS, (f"t{index}" for index in (a, b, c, e)), strict=True))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The network, and smooth pictures: neighbouring pixels depend on each other."""
    folder = tmp_path_factory.mktemp("rounding")
    (folder / "model.tflite").write_bytes(network()[0])
    np.savez(folder / "rows.npz", t0=smooth(1, ROWS))
    return folder


def smooth(seed, count):
    """Return pictures, float32 [N, HIGH, WIDE, CHANNELS]."""
    noise = np.random.default_rng(seed).normal(size=(count, HIGH, WIDE, CHANNELS)).cumsum(axis=1).cumsum(axis=2)
    return (noise / np.abs(noise).max(axis=(1, 2, 3), keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def rounded(act, folder):
    """The file rounded for dense layers of one scale, and what the step says."""
    inputs = {"source": folder / "model.tflite", "calibration": folder / "rows.npz"}
    out, said = act("passes.round_tflite:round_weights", inputs, contract=CONTRACT, most=MOST, whole=True)
    return (out / "model.tflite").read_bytes(), said["layers"]


def layers(content, *, whole=True):
    """Return the layers of a file by what they write."""
    return {layer.name: layer for layer, _operator in layers_of(parse(content), whole=whole)}


def test_the_patches_are_those_that_a_convolution_sees(folder, monkeypatch):
    """Weights times the columns, and the bias, are the layer's own outputs: strides, dilation, groups and padding."""
    monkeypatch.setattr(moments, "POSITIONS", 10**6)
    content, names = network()
    seen = open_tflite(content)[0]({"t0": smooth(2, 1)})
    found = layers(content)
    assert {kind: found[name].weights.shape for kind, name in names.items()} == {
        "plain": (1, 6, 24),
        "grouped": (2, 2, 18),
        "depthwise": (4, 2, 9),
        "dense": (1, CLASSES, 96),
    }
    for kind, name in names.items():
        [(tensor, window)] = found[name].reads
        weights, columns = found[name].weights, columns_of(found[name], window, seen[tensor])
        bare = weights @ columns[:, : weights.shape[2]]
        expected = np.moveaxis(seen[name], -1, 0).reshape(*bare.shape)
        bias = expected - bare
        assert bias == pytest.approx(np.broadcast_to(bias[:, :, :1], bias.shape), abs=1e-4), kind
        assert found[name].biased == (kind != "dense")


def test_every_kind_of_layer_is_rounded_to_its_own_grid(folder, rounded):
    """Convolutions per channel, the dense layer as a whole; none is worse than the nearest, most are much better."""
    content, said = rounded
    before, after = layers((folder / "model.tflite").read_bytes()), layers(content)
    for name, layer in before.items():
        scales = scales_of(layer.weights, MOST, whole=layer.whole)
        assert scales_of(after[name].weights, MOST, whole=layer.whole) == pytest.approx(scales, rel=1e-6)
        whole = after[name].weights / scales[:, :, None]
        assert whole == pytest.approx(np.rint(whole), abs=1e-4)
    assert len({float(scale) for scale in scales_of(before[network()[1]["dense"]].weights, MOST).ravel()}) > 1
    assert all(each["loss"] <= each["nearest"] for each in said.values())
    assert sum(each["loss"] < 0.8 * each["nearest"] for each in said.values()) >= 3


def test_the_answers_are_nearer_to_float(act, folder):
    """Int8 weights from the rounded file err less on new pictures than those of litert-quantizer alone."""
    content = (folder / "model.tflite").read_bytes()
    inputs = {"source": folder / "model.tflite", "calibration": folder / "rows.npz"}
    out, _said = act("passes.round_tflite:round_weights", inputs, contract=CONTRACT, most=MOST, whole=False)
    recipe = Recipe(name="weights", tflite=TfliteWeights())
    fresh = smooth(3, 60)
    expected = scores(content, fresh)
    made = [quantized(each, recipe, {}, read_layers(each)) for each in ((out / "model.tflite").read_bytes(), content)]
    errors = [np.mean((scores(each, fresh) - expected) ** 2) for each in made]
    assert errors[0] < 0.7 * errors[1]


def test_layers_that_stay_in_float_keep_their_own_weights(folder, rounded):
    """An island has the weights and the bias of the source, every other layer those of the rounded file."""
    content = (folder / "model.tflite").read_bytes()
    names = network()[1]
    taken = layers(take(content, rounded[0], (names["grouped"],)))
    before = layers(content)
    same = {kind for kind, name in names.items() if np.array_equal(taken[name].weights, before[name].weights)}
    assert same == {"grouped"}
    assert take(content, rounded[0], ()) == rounded[0]


def scores(content, rows):
    """Return a file's scores, [N, CLASSES]."""
    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    [given], [taken] = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for row in rows:
        interpreter.set_tensor(given["index"], row[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(taken["index"]).copy())
    return np.concatenate(found)
