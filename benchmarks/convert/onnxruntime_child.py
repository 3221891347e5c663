"""Quantize with onnxruntime's defaults, in its environment: ``onnxruntime_child.py MODEL.onnx FEEDS.npz MADE.onnx``."""

import sys
from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, quantize_static
from onnxruntime.quantization.preprocess import quant_pre_process


class Rows(CalibrationDataReader):
    """The rows of the file, one a call."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as arrays:
            held = {name: arrays[name] for name in arrays.files}
        count = len(next(iter(held.values())))
        self._rows = iter([{name: values[i] for name, values in held.items()} for i in range(count)])

    def get_next(self) -> dict[str, np.ndarray] | None:
        """Return the next row."""
        return next(self._rows, None)


def main() -> None:
    """Quantize as the documentation says, in its order."""
    model, feeds, target = map(Path, sys.argv[1:])
    prepared = target.with_name("prepared.onnx")
    quant_pre_process(str(model), str(prepared))
    quantize_static(str(prepared), str(target), Rows(feeds))
    prepared.unlink()


if __name__ == "__main__":
    main()
