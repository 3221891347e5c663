"""Build for a Rockchip NPU, and run in the simulator: ``rknn_tool.py compile|serve REQUEST.json ANSWER.json``.

The simulator runs only what was built in the same process, so serving builds again, the same way.
"""

from __future__ import annotations

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import frames
from rknn.api import RKNN

ALGORITHMS = {"minmax": "normal", "mse": "mmse"}


def main() -> None:
    """Do what is asked."""
    mode, request, answer = sys.argv[1:]
    asked = json.loads(Path(request).read_text())
    pipes = frames.pipes()
    toolkit = build(asked)
    if mode == "compile":
        check(toolkit.export_rknn(asked["compiled"]), "export_rknn")
        Path(answer).write_text(json.dumps({"title": title()}))
        return
    check(toolkit.init_runtime(), "init_runtime")
    Path(answer).write_text(json.dumps({"title": f"{title()} (simulator)"}))
    calls, answers = pipes
    frames.write(answers, {})
    while (inputs := frames.read(calls)) is not None:
        arrays = [inputs[str(place)] for place in asked["used"]]
        # The simulator takes pictures as the contract's tensor says, not as its default NHWC.
        outputs = toolkit.inference(inputs=arrays, data_format=["nchw"] * len(arrays))
        frames.write(answers, {str(place): array for place, array in enumerate(outputs)})


def build(asked: dict[str, Any]) -> Any:
    """Load, quantize and build; the toolkit answers 0, or says something and answers another number."""
    toolkit = RKNN(verbose=True)
    quantizes = asked["dataset"] is not None
    settings = {"quantized_algorithm": ALGORITHMS[asked["ranges"]], "quantized_dtype": "w8a8"} if quantizes else {}
    check(toolkit.config(**asked["options"], **settings), "config")
    check(toolkit.load_onnx(model=asked["model"]), "load_onnx")
    check(toolkit.build(do_quantization=quantizes, dataset=asked["dataset"]), "build")
    return toolkit


def title() -> str:
    """Return who speaks."""
    return f"rknn-toolkit2 {version('rknn-toolkit2')}"


def check(status: Any, what: str) -> None:
    """End with a failure where the toolkit only returns one."""
    if status != 0:
        sys.exit(f"{what} answered {status}")


if __name__ == "__main__":
    main()
