"""Quantize with Olive's defaults, in Olive's environment: ``olive_child.py MODEL.onnx FEEDS.npz MADE.onnx``."""

import shutil
import sys
from pathlib import Path

import numpy as np
from olive.data.registry import Registry
from olive.workflows import run


@Registry.register_dataset()
def feeds_file(path: str, **_: object) -> list[tuple[dict[str, np.ndarray], int]]:
    """Return the rows of the file, each with a label that nobody reads."""
    with np.load(path) as arrays:
        held = {name: arrays[name] for name in arrays.files}
    count = len(next(iter(held.values())))
    return [({name: values[i] for name, values in held.items()}, 0) for i in range(count)]


@Registry.register_dataloader()
def as_they_are(dataset: list[tuple[dict[str, np.ndarray], int]], **_: object) -> list[object]:
    """Return the rows: each is a batch already."""
    return list(dataset)


def main() -> None:
    """Quantize."""
    model, feeds, target = map(Path, sys.argv[1:])
    out = target.parent
    data = {
        "name": "calibration",
        "type": "DataContainer",
        "load_dataset_config": {"type": "feeds_file", "params": {"path": str(feeds)}},
        "dataloader_config": {"type": "as_they_are"},
        "pre_process_data_config": {"type": "skip_pre_process"},
        "post_process_data_config": {"type": "skip_post_process"},
    }
    run(
        {
            "input_model": {"type": "ONNXModel", "model_path": str(model)},
            "data_configs": [data],
            "passes": {"quantize": {"type": "OnnxStaticQuantization", "data_config": "calibration"}},
            "output_dir": str(out / "olive"),
            "cache_dir": str(out / "cache"),
        }
    )
    [made] = (out / "olive").rglob("*.onnx")
    shutil.copyfile(made, target)


if __name__ == "__main__":
    main()
