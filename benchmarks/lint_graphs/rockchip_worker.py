"""Runs in rknn-toolkit2's environment: builds ONNX files in float16, and writes the toolkit's log of each beside it."""

import os
import sys
from pathlib import Path

from rknn.api import RKNN


def build(source: Path, target: str) -> str:
    toolkit = RKNN(verbose=True)
    try:
        toolkit.config(target_platform=target)
        if toolkit.load_onnx(model=str(source)) != 0:
            return "load_onnx failed"
        return "built" if toolkit.build(do_quantization=False) == 0 else "build failed"
    except BaseException as error:  # noqa: BLE001 - whatever the toolkit raises is its answer
        return f"{type(error).__name__}: {error}"
    finally:
        toolkit.release()


def main() -> None:
    folder, target = Path(sys.argv[1]), sys.argv[2]
    for source in sorted(folder.glob("*.onnx")):
        if source.with_suffix(".said").exists():
            continue
        source.with_suffix(".said").write_text("died")
        log = os.open(source.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        source.with_suffix(".said").write_text(build(source, target))


main()
