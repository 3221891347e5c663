"""Every precision of TFLite: made, loaded by the oldest runtime, near the float model, the same bytes again."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from ai_edge_litert.schema_py_generated import TensorType
from edgesdk_converters.evaluate.alone import SAMPLES, Alone
from edgesdk_converters.passes.flatbuffer import parse
from edgesdk_converters.passes.reference import quantize
from edgesdk_converters.passes.tflite_core import CORE, read_layers
from edgesdk_converters.recipes import RECIPES, Recipe, TfliteDynamic, TfliteStatic

from edgesdk.errors import ConfigError

RUNTIMES = ("tflite-runtime", "ai-edge-litert")
ENDS = {
    "float16": "float32",
    "int8-dynamic": "float32",
    "int8-weights": "float32",
    "int8": "int8",
    "int8-uint8-io": "uint8",
    "int8-float-io": "float32",
    "int16x8": "int16",
}
ISLAND = "*trunk_1/conv2d_4_1*"


def island(**changes) -> Recipe:
    return Recipe(name="island", tflite=TfliteStatic(), **changes)


def tensors(path) -> dict[str, object]:
    return {tensor.name.decode(): tensor for tensor in parse(path.read_bytes()).subgraphs[0].tensors}


def types(path) -> dict[str, int]:
    """Types of what operators write, by name."""
    graph = parse(path.read_bytes()).subgraphs[0]
    written = [graph.tensors[index] for operator in graph.operators for index in operator.outputs]
    return {tensor.name.decode(): tensor.type for tensor in written}


@pytest.mark.parametrize(("name", "ends"), ENDS.items())
def test_each_precision_runs_in_both_runtimes_and_answers_like_the_float_model(make, answers, floats, name, ends):
    """tflite-runtime 2.14 and LiteRT load it, it takes and gives what the recipe says, and scores stay near."""
    artifact = make(RECIPES[name], "tflite")
    expected, _ = answers(floats["tflite"], "ai-edge-litert")
    limit = {"float16": 0.01, "int16x8": 0.05}.get(name, 0.15)
    for package in RUNTIMES:
        scores, said = answers(artifact, package)
        assert np.abs(scores - expected).max() < limit, package
        for side in ("inputs", "outputs"):
            assert [binding["dtype"] for binding in said["bindings"][side]] == [ends]
    if name != "float16":
        assert artifact.stat().st_size < 0.5 * floats["tflite"].stat().st_size


def test_weights_alone_are_nearer_to_float_than_activations_quantized_on_the_fly(make, answers, floats):
    """They are widened once and computed with in float: only their own rounding is left."""
    expected, _ = answers(floats["tflite"], "ai-edge-litert")
    far = {
        name: np.abs(answers(make(RECIPES[name], "tflite"), "ai-edge-litert")[0] - expected).max()
        for name in ("int8-weights", "int8-dynamic")
    }
    assert 0 < far["int8-weights"] < far["int8-dynamic"]


def test_the_core_is_int8_and_the_rest_float(make, answers, floats):
    """Convolutions and dense layers are int8, and what moves their values; softmax, inputs and outputs are float."""
    recipe = Recipe(name="core", tflite=TfliteStatic(operators="core", inputs_outputs="float32"))
    artifact = make(recipe, "tflite")
    inner = {layer.op: layer for layer in read_layers(artifact.read_bytes())}
    kinds = types(artifact)
    assert {kinds[name] for name in inner["SOFTMAX"].outputs} == {TensorType.FLOAT32}
    for op in ("CONV_2D", "FULLY_CONNECTED"):
        assert {kinds[name] for name in inner[op].outputs} == {TensorType.INT8}
    expected, _ = answers(floats["tflite"], "ai-edge-litert")
    for package in RUNTIMES:
        assert np.abs(answers(artifact, package)[0] - expected).max() < 0.15


def test_each_layer_of_the_core_tells_its_cost(act, floats, windows, contract):
    """The layers that share a weight are asked together; one that costs nothing is not among them."""
    recipe = msgspec.to_builtins(RECIPES["int8-weights"])
    inputs = {"source": floats["tflite"], "samples": windows}
    _, said = act("evaluate.alone_tflite:rank", inputs, contract=contract, recipe=recipe)
    layers = [layer for layer in read_layers(floats["tflite"].read_bytes()) if layer.op in CORE]
    found = msgspec.convert(said["layers"], list[Alone])
    assert sorted(name for each in found for name in each.names) == sorted(next(iter(each.outputs)) for each in layers)
    assert all(0 < each.noise < 0.01 for each in found)
    assert said["samples"] == SAMPLES


def test_uint8_ends_mean_the_same_numbers(make, answers):
    """uint8 is int8 moved by 128: every answer is equal, to the bit."""
    inner, _ = answers(make(RECIPES["int8"], "tflite"), "tflite-runtime")
    outer, said = answers(make(RECIPES["int8-uint8-io"], "tflite"), "tflite-runtime")
    assert (inner == outer).all()
    assert said["bindings"]["outputs"][0]["zero_point"] == 0


@pytest.mark.parametrize("name", ["int8", "int8-dynamic", "int16x8"])
def test_the_same_inputs_give_the_same_bytes(make, name):
    """Repetition changes nothing."""
    assert make(RECIPES[name], "tflite").read_bytes() == make.__wrapped__(RECIPES[name], "tflite").read_bytes()


def test_dense_weights_per_channel_are_what_the_oldest_runtime_computes_wrongly_or_refuses(make, answers, floats):
    """The trap behind `dense_weights`: by the tool's default LiteRT is right and tflite-runtime 2.14 is not."""
    trap = Recipe(name="trap", tflite=TfliteDynamic(dense_weights="CHANNELWISE"))
    artifact = make(trap, "tflite")
    expected, _ = answers(floats["tflite"], "ai-edge-litert")
    assert np.abs(answers(artifact, "ai-edge-litert")[0] - expected).max() < 0.15
    try:
        wrong, _ = answers(artifact, "tflite-runtime")
    except AssertionError:
        return  # it says so itself, which is the lesser evil
    assert np.abs(wrong - expected).max() > 0.15


def test_a_float_island_stays_float_among_integers(make, answers, floats):
    """The named layer keeps float weights and activations; the rest is int8, and both runtimes run the mixture."""
    artifact = make(island(float_layers=(ISLAND,)), "tflite")
    plain, mixed = types(make(RECIPES["int8"], "tflite")), types(artifact)
    name = next(name for name in plain if "conv2d_4_1" in name and "Relu" in name)
    int8, float32 = 9, 0
    assert plain[name] == int8
    assert mixed[name] == float32
    assert list(mixed.values()).count(int8) > 5
    expected, _ = answers(floats["tflite"], "ai-edge-litert")
    for package in RUNTIMES:
        assert np.abs(answers(artifact, package)[0] - expected).max() < 0.15


def test_a_wide_layer_has_16_bit_activations(make, answers, floats):
    """The named layer writes int16; its neighbours are requantized."""
    artifact = make(island(wide_layers=("*dense_1_1*",)), "tflite")
    int16 = 7
    assert int16 in types(artifact).values()
    expected, _ = answers(floats["tflite"], "ai-edge-litert")
    for package in RUNTIMES:
        assert np.abs(answers(artifact, package)[0] - expected).max() < 0.15


def test_a_pattern_that_names_no_layer_is_refused_with_the_names(make):
    """A misspelt layer is not ignored."""
    with pytest.raises(ConfigError, match="'conv_99' names no layer") as caught:
        make(island(float_layers=("conv_99",)), "tflite")
    assert "conv2d" in caught.value.hint


@pytest.mark.parametrize("rule", ["percentile", "mse"])
def test_rules_other_than_minmax_give_narrower_ranges(make, rule):
    """Ranges by percentile and by least error are no wider than the true ones, and somewhere narrower."""
    widest = tensors(make(RECIPES["int8"], "tflite"))
    chosen = tensors(make(island(calibration_range=rule, percentile=99.0), "tflite"))
    pairs = [
        (float(tensor.quantization.scale[0]), float(chosen[name].quantization.scale[0]))
        for name, tensor in widest.items()
        if tensor.buffer == 0 or "Relu" in name
        if tensor.quantization and tensor.quantization.scale is not None and len(tensor.quantization.scale) == 1
    ]
    assert all(narrow <= wide * 1.001 for wide, narrow in pairs)
    assert any(narrow < 0.99 * wide for wide, narrow in pairs)


def test_weights_are_those_of_the_reference_quantizer_but_for_the_narrow_range(make, floats):
    """TFLite leaves out -128: with the scale max|x| / 127 it is the reference where the largest value decides."""
    before, after = parse(floats["tflite"].read_bytes()), parse(make(RECIPES["int8"], "tflite").read_bytes())
    weights = {
        tensor.name: tensor for tensor in before.subgraphs[0].tensors if before.buffers[tensor.buffer].data is not None
    }
    compared = narrow = 0
    for tensor in after.subgraphs[0].tensors:
        source = weights.get(tensor.name)
        if source is None or tensor.type != 9 or len(tensor.quantization.scale) == 1:
            continue
        values = np.frombuffer(bytes(before.buffers[source.buffer].data), np.float32).reshape(source.shape)
        made = np.frombuffer(bytes(after.buffers[tensor.buffer].data), np.int8).reshape(tensor.shape)
        axis = int(tensor.quantization.quantizedDimension)
        assert made.min() >= -127
        for channel, scale in enumerate(tensor.quantization.scale):
            x, q = values.take(channel, axis), made.take(channel, axis)
            assert scale == pytest.approx(np.abs(x).max() / 127, rel=1e-5)
            expected, own = quantize(x, 8)
            if x.max() >= -x.min():
                assert np.abs(q - expected).max() <= 1, "a tie may go either way in float32"
                assert (q == expected).mean() > 0.98
                compared += 1
            else:
                assert own <= scale, "the reference also uses -128"
                narrow += 1
    assert compared
    assert narrow


def test_a_file_that_is_int8_already_is_refused_as_a_source(act, make, contract):
    """Converters between formats trip over int8 files (tf2onnx: "Graph has cycles"); ours start from float only."""
    with pytest.raises(ConfigError, match="is quantized already") as caught:
        act("sources.tflite:read", {"source": make(RECIPES["int8"], "tflite")}, contract=contract)
    assert caught.value.code == "model-format"
