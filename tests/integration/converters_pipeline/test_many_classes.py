"""A classifier of a thousand classes, the commonest model there is, becomes a release."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from edgesdk_converters import convert

CLASSES, FEATURES, ROWS = 1000, 64, 1200


def test_a_thousand_classes_fit_a_bundle(tmp_path: Path) -> None:
    """Tables of 1,000 by 1,000 would not; manifest and page hold the classes that lost most instead."""
    generator = np.random.default_rng(1)
    weights = generator.normal(size=(FEATURES, CLASSES)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("MatMul", ["x", "weights"], ["scores"], name="dense")],
        "linear",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, FEATURES])],
        [onnx.helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, [1, CLASSES])],
        [onnx.numpy_helper.from_array(weights, "weights")],
    )
    made = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 15)])
    made.ir_version = 8
    onnx.save(made, tmp_path / "m.onnx")
    (tmp_path / "contract.toml").write_text(
        'version = "1.0"\ntask = "classification"\n'
        f"labels = {[f'class {number}' for number in range(CLASSES)]}\n"
        f'[[inputs]]\nname = "x"\nshape = [1, {FEATURES}]\nrange = [-9.0, 9.0]\n'
        f'[[outputs]]\nname = "scores"\nshape = [1, {CLASSES}]\n'
    )
    x = generator.normal(size=(ROWS, FEATURES)).astype(np.float32).clip(-9, 9)
    y = np.argmax(x @ weights, axis=1)
    y[::10] = (y[::10] + 1) % CLASSES  # nobody is always right
    np.savez(tmp_path / "evaluation.npz", x=x, y=y)
    conversion = convert(
        tmp_path / "m.onnx",
        name="many",
        release="1.0.0",
        targets=["linux-x86_64-cpu"],
        recipes=["int8-dynamic"],
        contract=tmp_path / "contract.toml",
        evaluation=tmp_path / "evaluation.npz",
        out=tmp_path / "release",
        cache_dir=tmp_path / "cache",
        max_drop=0.1,
    )
    evaluation = conversion.judged[0].evaluation
    assert evaluation is not None
    details = evaluation.details
    assert details["artifact"]["classes_in_all"] == CLASSES
    assert sum(count for _truth, _answer, count in details["artifact"]["confused"]) > 0
    assert "of 1000" in (tmp_path / "release" / "report.html").read_text()
