"""Quantized, stateful, staged and open-sized graphs, made in memory and run in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgesdk.bundle.archive import file_entry
from edgesdk.bundle.manifest import BUNDLE_SCHEMA, Manifest, Requirements, Stage
from edgesdk.contract import Binding, Bindings, Contract, StateSpec, TensorSpec
from edgesdk.errors import ContractError, ReleaseError
from edgesdk.runtime import Session, open_session

Graph = tuple[list[Any], dict[str, Any]]
Tensors = Sequence[tuple[str, int, list[Any]]]


def save(folder: Path, name: str, nodes: list[Any], inputs: Tensors, outputs: Tensors, **values: Any) -> None:
    infos = [[helper.make_tensor_value_info(*each) for each in tensors] for tensors in (inputs, outputs)]
    initial = [numpy_helper.from_array(np.asarray(value), key) for key, value in values.items()]
    graph = helper.make_graph(nodes, "tiny", infos[0], infos[1], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    (folder / name).write_bytes(model.SerializeToString())


def bind(tensor: str, name: str, index: int = 0, **facts: Any) -> Binding:
    return Binding(
        **{"tensor": tensor, "artifact_name": name, "index": index, "dtype": "float32", "shape": (1, 2), **facts}
    )


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Session]:
    def opened(contract: Contract, *stages: tuple[str, Bindings]) -> Session:
        manifest = Manifest(
            schema=BUNDLE_SCHEMA,
            model="tiny",
            release="1.0.0",
            variant="host",
            target="t",
            contract=contract,
            requirements=Requirements(runtimes=(), architectures=()),
            stages=tuple(
                Stage(name=f"s{number}", artifact=name, runtime="onnxruntime", bindings=bindings)
                for number, (name, bindings) in enumerate(stages)
            ),
            files=tuple(file_entry(name, tmp_path / name, "application/onnx", "artifact") for name, _ in stages),
        )
        return open_session(tmp_path, manifest)

    return opened


def contract(inputs: dict[str, Any], outputs: dict[str, Any], **facts: Any) -> Contract:
    return Contract(
        version="1.0",
        task="regression",
        inputs=tuple(TensorSpec(name=name, shape=shape) for name, shape in inputs.items()),
        outputs=tuple(TensorSpec(name=name, shape=shape) for name, shape in outputs.items()),
        **facts,
    )


def test_int8_inputs_and_outputs_are_real_numbers_to_the_app(tmp_path: Path, load: Callable[..., Session]) -> None:
    """The app passes and receives float32; the artifact sees int8 by the bindings' scale and zero point."""
    negate = [
        helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["x"]),
        helper.make_node("Neg", ["x"], ["y"]),
        helper.make_node("QuantizeLinear", ["y", "s", "z"], ["yq"]),
    ]
    quantized = {"s": np.float32(0.5), "z": np.int8(3)}
    save(
        tmp_path, "q.onnx", negate, [("xq", TensorProto.INT8, [1, 2])], [("yq", TensorProto.INT8, [1, 2])], **quantized
    )
    facts: dict[str, Any] = {"dtype": "int8", "scale": 0.5, "zero_point": 3}
    bindings = Bindings(inputs=(bind("x", "xq", **facts),), outputs=(bind("y", "yq", **facts),))
    with load(contract({"x": (1, 2)}, {"y": (1, 2)}), ("q.onnx", bindings)) as session:
        found = session.run({"x": [[1.4, -1000.0]]})["y"]
    assert found.dtype == np.float32
    assert found.tolist() == [[-1.5, 62.0]]  # rounded to a step of 0.5; -1000 saturates at -65.5, its negative at 62


def test_a_state_is_reset_when_left_out_and_goes_on_when_passed(tmp_path: Path, load: Callable[..., Session]) -> None:
    """The session keeps nothing between calls: an app that passes the state on gets the sum, another starts at zero."""
    add = [helper.make_node("Add", ["x", "h"], ["sum"]), helper.make_node("Identity", ["sum"], ["y"])]
    tensors = [("x", TensorProto.FLOAT, [1, 2]), ("h", TensorProto.FLOAT, [1, 2])]
    save(tmp_path, "sum.onnx", add, tensors, [("y", TensorProto.FLOAT, [1, 2]), ("sum", TensorProto.FLOAT, [1, 2])])
    bindings = Bindings(inputs=(bind("x", "x"), bind("h", "h", 1)), outputs=(bind("y", "y"), bind("h_next", "sum", 1)))
    shape = (1, 2)
    promised = contract(
        {"x": shape, "h": shape}, {"y": shape, "h_next": shape}, states=(StateSpec(input="h", output="h_next"),)
    )
    with load(promised, ("sum.onnx", bindings)) as session:
        first = session.run({"x": [[1, 2]]})
        second = session.run({"x": [[1, 2]], "h": first["h_next"]})
        again = session.run({"x": [[1, 2]]})
    assert [each["y"].tolist() for each in (first, second, again)] == [[[1, 2]], [[2, 4]], [[1, 2]]]


def test_stages_hand_on_what_they_compute(tmp_path: Path, load: Callable[..., Session]) -> None:
    """The second stage takes the first one's output by name; the app sees the contract's outputs only."""
    one = [("a", TensorProto.FLOAT, [1, 2])], [("b", TensorProto.FLOAT, [1, 2])]
    save(tmp_path, "double.onnx", [helper.make_node("Add", ["a", "a"], ["b"])], *one)
    save(tmp_path, "negate.onnx", [helper.make_node("Neg", ["a"], ["b"])], *one)
    first = Bindings(inputs=(bind("x", "a"),), outputs=(bind("between", "b"),))
    second = Bindings(inputs=(bind("between", "a"),), outputs=(bind("y", "b"),))
    promised = contract({"x": (1, 2)}, {"y": (1, 2)})
    with load(promised, ("double.onnx", first), ("negate.onnx", second)) as session:
        outputs = session.run({"x": [[1, 2]]})
    assert {name: array.tolist() for name, array in outputs.items()} == {"y": [[-2, -4]]}


def test_open_sizes_are_the_calls(tmp_path: Path, load: Callable[..., Session]) -> None:
    """A symbolic batch takes any size, the same for every input of a call."""
    tensors = [(name, TensorProto.FLOAT, ["N", 2]) for name in ("a", "b")]
    save(
        tmp_path,
        "add.onnx",
        [helper.make_node("Add", ["a", "b"], ["c"])],
        tensors,
        [("c", TensorProto.FLOAT, ["N", 2])],
    )
    shape = ("batch", 2)
    bindings = Bindings(
        inputs=(bind("a", "a", shape=shape), bind("b", "b", 1, shape=shape)), outputs=(bind("c", "c", shape=shape),)
    )
    with load(contract({"a": shape, "b": shape}, {"c": shape}), ("add.onnx", bindings)) as session:
        for size in (1, 5, 3):
            assert session.run({"a": np.ones((size, 2)), "b": np.ones((size, 2))})["c"].tolist() == [[2, 2]] * size
        with pytest.raises(ContractError, match=r"'b': expected shape \[batch=2, 2\], got \[3, 2\]"):
            session.run({"a": np.ones((2, 2)), "b": np.ones((3, 2))})


def test_a_graph_that_fails_while_running(tmp_path: Path, load: Callable[..., Session]) -> None:
    """An error inside the runtime arrives as one of ours, with the runtime's version."""
    cast = helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT64)
    nodes = [cast, helper.make_node("Gather", ["table", "i"], ["y"])]
    tensors = [("x", TensorProto.FLOAT, [1, 2])], [("y", TensorProto.FLOAT, [1, 2])]
    save(tmp_path, "g.onnx", nodes, *tensors, table=np.float32([5, 6]))
    bindings = Bindings(inputs=(bind("x", "x"),), outputs=(bind("y", "y"),))
    with load(contract({"x": (1, 2)}, {"y": (1, 2)}), ("g.onnx", bindings)) as session:
        assert session.run({"x": [[0, 1]]})["y"].tolist() == [[5, 6]]
        with pytest.raises(ReleaseError, match=r"onnxruntime [\d.]+ could not run") as caught:
            session.run({"x": [[0, 99]]})
    assert caught.value.code == "inference-failed"
