"""Model files are recognised by what they hold."""

from __future__ import annotations

import onnx
import pytest
from edgesdk_converters.sources import open_source
from edgesdk_converters.sources.onnx import check_opset, fix_sizes

from edgesdk.contract import Contract, TensorSpec
from edgesdk.errors import ConfigError, TargetError


@pytest.mark.parametrize("suffix", ["keras", "tflite", "onnx"])
def test_the_examples_models_are_recognised(repository_root, suffix):
    """Each real file of the wearable example is recognised."""
    path = repository_root / "examples" / "wearable" / "models" / f"v1.{suffix}"
    assert open_source(path).format == suffix


def test_a_tflite_file_is_recognised_by_its_content(repository_root, tmp_path):
    """A name that lies does not mislead."""
    path = tmp_path / "model.onnx"
    path.write_bytes((repository_root / "examples" / "wearable" / "models" / "v1.tflite").read_bytes())
    assert open_source(path).format == "tflite"


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04zip"])
def test_other_files_are_refused(tmp_path, content):
    """A file of no known format is refused with the formats that are known."""
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        open_source(path)
    assert caught.value.code == "model-format"


def test_an_opset_above_the_ceiling_is_refused_with_the_number_to_use():
    """The hint says which opset to export with."""
    check_opset({"": 21}, 21, "m.onnx")
    with pytest.raises(TargetError, match="uses opset 22, expected at most 21") as caught:
        check_opset({"": 22}, 21, "m.onnx")
    assert "opset_version=21" in caught.value.hint


@pytest.mark.parametrize("open_size", [-1, "?", None])
def test_open_sizes_take_what_the_contract_fixes(open_size):
    """A symbol, nothing, or Paddle's -1: each is an open size, and what follows from it is inferred anew."""
    entry, given = (onnx.helper.make_tensor_value_info(name, 1, [open_size, 3, open_size]) for name in "xy")
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "open", [entry], [given])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)])
    specs = {name: TensorSpec(name=name, shape=(1, 3, 8)) for name in "xy"}
    fix_sizes(model, Contract(version="1.0", task="other", inputs=(specs["x"],), outputs=(specs["y"],)))
    for found in (*model.graph.input, *model.graph.output):
        assert [dimension.dim_value for dimension in found.type.tensor_type.shape.dim] == [1, 3, 8]
