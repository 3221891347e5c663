"""Traps of the tools: each test shows that the tool still falls into it (or has changed) and our route does not."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from edgesdk_converters import convert
from edgesdk_converters.data.npz import feeds, open_data
from edgesdk_converters.passes.observe import VALUES
from edgesdk_converters.recipes import RECIPES, OnnxStatic, Recipe
from edgesdk_converters.request import read_contract
from edgesdk_converters.running.isolation import Task, run_child

from edgesdk.bundle.archive import open_bundle


@pytest.fixture
def step(words, tmp_path):
    """Run one action in a child; return its folder and answer."""

    def run(action: str, inputs: dict[str, Path], **params):
        out = tmp_path / f"out-{len(list(tmp_path.iterdir()))}"
        out.mkdir()
        task = Task(action=f"edgesdk_converters.passes.{action}", inputs=inputs, params=params)
        return out, run_child(task, out, log=out.with_suffix(".log"), timeout_s=120)

    run.contract = msgspec.to_builtins(read_contract(words["contract"]))
    run.calibration = words["calibration"]
    return run


def in_child(code: str, *arguments: object) -> dict:
    """Run code that prints one JSON line: runtimes that do not share a process stay out of this one."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])


def observed(step, kind, source, calibration):
    inputs = {"source": source, "calibration": calibration or step.calibration}
    out, _ = step(f"observe:observe_{kind}", inputs, contract=step.contract, count=False)
    return {"source": source, "values": out / VALUES}


def quantize_onnx_of(step, source, recipe=RECIPES["int8"], calibration=None):
    params = {"recipe": msgspec.to_builtins(recipe), "max_opset": 21, "max_ir": 10}
    return step("quantize_onnx:quantize", observed(step, "onnx", source, calibration), **params)


def quantize_tflite_of(step, source, calibration=None):
    inputs = observed(step, "tflite", source, calibration)
    return step("quantize_tflite:quantize", inputs, recipe=msgspec.to_builtins(RECIPES["int8"]))


def test_tflite_ranges_are_the_true_ones_in_any_order_of_the_samples(step, models, words, tmp_path):
    """litert-quantizer's default is a moving average: it clips and depends on the order. Ours is exact and does not."""
    with np.load(words["calibration"]) as arrays:
        x = arrays["x"]
    backwards = tmp_path / "backwards.npz"
    np.savez(backwards, x=x[::-1])
    data = open_data(words["calibration"], read_contract(words["contract"]), labelled=False)
    seen = np.concatenate([feed["window"] for feed in feeds(data, {"window": "float32"})])
    first, answer = quantize_tflite_of(step, models[0])
    second, _ = quantize_tflite_of(step, models[0], calibration=backwards)
    assert answer["ranges"]["serving_default_window:0"] == pytest.approx([seen.min(), seen.max()])
    assert (first / "model.tflite").read_bytes() == (second / "model.tflite").read_bytes()

    moving = in_child(
        """
        import json, sys
        import numpy as np
        from litert_quantizer import quantizer, qtyping
        tool = quantizer.Quantizer(sys.argv[1])
        tool.add_static_config(".*", qtyping.TFLOperationName.ALL_SUPPORTED, 8, 8)
        x = np.load(sys.argv[2])
        ranges = tool.calibrate({"serving_default": [{"window": window[None]} for window in x]})
        low, high = (float(np.min(ranges["serving_default_window:0"][side])) for side in ("min", "max"))
        print(json.dumps([low, high]))
        """,
        models[0],
        _saved(tmp_path / "seen.npy", seen),
    )
    assert moving[1] - moving[0] < 0.9 * (seen.max() - seen.min())


def _saved(path: Path, array: np.ndarray) -> Path:
    np.save(path, array)
    return path


def test_the_last_dense_layer_is_quantized_per_tensor(step, models):
    """Per-channel dense weights are what tflite-runtime 2.14 refuses or computes wrongly; ours have one scale."""
    out, _ = quantize_tflite_of(step, models[0])
    scales = in_child(
        """
        import json, sys
        from ai_edge_litert.interpreter import Interpreter
        details = Interpreter(model_path=sys.argv[1]).get_tensor_details()
        counts = {d["name"]: [len(d["quantization_parameters"]["scales"]), len(d["shape"])] for d in details}
        print(json.dumps(counts))
        """,
        out / "model.tflite",
    )
    dense = {name: count for name, (count, rank) in scales.items() if rank == 2 and "dense" in name}
    assert dense
    assert set(dense.values()) == {1}
    assert max(count for count, _ in scales.values()) > 1, "convolutions keep one scale per channel"


def test_every_calibration_sample_counts_for_onnx(step, models, words, tmp_path):
    """Onnxruntime's own way to save memory, CalibMaxIntermediateOutputs, forgets samples; strides do not."""
    with np.load(words["calibration"]) as arrays:
        x = arrays["x"][:90].copy()
    x[0] *= 3  # the widest sample comes first, in the stride that would be forgotten
    wide = tmp_path / "wide.npz"
    np.savez(wide, x=x)
    ours, _ = quantize_onnx_of(step, models[1], calibration=wide)
    data = open_data(wide, read_contract(words["contract"]), labelled=False)
    seen = [feed["window"] for feed in feeds(data, {"window": "float32"})]
    assert _input_scale(ours / "model.onnx") == pytest.approx(np.ptp(np.concatenate(seen)) / 255, rel=1e-3)

    forgetful = in_child(
        """
        import json, sys
        import numpy as np
        from onnxruntime.quantization import QuantType, quantize_static
        class Reader:
            def __init__(self, x): self.samples = iter(x)
            def get_next(self):
                window = next(self.samples, None)
                return None if window is None else {"window": window}
        options = {"CalibMaxIntermediateOutputs": 32}
        quantize_static(sys.argv[1], sys.argv[3], Reader(np.load(sys.argv[2])), extra_options=options)
        print(json.dumps({}))
        """,
        models[1],
        _saved(tmp_path / "seen.npy", np.stack(seen)),
        tmp_path / "forgetful.onnx",
    )
    assert forgetful == {}
    assert _input_scale(tmp_path / "forgetful.onnx") < 0.9 * _input_scale(ours / "model.onnx")


def _input_scale(path: Path) -> float:
    graph = onnx.load(path).graph
    constants = {entry.name: onnx.numpy_helper.to_array(entry) for entry in graph.initializer}
    first = next(node for node in graph.node if node.op_type == "QuantizeLinear" and node.input[0] not in constants)
    return float(constants[first.input[1]])


def test_onnx_files_are_pinned_to_the_ir_that_old_runtimes_read(step, models, words, tmp_path):
    """Onnx writes its newest IR by default, which an older onnxruntime refuses; what we write is below the ceiling."""
    graph = onnx.load(models[1])
    graph.ir_version = onnx.IR_VERSION
    newest = tmp_path / "v1.onnx"
    onnx.save(graph, newest)
    assert onnx.IR_VERSION > 10, "else this test shows nothing"
    out, _ = quantize_onnx_of(step, newest)
    assert onnx.load(out / "model.onnx").ir_version == 10
    made = convert(newest, **{**words, "recipes": ("float",)}, out=tmp_path / "release")
    with open_bundle(next(made.folder.glob("*.edge"))) as bundle:
        assert onnx.load_from_string(bundle.read("model.onnx")).ir_version == 10


def test_seven_bit_weights_are_what_reduce_range_promises(step, models):
    """The recipe int8 holds weights within -64..64, so that two products fit into 16 bits on every x86."""
    for reduce_range, limit in ((True, 64), (False, 127)):
        out, _ = quantize_onnx_of(step, models[1], Recipe(name="one", onnx=OnnxStatic(reduce_range=reduce_range)))
        weights = [
            onnx.numpy_helper.to_array(entry)
            for entry in onnx.load(out / "model.onnx").graph.initializer
            if entry.data_type == onnx.TensorProto.INT8 and len(entry.dims) > 1
        ]
        assert weights
        assert max(int(np.abs(weight.astype(int)).max()) for weight in weights) == limit


def test_float_exports_are_converted_where_tensorflow_cannot_be_imported(models, words, tmp_path, monkeypatch):
    """The demo installs no TensorFlow: with one that fails on import, .tflite and .onnx still become a release."""
    for name in ("tensorflow", "keras"):
        package = tmp_path / "poison" / name
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("raise ImportError('nobody may import this')")
    monkeypatch.syspath_prepend(str(tmp_path / "poison"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "poison"))
    made = convert(*models, **{**words, "cache_dir": tmp_path / "cache"}, out=tmp_path / "release")
    assert len(made.index.variants) == 4


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_keras_model_gives_the_same_answers_in_both_formats(models, words, tmp_path):
    """From the .keras alone, in children with TensorFlow: static batch, pinned opset, equal to the trained model."""
    keras = models[0].with_suffix(".keras")
    both = {**words, "recipes": ("float",), "calibration": None}
    made = convert(keras, **both, out=tmp_path / "from-keras")
    direct = convert(*models, **both, out=tmp_path / "direct")
    for ours, theirs in zip(made.index.variants, direct.index.variants, strict=True):
        assert ours.variant == theirs.variant
        assert ours.evaluation.value == theirs.evaluation.value
        assert ours.evaluation.details["artifact"]["confusion"] == theirs.evaluation.details["artifact"]["confusion"]
    assert made.index.lineage.source_format == "keras"
    assert "tensorflow" not in sys.modules
