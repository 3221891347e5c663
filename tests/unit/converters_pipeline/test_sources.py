"""Model files are recognised by what they hold."""

from __future__ import annotations

import zipfile

import numpy as np
import onnx
import pytest
from edgesdk_converters.sources import external_data, open_source
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


def archive(path, *names: str):
    with zipfile.ZipFile(path, "w") as file:
        for name in names:
            file.writestr(name, "x")
    return path


def test_frameworks_are_recognised_by_what_they_write(tmp_path):
    """HDF5, a SavedModel folder and a PyTorch program are told by their content."""
    hdf5 = tmp_path / "model.h5"
    hdf5.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(20))
    saved = tmp_path / "saved"
    (saved / "variables").mkdir(parents=True)
    (saved / "saved_model.pb").write_bytes(b"graph")
    program = archive(
        tmp_path / "program.pt2", "m/archive_format", "m/models/model.json", "m/data/sample_inputs/model.pt"
    )
    assert [open_source(path).format for path in (hdf5, saved, program)] == ["keras", "savedmodel", "pt2"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda path: archive(path / "w.pt", "w/data.pkl", "w/data/0"), "pickled PyTorch file"),
        (lambda path: archive(path / "s.pt", "s/data.pkl", "s/constants.pkl"), "TorchScript"),
        (lambda path: archive(path / "a.zip", "readme.txt"), "no known model format"),
        (lambda path: (path / "old.pth").write_bytes(b"\x80\x02pickle") and path / "old.pth", "pickled PyTorch file"),
        (lambda path: (path / "w.safetensors").write_bytes(b"{}") and path / "w.safetensors", "no graph"),
        (lambda path: (path / "m.onnx").write_text("version https://git-lfs\n") and path / "m.onnx", "Git LFS"),
        (lambda path: path, "no saved_model.pb"),
    ],
)
def test_what_holds_no_readable_graph_is_refused_by_name(tmp_path, make, words):
    """Each is refused with what it is; nothing is unpickled."""
    with pytest.raises(ConfigError, match=words) as caught:
        open_source(make(tmp_path))
    assert caught.value.code == "model-format"
    assert caught.value.hint


def test_a_folder_is_known_by_all_its_files(tmp_path):
    """Another weight makes another source; so does the name of a file."""
    (tmp_path / "saved_model.pb").write_bytes(b"graph")
    weights = tmp_path / "weights"
    weights.write_bytes(b"1")
    first = open_source(tmp_path)
    weights.write_bytes(b"2")
    second = open_source(tmp_path)
    weights.rename(tmp_path / "other")
    assert len({first.sha256, second.sha256, open_source(tmp_path).sha256}) == 3
    assert first.size == 6


def test_data_outside_an_onnx_file_belongs_to_it(tmp_path):
    """Tensors that lie in another file change the source's hash and count in its size."""
    onnx = pytest.importorskip("onnx")
    tensor = onnx.numpy_helper.from_array(np.arange(4, dtype=np.float32), "w")
    output = onnx.helper.make_tensor_value_info("w", onnx.TensorProto.FLOAT, [4])
    model = onnx.helper.make_model(onnx.helper.make_graph([], "g", [], [output], [tensor]))
    path = tmp_path / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="m.bin", size_threshold=0)
    [data] = external_data(path)
    before = open_source(path)
    data.write_bytes(bytes(len(data.read_bytes())))
    assert data.name == "m.bin"
    assert before.size == path.stat().st_size + data.stat().st_size
    assert open_source(path).sha256 != before.sha256
