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
from rknn_rules import Heard, build_without

sys.stderr = HEARD = Heard(sys.stderr)  # before the toolkit takes hold of it
from rknn.api import RKNN  # noqa: E402

ALGORITHMS = {"minmax": "normal", "mse": "mmse"}


def main() -> None:
    """Do what is asked."""
    mode, request, answer = sys.argv[1:]
    asked = json.loads(Path(request).read_text())
    pipes = frames.pipes()
    toolkit, left_out = build_without(lambda rules: build(asked, rules), HEARD)
    if mode == "compile":
        check(toolkit.export_rknn(asked["compiled"]), "export_rknn")
        Path(answer).write_text(json.dumps({"title": title(left_out), "options": options(asked, left_out)}))
        return
    check(toolkit.init_runtime(), "init_runtime")
    Path(answer).write_text(json.dumps({"title": f"{title(left_out)} (simulator)"}))
    calls, answers = pipes
    frames.write(answers, {})
    while (inputs := frames.read(calls)) is not None:
        arrays = [inputs[str(place)] for place in asked["used"]]
        # The simulator takes pictures as the contract's tensor says, not as its default NHWC.
        outputs = toolkit.inference(inputs=arrays, data_format=["nchw"] * len(arrays))
        frames.write(answers, {str(place): array for place, array in enumerate(outputs)})


def build(asked: dict[str, Any], left_out: list[str]) -> Any:
    """Load, quantize and build; the toolkit answers 0, or says something and answers another number."""
    toolkit = RKNN(verbose=True)
    quantizes = asked["dataset"] is not None
    settings = {"quantized_algorithm": ALGORITHMS[asked["ranges"]], "quantized_dtype": "w8a8"} if quantizes else {}
    check(toolkit.config(**options(asked, left_out), **settings), "config")
    check(toolkit.load_onnx(model=asked["model"]), "load_onnx")
    check(toolkit.build(do_quantization=quantizes, dataset=asked["dataset"]), "build")
    return toolkit


def options(asked: dict[str, Any], left_out: list[str]) -> dict[str, Any]:
    """Return the profile's options for `RKNN.config`, and the rules that are left out besides its own."""
    rules = [*asked["options"].get("disable_rules", ()), *left_out]
    return {**asked["options"], **({"disable_rules": rules} if rules else {})}


def title(left_out: list[str]) -> str:
    """Return who speaks."""
    without = f" without its rule{'s'[: len(left_out) > 1]} {', '.join(left_out)}" if left_out else ""
    return f"rknn-toolkit2 {version('rknn-toolkit2')}{without}"


def check(status: Any, what: str) -> None:
    """End with a failure where the toolkit only returns one."""
    if status != 0:
        sys.exit(f"{what} answered {status}")


if __name__ == "__main__":
    main()
