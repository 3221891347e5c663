"""A publisher's honest mistake, for the demo: label a data set with what a model itself answers.

    python relabel.py MODEL.onnx IN.npz OUT.npz

A golden set made from a model's own answers finds nothing wrong with that model, however bad it is.
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path

import numpy as np
import onnxruntime


def main() -> None:
    """Write OUT.npz: the windows of IN.npz with the model's answers as labels."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    contract = tomllib.loads((Path(__file__).parent / "contract.toml").read_text())
    normalisation = contract["inputs"][0]["normalisation"]
    mean, std = (np.asarray(normalisation[key], np.float32) for key in ("mean", "std"))
    with np.load(options.source, allow_pickle=False) as data:
        arrays = {name: data[name] for name in data.files}
    session = onnxruntime.InferenceSession(options.model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    windows = (arrays["x"] - mean) / std
    arrays["y"] = np.array([session.run(None, {name: window[None]})[0].argmax() for window in windows], np.int64)
    np.savez(options.out, **arrays)


if __name__ == "__main__":
    main()
