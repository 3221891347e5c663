"""What rounding weights by calibration data gains over rounding each to the nearest: ``python benchmarks/rounding.py``.

Prints, for each case and kind of int8, the signal-to-noise ratio at the model's first output and the share of samples
whose strongest entry there stays float's, on evaluation data that neither taught nor judged. Without arguments the
wearable example; ``--cases NAME …`` takes those of `benchmarks/convert`, whose models are fetched once.
"""

from __future__ import annotations

import argparse
import os

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as the pipeline's own children have it

import logging
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
from edgesdk_converters import convert, request
from edgesdk_converters.data.npz import feeds, open_data
from edgesdk_converters.passes import fold_onnx, observe, quantize_onnx, round_onnx, weights_onnx
from edgesdk_converters.passes.observe import onnx_dtype
from edgesdk_converters.recipes import RECIPES, OnnxStatic, Recipe
from edgesdk_converters.running.isolation import Call

sys.path.insert(0, str(Path(__file__).resolve().parent))

from convert import zoo

from edgesdk.bundle.archive import open_bundle

SAMPLES = 300
EIGHT = Recipe(name="int8-8-bits", onnx=OnnxStatic(operators="core", reduce_range=False))
KINDS = ((RECIPES["int8"], 64), (EIGHT, 127), (RECIPES["int8-weights"], 127))
"""Recipes, and the largest whole number of their weights."""
OPSET = 13
"""Quantization per channel needs it; older files are brought up."""


def main() -> None:
    """Measure the cases that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", nargs="+", default=["wearable"])
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "edgesdk-benchmark")
    arguments = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    print("| case | int8 | SNR, dB: nearest | calibrated | same strongest: nearest | calibrated | rounding, s |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in arguments.cases:
        folder = zoo.prepare(zoo.cases()[name], arguments.cache.resolve())
        with tempfile.TemporaryDirectory() as scratch:
            _case(name, folder, Path(scratch))


def _case(name: str, folder: Path, scratch: Path) -> None:
    contract = request.read_contract(folder / "contract.toml")
    plain = {"contract": msgspec.to_builtins(contract)}
    calibration = folder / "calibration.npz"
    model = onnx.load(_model(folder, scratch))
    if next(each.version for each in model.opset_import if each.domain in {"", "ai.onnx"}) < OPSET:
        model = onnx.version_converter.convert_version(model, OPSET)
    onnx.save(model, scratch / "model.onnx")
    source = _run(fold_onnx.fold, scratch / "folded", {"source": scratch / "model.onnx"}, plain) / "model.onnx"
    seen = {"source": source, "calibration": calibration}
    values = _run(observe.observe_onnx, scratch / "seen", seen, {**plain, "count": False}) / observe.VALUES
    rows = _rows(folder / "evaluation.npz", contract, source)
    expected = _answers(onnx.load(source), rows)
    for recipe, most in KINDS:
        begun = time.perf_counter()
        params = {**plain, "most": most}
        rounded = _run(round_onnx.round_weights, scratch / recipe.name, seen, params) / "model.onnx"
        seconds = time.perf_counter() - begun
        inputs = {"source": source, "values": values}
        nearest, calibrated = (
            _figures(expected, _answers(_made(recipe, each, scratch), rows))
            for each in (inputs, {**inputs, "rounded": rounded})
        )
        cells = (f"{nearest[0]:.1f}", f"{calibrated[0]:.1f}", f"{nearest[1]:.1%}", f"{calibrated[1]:.1%}")
        print(f"| {name} | {recipe.name} | {' | '.join(cells)} | {seconds:.1f} |", flush=True)


def _model(folder: Path, scratch: Path) -> Path:
    """Return the case's float model as ONNX."""
    if (folder / "model.onnx").exists():
        return folder / "model.onnx"
    [source] = [path for path in zoo.sources(folder) if path.suffix != ".tflite"]
    made = convert(
        source,
        name=folder.name,
        release="1.0.0",
        targets=["linux-x86_64-cpu"],
        recipes=["float"],
        formats=["onnx"],
        contract=folder / "contract.toml",
        calibration=folder / "calibration.npz",
        evaluation=folder / "evaluation.npz",
        gate=False,
        reason="it is the float model itself",
        out=scratch / "float",
    )
    with open_bundle(next(made.folder.glob("*.edge"))) as bundle:
        bundle.extract(scratch / "unpacked")
        return scratch / "unpacked" / bundle.manifest.stages[0].artifact


def _run(action: Any, out: Path, inputs: dict[str, Path], params: dict[str, Any]) -> Path:
    out.mkdir()
    action(Call(inputs=inputs, params=params, out=out, progress=lambda _done, _total: None))
    return out


def _made(recipe: Recipe, inputs: dict[str, Path], scratch: Path) -> onnx.ModelProto:
    model = quantize_onnx.start(inputs, recipe)
    if recipe.calibrates("onnx"):
        ranges = quantize_onnx.ranges_of(recipe, inputs["values"], model)
        return quantize_onnx.quantized(model, recipe, ranges, scratch)
    weights_onnx.store_weights(model, set())
    return model


def _session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads, settings.log_severity_level = 1, 4
    settings.add_session_config_entry("session.x64quantprecision", "1")  # 8 bits without saturation, as on ARM
    return onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])


def _rows(path: Path, contract: Any, source: Path) -> list[dict[str, Any]]:
    data = open_data(path, contract, labelled=False)
    dtypes = {node.name: onnx_dtype(node.type, node.name) for node in _session(onnx.load(source)).get_inputs()}
    wanted = set(np.unique(np.linspace(0, data.count - 1, SAMPLES).astype(np.int64)).tolist())
    return [row for place, row in enumerate(feeds(data, dtypes)) if place in wanted]


def _answers(model: onnx.ModelProto, rows: list[dict[str, Any]]) -> Any:
    session = _session(model)
    return np.stack([session.run(None, row)[0].reshape(-1) for row in rows]).astype(np.float64)


def _figures(expected: Any, found: Any) -> tuple[float, float]:
    noise = np.sum((found - expected) ** 2)
    same = np.mean(found.argmax(axis=1) == expected.argmax(axis=1))
    return float(10 * np.log10(np.sum(expected**2) / noise)), float(same)


if __name__ == "__main__":
    main()
