"""Layer by layer: planted faults are found at the layer where they are, not where they show."""

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from edgesdk_converters.evaluate.differences import CAP_DB, Difference, compare_arrays
from edgesdk_converters.evaluate.exposed import Node
from edgesdk_converters.evaluate.layers import Layer, attribute, compare_layers, first_broken, sentence, short
from edgesdk_converters.running.isolation import Call
from onnx import TensorProto, helper, numpy_helper

from edgesdk.contract import Contract, TensorSpec

CONTRACT = Contract(
    version="1.0",
    task="other",
    inputs=(TensorSpec(name="x", shape=(1, 16)),),
    outputs=(TensorSpec(name="y", shape=(1, 4)),),
)
LAYERS = ("a", "b", "c")


def graph(path: Path, *, narrow: str | None = None) -> Path:
    """Write x → a → b → c → y; after the layer `narrow` the values are rounded with a range that is far too small."""
    random = np.random.default_rng(1)
    nodes, weights, before = [], [], "x"
    for name, (rows, columns) in zip(LAYERS, ((16, 12), (12, 8), (8, 4)), strict=True):
        weight = random.normal(0, 1 / np.sqrt(rows), (rows, columns)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"{name}/w"))
        nodes.append(helper.make_node("MatMul", [before, f"{name}/w"], [f"{name}/out"]))
        after = f"{name}/out"
        scale = 0.002 if name == narrow else 0.05
        if narrow is not None:
            weights += [numpy_helper.from_array(np.float32(scale), f"{name}/s")]
            weights += [numpy_helper.from_array(np.int8(0), f"{name}/z")]
            rounded = [f"{after}_QuantizeLinear_Output", f"{after}_DequantizeLinear_Output"]
            nodes.append(helper.make_node("QuantizeLinear", [after, f"{name}/s", f"{name}/z"], rounded[:1]))
            nodes.append(helper.make_node("DequantizeLinear", [rounded[0], f"{name}/s", f"{name}/z"], rounded[1:]))
            after = rounded[1]
        nodes.append(helper.make_node("Tanh", [after], [f"{name}/tanh"]))
        before = f"{name}/tanh"
    nodes.append(helper.make_node("Identity", [before], ["y"]))
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 16]), ("y", [1, 4]))]
    model = helper.make_model(
        helper.make_graph(nodes, "g", ends[:1], ends[1:], weights), opset_imports=[helper.make_opsetid("", 17)]
    )
    model.ir_version = 9
    onnx.save(model, path)
    return path


def compared(tmp_path: Path, artifact: Path) -> dict:
    samples = tmp_path / "samples.npz"
    np.savez(samples, x=np.random.default_rng(2).normal(0, 1, (50, 16)).astype(np.float32))
    inputs = {"source": graph(tmp_path / "float.onnx"), "artifact": artifact, "samples": samples}
    params = {"contract": msgspec.to_builtins(CONTRACT), "format": "onnx"}
    return compare_layers(Call(inputs=inputs, params=params, out=tmp_path, progress=lambda _done, _total: None))


@pytest.mark.parametrize("layer", LAYERS)
def test_the_layer_with_a_range_too_small_is_named(tmp_path, layer):
    """Whichever layer's range is too small, it is the one that is named, with what it does to the noise."""
    found = compared(tmp_path, graph(tmp_path / "narrow.onnx", narrow=layer))
    assert (found["compared"], found["samples"], found["start"]) == (True, 32, f"{layer}/out")
    assert f"the error starts at layer {layer}/out (MatMul): the signal-to-noise ratio falls" in found["sentence"]


def test_ordinary_rounding_breaks_no_layer(tmp_path):
    """Where every range fits, no layer is blamed, and the worst is told."""
    found = compared(tmp_path, graph(tmp_path / "fine.onnx", narrow="none"))
    assert found["start"] is None
    assert "no layer breaks: the worst, " in found["sentence"]
    assert {layer["name"] for layer in found["layers"]} >= {"x", "a/out", "b/out", "c/out", "y"}


def test_a_file_that_cannot_be_compared_is_no_failure(tmp_path):
    """A broken or foreign artifact gives a reason, never an exception: the gate judges, not this."""
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no model")
    found = compared(tmp_path, broken)
    assert found["compared"] is False
    assert "broken.onnx" in found["reason"] or "artifact" in found["reason"]


def _figures(noise: float) -> Difference:
    ratio = CAP_DB if noise == 0 else -10 * float(np.log10(noise))
    return Difference(elements=1, max_abs=0, rmse=0, snr_db=ratio, cosine=1, low=0, high=1)


def test_noise_that_is_passed_on_is_not_blamed_on_who_passes_it():
    """A layer is held against its inputs, over layers that could not be compared too."""
    nodes = [Node(name=name, op="op", inputs=inputs) for name, inputs in (
        ("in", ()), ("bad", ("in",)), ("unseen", ("bad",)), ("late", ("unseen", "in")))]  # fmt: skip
    layers = attribute(nodes, {"in": _figures(0.0), "bad": _figures(0.2), "late": _figures(0.21)})
    assert [(layer.name, round(layer.added, 3)) for layer in layers] == [("in", 0), ("bad", 0.2), ("late", 0.01)]
    assert first_broken(layers).name == "bad"


def test_differences_are_those_of_the_arrays():
    """RMSE, largest difference, cosine and signal-to-noise ratio, and NaN counts as a difference."""
    reference = np.array([3.0, 4.0], np.float32)
    found = compare_arrays(reference, np.array([3.0, 3.0], np.float32))
    assert (found.max_abs, found.rmse) == (1.0, pytest.approx(np.sqrt(0.5)))
    assert found.snr_db == pytest.approx(10 * np.log10(25))
    assert found.cosine == pytest.approx(21 / (5 * np.sqrt(18)))
    assert compare_arrays(reference, reference).snr_db == CAP_DB
    assert compare_arrays(reference, np.array([np.nan, 4.0])).max_abs == 3.0


def test_names_of_layers_are_short():
    """The part of a fused TensorFlow name that a person knows."""
    assert short("f/trunk/re_lu/Relu;f/trunk/conv2d_3/BiasAdd;f/trunk/conv2d_3/Squeeze1") == "conv2d_3/Squeeze1"
    assert short("Identity:0") == "Identity"
    layer = Layer(name="x", op="input", added=0.5, figures=_figures(0.5))
    assert sentence([layer], layer).startswith("the error starts at x (input): the signal-to-noise ratio falls to 3 dB")
