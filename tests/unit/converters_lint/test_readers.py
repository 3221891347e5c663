"""Both readers: what a graph says of a file, and that damaged files are refused with one error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from edgesdk_converters.lint.read import read_graph
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lint_graphs.build import Builder

from edgesdk.errors import ConfigError


def _conv(build: Builder) -> bytes:
    x = build.input([1, 8, 8, 4], scale=0.5, zero_point=-3)
    weights = build.tensor([6, 3, 3, 4], data=np.arange(216) % 7, scale=[0.1] * 6)
    bias = build.tensor([6], "int32", data=np.arange(6), scale=0.05)
    y = build.tensor([1, 4, 4, 6], scale=0.25)
    build.op("CONV_2D", [x, weights, bias], [y], strideH=2, strideW=2, fusedActivationFunction=1)
    return build.bytes([y])


def test_tflite_nodes_tensors_and_options_are_read(build, read):
    """Shapes, dtypes, scales, options, constants and MACs of a convolution are those that were written."""
    graph = read(_conv(build))
    node = graph.nodes[0]
    x, weights, bias = node.present
    assert (node.op, node.attributes["stride_h"], node.attributes["fused_activation_function"]) == (
        "CONV_2D",
        2,
        "relu",
    )
    assert (x.shape, x.dtype, x.quantization.zero_points, x.constant) == ((1, 8, 8, 4), "int8", (-3,), False)
    assert len(weights.quantization.scales) == 6
    assert weights.quantization.axis == 0
    assert bias.values.tolist() == [0, 1, 2, 3, 4, 5]
    assert node.macs == graph.macs == 4 * 4 * 6 * 3 * 3 * 4
    assert graph.quantized


def test_an_open_dimension_is_none_and_a_left_out_input_too(build, read):
    """A dynamic batch is None in the shape; index -1 is an input that is not there."""
    x = build.input([1, 4], signature=[-1, 4])
    weights = build.tensor([3, 4], data=np.ones((3, 4)))
    y = build.tensor([1, 3], signature=[-1, 3])
    build.op("FULLY_CONNECTED", [x, weights, -1], [y])
    node = read(build.bytes([y])).nodes[0]
    assert node.input(0).shape == (None, 4)
    assert node.input(0).dims == (1, 4)
    assert node.input(2) is None
    assert node.macs == 12


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\0\0\0\0TFL3" + b"\xff" * 64, b"no model at all"])
def test_what_is_no_model_is_refused(tmp_path, content):
    """Files of another kind, and ones that only begin like a model, are refused by one code."""
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        read_graph(path)
    assert caught.value.code == "model-format"


def test_a_missing_file_is_refused(tmp_path):
    """A path without a file has its own code."""
    with pytest.raises(ConfigError) as caught:
        read_graph(tmp_path / "none.onnx")
    assert caught.value.code == "file-missing"


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_tflite_is_read_or_refused_but_never_raises_anything_else(tmp_path: Path, data: st.DataObject):
    """Truncated and overwritten files give a graph or `model-format`; values may be read from what is left."""
    content = bytearray(_conv(Builder()))
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(8, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "model.tflite"
    path.write_bytes(content[: data.draw(st.integers(8, len(content)))])
    try:
        graph = read_graph(path)
    except ConfigError as error:
        assert error.code == "model-format"
    else:
        assert graph.format == "tflite"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_onnx_is_read_or_refused_but_never_raises_anything_else(onnx_file, data: st.DataObject):
    """The same for protobuf."""
    path = onnx_file([("Relu", ["x"], ["y"], {})], {"x": ("float32", [1, 4])})
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        graph = read_graph(path)
    except ConfigError as error:
        assert error.code == "model-format"
    else:
        assert graph.format == "onnx"


def test_an_operator_that_reads_less_than_its_kind_needs_is_refused(onnx_file):
    """No rule could be asked of it; the message names it."""
    path = onnx_file([("Conv", ["x"], ["y"], {})], {"x": ("float32", [1, 4, 8, 8])})
    with pytest.raises(ConfigError, match=r"Conv .* reads 1 values, expected 2 or more") as caught:
        read_graph(path)
    assert caught.value.code == "model-format"


def test_onnx_shapes_are_inferred_and_constants_folded(onnx_file):
    """Inference fills shapes; what hangs on constants only is a constant with its value, and no node."""
    weights = np.ones((8, 4, 3, 3), np.float32)
    path = onnx_file(
        [
            ("Identity", ["w"], ["w2"], {}),
            ("Mul", ["w2", "two"], ["w3"], {}),
            ("Conv", ["x", "w3"], ["y"], {"pads": [1, 1, 1, 1]}),
            ("Relu", ["y"], ["z"], {}),
        ],
        {"x": ("float32", [1, 4, 8, 8])},
        {"w": weights, "two": np.asarray(2.0, np.float32)},
    )
    graph = read_graph(path)
    conv = next(node for node in graph.nodes if node.op == "Conv")
    assert [node.op for node in graph.nodes] == ["Conv", "Relu"]
    assert conv.input(1).values[0, 0, 0, 0] == 2.0
    assert conv.outputs[0].shape == (1, 8, 8, 8)
    assert graph.macs == 8 * 8 * 8 * 4 * 9
    assert graph.opsets[""] == 17


def test_onnx_subgraphs_are_walked_and_open_dimensions_are_none(onnx_file):
    """Nodes of a branch are listed under the node that holds them."""
    from onnx import TensorProto, helper  # noqa: PLC0415

    value = helper.make_tensor_value_info("b", TensorProto.FLOAT, ["n", 2])
    branch = helper.make_graph([helper.make_node("Sin", ["x"], ["b"])], "branch", [], [value])
    words = {"then_branch": branch, "else_branch": branch}
    path = onnx_file([("If", ["c"], ["y"], words)], {"x": ("float32", ["n", 2]), "c": ("bool", [])})
    graph = read_graph(path)
    assert [node.op for node in graph.nodes] == ["If", "Sin", "Sin"]
    assert graph.nodes[1].name.startswith("n0/")
    assert graph.nodes[1].input(0).shape == (None, 2)


def test_weights_beside_the_file_are_not_needed(onnx_file):
    """A graph whose external weights are missing is read; only their values are unknown."""
    import onnx  # noqa: PLC0415

    path = onnx_file(
        [("MatMul", ["x", "w"], ["y"], {})], {"x": ("float32", [1, 64])}, {"w": np.ones((64, 64), np.float32)}
    )
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
    (path.parent / "weights.bin").unlink()
    node = read_graph(path).nodes[0]
    assert node.input(1).constant
    assert node.input(1).values is None
    assert node.macs == 64 * 64
