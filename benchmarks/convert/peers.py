"""Other tools, with their defaults, given the same float model and the same calibration data as `edge convert`.

- **onnxruntime**: `quant_pre_process`, then `quantize_static`, no option named.
- **litert-quantizer**: the recipes `static_wi8_ai8` (calibrated; what compares with int8) and `dynamic_wi8_afp32` (what
  its documentation recommends for CPUs), no option named.
- **Olive**: the pass `OnnxStaticQuantization`, no option but its data; in an environment of its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from edgesdk_converters.running.environments import Environment, ensure, run_tool
from edgesdk_converters.running.isolation import Call, Task, run_child

TIMEOUT_S = 600.0
ONNXRUNTIME = Environment(
    name="onnxruntime-defaults",
    packages=("onnxruntime==1.32.0", "onnx==1.23.2", "numpy==1.26.4", "sympy==1.14.0"),
)
"""`quant_pre_process` wants sympy, which converting with edgesdk does not."""


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One tool with one set of defaults.

    Attributes:
        title: As in the table.
        suffix: Of the models that it takes and gives, without the dot.
        quantize: ``(float model, feeds, out folder) -> artifact``.
    """

    name: str
    title: str
    suffix: str
    quantize: Callable[[Path, Path, Path], Path]


def _by_child(action: str, suffix: str, **params: Any) -> Callable[[Path, Path, Path], Path]:
    def quantize(model: Path, feeds: Path, out: Path) -> Path:
        out.mkdir(parents=True, exist_ok=True)
        task = Task(action=f"convert.peers:{action}", inputs={"model": model, "feeds": feeds}, params=params)
        run_child(task, out, log=out / "log.txt", timeout_s=TIMEOUT_S)
        return out / f"model.{suffix}"

    return quantize


def litert_defaults(call: Call) -> dict[str, Any]:
    """Child action: calibrate where the recipe asks for it, quantize, and write."""
    from ai_edge_litert.interpreter import Interpreter  # noqa: PLC0415 - only in the child
    from litert_quantizer import quantizer, recipe  # noqa: PLC0415

    model = call.inputs["model"]
    tool = quantizer.Quantizer(str(model), getattr(recipe, call.params["recipe"])())
    calibrated = None
    if tool.need_calibration:
        interpreter = Interpreter(str(model))
        (key, signature), *_ = interpreter.get_signature_list().items()
        runner = interpreter.get_signature_runner(key)
        names = {detail["name"]: argument for argument, detail in runner.get_input_details().items()}
        with np.load(call.inputs["feeds"]) as arrays:
            held = {names[name]: arrays[name] for name in arrays.files}
        assert set(held) == set(signature["inputs"])
        count = len(next(iter(held.values())))
        calibrated = tool.calibrate({key: [{n: values[i] for n, values in held.items()} for i in range(count)]})
    tool.quantize(calibrated).export_model(str(call.out / "model.tflite"))
    return {}


def _by_script(script: str, python: Callable[[], Path]) -> Callable[[Path, Path, Path], Path]:
    def quantize(model: Path, feeds: Path, out: Path) -> Path:
        out.mkdir(parents=True, exist_ok=True)
        made = out / "model.onnx"
        arguments = [str(Path(__file__).with_name(script)), str(model), str(feeds), str(made)]
        quiet = {"OLIVE_DISABLE_TELEMETRY": "1"}
        run_tool(python(), arguments, cwd=out, timeout_s=TIMEOUT_S, environment=quiet, expect=[made])
        return made

    return quantize


def _onnxruntime_python() -> Path:
    return ensure(ONNXRUNTIME)


def _olive_python() -> Path:
    return Path(os.environ["OLIVE_PYTHON"])


PEERS = (
    Peer(
        name="ort", title="onnxruntime", suffix="onnx", quantize=_by_script("onnxruntime_child.py", _onnxruntime_python)
    ),
    Peer(
        name="litert-static",
        title="litert-quantizer, static",
        suffix="tflite",
        quantize=_by_child("litert_defaults", "tflite", recipe="static_wi8_ai8"),
    ),
    Peer(
        name="litert-dynamic",
        title="litert-quantizer, dynamic",
        suffix="tflite",
        quantize=_by_child("litert_defaults", "tflite", recipe="dynamic_wi8_afp32"),
    ),
    Peer(name="olive", title="Olive", suffix="onnx", quantize=_by_script("olive_child.py", _olive_python)),
)


def available() -> list[Peer]:
    """Return the peers that can run here."""
    return [peer for peer in PEERS if peer.name != "olive" or os.environ.get("OLIVE_PYTHON")]
