"""ONNX files of every kind are made to fit the contract and the targets, and compute what they computed."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgesdk.errors import ConfigError, TargetError


@pytest.fixture
def saved(tmp_path):
    """Save a model; return its path."""

    def save(model, name="model.onnx", **how):
        path = tmp_path / name
        onnx.save(model, path, **how)
        return path

    return save


def answers(path) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(1).normal(size=(1, 3, 10, 12)).astype(np.float32)
    return session.run(["scores", "features"], {"x": x})


def same(first, second) -> None:
    for left, right in zip(answers(first), answers(second), strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "case",
    [(17, {}, 17), (17, {"max_opset": 13}, 13), (11, {"min_opset": 13}, 13), (17, {"min_opset": 21}, 21), (7, {}, 7)],
)
def test_the_operator_set_is_converted_only_where_it_must_be(graph, saved, act, case):
    """Down to what targets read, up to what a recipe needs, else left as it is; the answers stay the same."""
    opset, limits, wanted = case
    source = saved(graph(opset=opset))
    out, said = act("onnx:pin", source, **limits)
    assert said["opset"] == wanted
    same(source, out / "model.onnx")


def test_the_newest_operator_set_and_ir_come_down_to_what_old_runtimes_read(graph, saved, act):
    """What onnx writes by default becomes opset 21 and IR 10."""
    newest = graph(opset=onnx.defs.onnx_opset_version(), ir=onnx.IR_VERSION)
    out, said = act("onnx:pin", saved(newest))
    assert (said["opset"], said["ir"]) == (21, 10)
    same(saved(newest, "again.onnx"), out / "model.onnx")


def test_nodes_without_a_name_are_called_by_what_they_write(graph, saved, act):
    """What a recipe leaves in float is told to tools by names: an empty one would mean every such node."""
    model = graph()
    for node in model.graph.node[:3]:
        node.name = ""
    out, _ = act("onnx:pin", saved(model))
    names = [node.name for node in onnx.load(out / "model.onnx").graph.node]
    assert names == ["c", "features", "g", "flatten", "dense"]


def test_an_operator_that_old_sets_do_not_have_is_refused(saved, act, contract):
    """Gelu came with opset 20: for a target of opset 17 there is no conversion, and the error says so."""
    node = helper.make_node("Gelu", ["x"], ["features"], name="gelu")
    shape = [1, 3, 10, 12]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "features")]
    model = helper.make_model(
        helper.make_graph([node], "g", ends[:1], ends[1:]), opset_imports=[helper.make_opsetid("", 20)], ir_version=9
    )
    alone = {**contract, "outputs": [{"name": "features", "shape": shape}]}
    with pytest.raises(TargetError, match="uses opset 20, expected at most 17") as caught:
        act("onnx:pin", saved(model), max_opset=17, contract=alone)
    assert caught.value.code == "opset-ceiling"


def test_weights_in_constant_nodes_become_initializers(graph, saved, act):
    """Quantizers look for weights among the initializers, and find them there."""
    source = saved(graph(constants=True))
    out, _ = act("onnx:pin", source)
    made = onnx.load(out / "model.onnx").graph
    assert not [node for node in made.node if node.op_type == "Constant"]
    assert {entry.name for entry in made.initializer} == {"w", "b", "w2", "b2"}
    same(source, out / "model.onnx")


def test_weights_outside_the_file_are_brought_in(graph, saved, act):
    """What comes out is one file."""
    source = saved(graph(), save_as_external_data=True, location="weights.bin", size_threshold=0)
    out, _ = act("onnx:pin", source)
    assert [path.name for path in out.iterdir()] == ["model.onnx"]
    same(source, out / "model.onnx")


def test_sizes_that_the_contract_fixes_are_fixed(graph, saved, act):
    """An open batch, height and width get the contract's sizes, in the outputs too."""
    out, _ = act("onnx:pin", saved(graph(sizes=("N", 3, "H", "W"))))
    made = onnx.load(out / "model.onnx").graph
    shapes = {
        entry.name: [size.dim_value for size in entry.type.tensor_type.shape.dim]
        for entry in [*made.input, *made.output]
    }
    assert shapes == {"x": [1, 3, 10, 12], "scores": [1, 5], "features": [1, 8, 10, 12]}


def test_a_size_that_contradicts_the_contract_is_refused(graph, saved, act):
    """The error names the input and both shapes."""
    with pytest.raises(ConfigError, match=r"'x': the contract expects shape \(1, 3, 10, 12\)") as caught:
        act("onnx:pin", saved(graph(sizes=("N", 4, 10, 12))))
    assert caught.value.code == "contract-mismatch"


def test_unused_operator_sets_are_not_asked_for(graph, saved, act):
    """Tools leave imports of domains that no node uses; an old runtime would refuse the file for them."""
    model = graph()
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 99))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    out, _ = act("onnx:pin", saved(model))
    assert [item.domain for item in onnx.load(out / "model.onnx").opset_import] == [""]


def test_a_damaged_file_is_one_error(saved, act, graph):
    """Half a file is no valid ONNX file."""
    path = saved(graph())
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ConfigError) as caught:
        act("onnx:pin", path)
    assert caught.value.code == "model-format"


def test_a_file_that_is_quantized_already_is_refused(graph, saved, act, tmp_path):
    """Quantizing it again fails within onnxruntime, or rounds what was rounded; the float model is asked for."""
    model = graph()
    nodes = (("QuantizeLinear", ["x", "scale"], ["q"]), ("DequantizeLinear", ["q", "scale"], ["rounded"]))
    for node in model.graph.node:
        node.input[:] = ["rounded" if name == "x" else name for name in node.input]
    for place, (kind, inputs, outputs) in enumerate(nodes):
        model.graph.node.insert(place, helper.make_node(kind, inputs, outputs, name=kind.lower()))
    model.graph.initializer.append(numpy_helper.from_array(np.array(0.1, np.float32), "scale"))
    with pytest.raises(ConfigError, match="quantized already: quantizelinear, dequantizelinear") as caught:
        act("onnx:pin", saved(model))
    assert caught.value.code == "model-format"


def test_a_recipe_that_needs_more_than_the_targets_read_is_refused(graph, saved, act):
    """16-bit activations need opset 21; for targets of opset 17 the conflict is said before any work."""
    with pytest.raises(TargetError, match="uses opset 21, expected at most 17"):
        act("onnx:pin", saved(graph()), min_opset=21, max_opset=17)


@pytest.mark.parametrize("flat", [True, False])
def test_an_if_whose_branch_is_known_is_folded_for_compilers(saved, act, contract, flat):
    """Compilers for accelerators take no If: where sizes or constants decide it, the branch alone is left."""
    shape = [1, 3, 10, 12]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "features")]
    made = helper.make_tensor_value_info("made", TensorProto.FLOAT, shape)
    branches = {
        name: helper.make_graph([helper.make_node(op, ["x"], ["made"])], name, [], [made])
        for name, op in (("then_branch", "Relu"), ("else_branch", "Neg"))
    }
    truth = helper.make_tensor("truth", TensorProto.BOOL, [], [True])
    node = helper.make_node("If", ["truth"], ["features"], name="choice", **branches)
    outer = helper.make_graph([node], "g", ends[:1], ends[1:], [truth])
    model = helper.make_model(outer, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    alone = {**contract, "outputs": [{"name": "features", "shape": shape}]}
    out, _ = act("onnx:pin", saved(model), flat=flat, contract=alone)
    found = onnx.load(out / "model.onnx")
    assert [node.op_type for node in found.graph.node] == (["Relu"] if flat else ["If"])
    assert [item.domain for item in found.opset_import] == [""]
