"""`edge contract draft` and `check` on real model files of every format."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from edgesdk_converters.drafting.api import check_contract, draft_contract
from edgesdk_converters.drafting.ports import read_ports

from edgesdk.contract import load_contract_toml
from edgesdk.errors import ConfigError

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))
from lint_graphs.build import Builder

WEARABLE = Path("examples/wearable")


@pytest.fixture
def wearable(repository_root: Path) -> Path:
    """The folder of the example."""
    return repository_root / WEARABLE


@pytest.fixture
def quantized(tmp_path: Path) -> Path:
    """An int8 file: one activation."""
    build = Builder()
    names = [build.input([1, 8]), build.tensor([1, 8])]
    build.op("RELU", names[:1], names[1:])
    path = tmp_path / "int8.tflite"
    path.write_bytes(build.bytes(names[1:]))
    return path


def edge(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    command = [sys.executable, "-m", "edgesdk", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("suffix", ["tflite", "onnx"])
def test_the_example_is_drafted_from_its_exports(wearable: Path, suffix: str) -> None:
    """Names and sizes are those that a person wrote into the example's contract."""
    contract = load_contract_toml(draft_contract(wearable / "models" / f"v1.{suffix}").text)
    assert [(spec.name, spec.shape, spec.layout) for spec in contract.inputs] == [("window", (1, 128, 6), "NTC")]
    assert contract.outputs[0].shape == (1, 7)
    assert contract.task == "classification"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where answers are kept, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_plain_keras_model_needs_no_tensorflow(wearable: Path, cache: Path) -> None:
    """Inputs and outputs stand in the file: nothing is run, kept or told."""
    told: list[str] = []
    ports = read_ports(wearable / "models" / "v1.keras", told.append)
    assert [(port.name, port.shape) for port in ports.inputs] == [("window", (None, 128, 6))]
    assert [(port.name, port.shape) for port in ports.outputs] == [("probabilities", (None, 7))]
    assert not cache.exists()
    assert told == []


def test_keras_is_asked_once_where_the_file_does_not_tell(wearable: Path, cache: Path, tmp_path: Path) -> None:
    """A class of somebody's own is not guessed at: a child answers, which is told beforehand, and not again."""
    model, plain, told = tmp_path / "own.keras", wearable / "models" / "v1.keras", list[str]()
    with zipfile.ZipFile(plain) as source, zipfile.ZipFile(model, "w") as made:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                content = json.dumps({**json.loads(content), "registered_name": "mine>Own"}).encode()
            made.writestr(name, content)
    first = read_ports(model, told.append)
    assert first == read_ports(plain)
    assert told == ["reading own.keras: TensorFlow takes some seconds to load; the answer is kept"]
    assert read_ports(model, told.append) == first
    assert len(told) == 1
    assert cache.is_dir()
    assert "tensorflow" not in sys.modules


def test_a_pytorch_program_is_read_without_pytorch(tmp_path: Path) -> None:
    """Inputs and outputs stand in the program's JSON; an open size is one; parameters are no inputs."""
    sizes = [{"as_expr": {"expr_str": "s0"}}, {"as_int": 3}, {"as_int": 8}, {"as_int": 8}]
    values = {
        "w": {"dtype": 7, "sizes": [{"as_int": 3}]},
        "x": {"dtype": 7, "sizes": sizes},
        "y": {"dtype": 7, "sizes": [{"as_expr": {"expr_str": "s0"}}, {"as_int": 5}]},
    }
    signature = {
        "input_specs": [
            {"parameter": {"arg": {"name": "w"}, "parameter_name": "w"}},
            {"user_input": {"arg": {"as_tensor": {"name": "x"}}}},
        ],
        "output_specs": [{"user_output": {"arg": {"as_tensor": {"name": "y"}}}}],
    }
    path = tmp_path / "model.pt2"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/archive_format", "pt2")
        module = {"graph": {"tensor_values": values}, "signature": signature}
        archive.writestr("m/models/model.json", json.dumps({"graph_module": module}))
    ports = read_ports(path)
    assert [(port.name, port.shape) for port in ports.inputs] == [("x", (None, 3, 8, 8))]
    assert [(port.name, port.shape) for port in ports.outputs] == [("y", (None, 5))]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/archive_format", "pt2")
        archive.writestr("m/models/model.json", "{}")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_ports(path)


def test_data_gives_range_and_labels(wearable: Path, tmp_path: Path) -> None:
    """The smallest and largest value of all rows with some room, and the classes that the file names."""
    values = np.zeros((70, 128, 6), np.float32)
    values[66, 3, 2] = 9.5
    values[69, 0, 0] = -4.25
    labels = np.array(list("abcdefg"))
    np.savez(tmp_path / "data.npz", window=values, y=np.arange(70) % 7, labels=labels)
    contract = load_contract_toml(draft_contract(wearable / "models" / "v1.tflite", data=[tmp_path / "data.npz"]).text)
    assert contract.inputs[0].range == (-5.0, 10.2)  # a twentieth wider, rounded
    assert contract.labels == tuple("abcdefg")


def test_several_sets_give_the_range_of_all(wearable: Path, tmp_path: Path) -> None:
    """What calibrates may be calmer than what judges: a range of one set alone would refuse the other."""
    for name, value in (("calm", 2.0), ("wild", -9.0)):
        np.savez(tmp_path / f"{name}.npz", x=np.full((60, 128, 6), value, np.float32))
    sets = [word for name in ("calm", "wild") for word in ("--data", tmp_path / f"{name}.npz")]
    drafted = edge("contract", "draft", wearable / "models" / "v1.tflite", *sets).stdout
    assert load_contract_toml(drafted).inputs[0].range == (-9.0, 2.0)
    assert "seen in 120 samples of calm.npz and wild.npz" in drafted


def test_exchanged_arguments_are_told(wearable: Path) -> None:
    """The model in the contract's place is no damaged contract; the cure is the command as it was meant."""
    model, contract = wearable / "models" / "v1.onnx", wearable / "contract.toml"
    with pytest.raises(ConfigError, match="was given as the contract") as caught:
        check_contract(model, contract)
    assert caught.value.code == "argument-invalid"
    assert caught.value.hint == f"Exchange them: edge contract check {contract} {model}"


@pytest.mark.parametrize("kind", ["npz", "csv"])
def test_labels_by_name_are_drafted(wearable: Path, tmp_path: Path, kind: str) -> None:
    """A table or array whose labels are names gives the classes, sorted, and is read as it stands."""
    values, names = np.zeros((70, 128, 6), np.float32), np.array(list("gfedcba"))[np.arange(70) % 7]
    values[3] = 1
    np.savez(tmp_path / "data.npz", window=values, y=names)
    rows = [",".join([name, *map(str, row.reshape(-1))]) for name, row in zip(names, values, strict=True)]
    columns = ",".join(["label", *(f"c{place}" for place in range(128 * 6))])
    (tmp_path / "data.csv").write_text("\n".join([columns, *rows]) + "\n")
    text = draft_contract(wearable / "models" / "v1.tflite", data=[tmp_path / f"data.{kind}"]).text
    contract = load_contract_toml(text)
    assert contract.labels == tuple("abcdefg")
    assert contract.inputs[0].range == (0, 1)


def test_data_with_nan_is_refused_wherever_it_is(wearable: Path, tmp_path: Path) -> None:
    """One value of one row among many batches is enough: a range without it would be none."""
    values = np.zeros((200, 128, 6), np.float32)
    values[100, 3, 2] = np.nan
    np.savez(tmp_path / "data.npz", window=values)
    with pytest.raises(ConfigError, match="NaN") as caught:
        draft_contract(wearable / "models" / "v1.tflite", data=[tmp_path / "data.npz"])
    assert caught.value.code == "data-invalid"


def test_data_of_another_shape_is_refused(wearable: Path, tmp_path: Path) -> None:
    """A draft from the wrong data is none."""
    np.savez(tmp_path / "data.npz", window=np.zeros((70, 64, 6), np.float32))
    with pytest.raises(ConfigError) as caught:
        draft_contract(wearable / "models" / "v1.tflite", data=[tmp_path / "data.npz"])
    assert caught.value.code == "data-invalid"


def test_the_commands_as_a_user_runs_them(wearable: Path, tmp_path: Path) -> None:
    """Draft to a file, no silent replacement, check with notes, a mismatch with exit 2, JSON for scripts."""
    model, out = wearable / "models" / "v1.tflite", tmp_path / "contract.toml"
    assert "lines to check" in edge("contract", "draft", model, "-o", out).stdout
    again = edge("contract", "draft", model, "-o", out)
    assert (again.returncode, "[file-exists]" in again.stderr) == (2, True)
    checked = edge("contract", "check", out, model)
    assert checked.returncode == 0
    assert "still marked CHECK" in checked.stdout
    assert "no input is normalised" in checked.stdout
    good = json.loads(edge("contract", "check", wearable / "contract.toml", model, "--json").stdout)
    assert (good["fits"], good["notes"]) == (True, [])
    out.write_text(out.read_text().replace("[1, 128, 6]", "[1, 128, 7]"))
    wrong = edge("contract", "check", out, model)
    assert (wrong.returncode, "[contract-mismatch]" in wrong.stderr) == (2, True)
    assert "version (line" not in checked.stdout
    assert "labels (line 4)" in checked.stdout
    unknown = edge("contract", "draft", model, "--task", "poetry")
    assert (unknown.returncode, "got 'poetry'" in unknown.stderr) == (2, True)


def test_a_quantized_onnx_is_told_too(wearable: Path, tmp_path: Path) -> None:
    """By its operators: integers and the conversions between them."""
    model = onnx.load(wearable / "models" / "v1.onnx")
    assert draft_contract(wearable / "models" / "v1.onnx").notes == []
    first = model.graph.node[0]
    for op, names in (("QuantizeLinear", [first.input[0], "int8"]), ("DequantizeLinear", ["int8", "back"])):
        model.graph.node.insert(0, onnx.helper.make_node(op, [names[0], "scale"], [names[1]]))
    onnx.save(model, tmp_path / "qdq.onnx")
    [note] = draft_contract(tmp_path / "qdq.onnx").notes
    assert note.startswith("qdq.onnx is quantized already")


def test_a_checked_contract_is_what_converting_reads(wearable: Path) -> None:
    """The example's own contract fits its exports."""
    for suffix in ("tflite", "onnx"):
        found = check_contract(wearable / "contract.toml", wearable / "models" / f"v1.{suffix}")
        assert [each["contract"] for each in found["tensors"]] == ["window", "probabilities"]


def test_a_quantized_model_is_drafted_with_a_warning(quantized: Path) -> None:
    """`edge convert` refuses it later: said beside the draft, never in it, and by the check."""
    drafted = edge("contract", "draft", quantized)
    assert drafted.stderr.startswith("note: int8.tflite is quantized already; `edge convert` takes the float model")
    load_contract_toml(drafted.stdout)
    assert "quantized already" in json.loads(edge("contract", "draft", quantized, "--json").stdout)["notes"][0]
    (quantized.parent / "contract.toml").write_text(drafted.stdout)
    notes = check_contract(quantized.parent / "contract.toml", quantized)["notes"]
    assert any("quantized already" in note for note in notes)
