"""Other tools, with their defaults, given the same float model and the same calibration data as `edge convert`.

- **onnxruntime**: `quant_pre_process`, then `quantize_static`, no option named.
- **litert-quantizer**: the recipes `static_wi8_ai8` (calibrated; what compares with int8) and `dynamic_wi8_afp32` (what
  its documentation recommends for CPUs), no option named.
- **Olive**: the pass `OnnxStaticQuantization`, no option but its data; in an environment of its own.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from edgesdk_converters.isolation import Call, Task, run_child

from edgesdk.errors import ReleaseError

TIMEOUT_S = 600.0


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


def onnxruntime_defaults(call: Call) -> dict[str, Any]:
    """Child action: what onnxruntime's documentation says, in its order."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static  # noqa: PLC0415 - only in the child
    from onnxruntime.quantization.preprocess import quant_pre_process  # noqa: PLC0415

    class Rows(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            with np.load(call.inputs["feeds"]) as arrays:
                held = {name: arrays[name] for name in arrays.files}
            count = len(next(iter(held.values())))
            self._rows = iter([{name: values[i] for name, values in held.items()} for i in range(count)])

        def get_next(self) -> dict[str, Any] | None:
            return next(self._rows, None)

    prepared = call.out / "prepared.onnx"
    quant_pre_process(str(call.inputs["model"]), str(prepared))
    quantize_static(str(prepared), str(call.out / "model.onnx"), Rows())
    prepared.unlink()
    return {}


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


def _olive(model: Path, feeds: Path, out: Path) -> Path:
    """Run Olive in the environment that ``OLIVE_PYTHON`` names.

    Raises:
        ReleaseError: It failed; with its last words.
    """
    out.mkdir(parents=True, exist_ok=True)
    command = [os.environ["OLIVE_PYTHON"], str(Path(__file__).with_name("olive_child.py"))]
    command += [str(model), str(feeds), str(out)]
    environment = {**os.environ, "OLIVE_DISABLE_TELEMETRY": "1"}
    try:
        done = subprocess.run(
            command, cwd=out, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise ReleaseError("conversion-timeout", f"Olive took longer than {TIMEOUT_S:g} s") from None
    (out / "log.txt").write_text(done.stdout + done.stderr)
    if done.returncode or not (out / "model.onnx").exists():
        last = " | ".join((done.stdout + done.stderr).strip().splitlines()[-3:])
        raise ReleaseError("conversion-failed", f"Olive exited with status {done.returncode}; its last words: {last}")
    return out / "model.onnx"


PEERS = (
    Peer(name="ort", title="onnxruntime", suffix="onnx", quantize=_by_child("onnxruntime_defaults", "onnx")),
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
    Peer(name="olive", title="Olive", suffix="onnx", quantize=_olive),
)


def available() -> list[Peer]:
    """Return the peers that can run here."""
    return [peer for peer in PEERS if peer.name != "olive" or os.environ.get("OLIVE_PYTHON")]
