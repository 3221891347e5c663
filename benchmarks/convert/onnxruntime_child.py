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
    try:
        quant_pre_process(str(model), str(prepared))
    except Exception as error:  # noqa: BLE001 - whatever it is, its own way out is to skip the symbols
        target.with_name("note.txt").write_text(f"quant_pre_process failed ({type(error).__name__}); symbols skipped")
        quant_pre_process(str(model), str(prepared), skip_symbolic_shape=True)
    quantize_static(str(prepared), str(target), Rows(feeds))
    prepared.unlink()


if __name__ == "__main__":
    main()
