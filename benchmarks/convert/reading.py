"""PP-OCR's recogniser: what does a line of text say? Its head is cut to the characters of ASCII."""

from __future__ import annotations

import string

import numpy as np
import onnx
from onnx import numpy_helper

from convert.fetch import InWheel, from_wheel
from convert.pictures import HEIGHT, line_of_text
from convert.zoo import Case, Store

RECOGNISER = InWheel(
    requirement="rapidocr==3.10.0",
    member="rapidocr/models/PP-OCRv6_rec_small.onnx",
    sha256="6f327246b50388f3c176ae304bd95767ea6dc0c9ae92153ef8cbe210b3c14884",
)
WIDTH, STEPS = 320, 40
"""Pixels of a line; positions that are read along it."""
ASCII, CHARACTERS = string.punctuation + string.digits + string.ascii_uppercase + string.ascii_lowercase, 18_708
"""The first of the model's characters, and how many there are; blank stands before them and the space behind all."""
KEPT = [*range(len(ASCII) + 1), CHARACTERS + 1]
HEAD = ("linear_8.w_0", "linear_8.b_0")
CALIBRATING, JUDGING = 100, 400


def make(store: Store) -> None:
    """The cut model, and drawn lines of text."""
    onnx.save(cut(onnx.load(from_wheel(RECOGNISER, store.cache))), store.folder / "model.onnx")
    for name, count, seed in (("calibration", CALIBRATING, 3), ("evaluation", JUDGING, 4)):
        random = np.random.default_rng(seed)
        lines = [line_of_text(random, turned=False, most=WIDTH) for _ in range(count)]
        store.data(name, x=np.stack(lines).astype(np.float32))
    picture = {"name": "x", "shape": [1, 3, HEIGHT, WIDTH], "layout": "NCHW", "colour": "BGR", "range": [0, 255]}
    store.contract(
        {
            "version": "1.0",
            "task": "classification",
            "labels": ["blank", *ASCII, "space"],
            "inputs": [{**picture, "normalisation": {"mean": [127.5] * 3, "std": [127.5] * 3}}],
            "outputs": [{"name": "characters", "shape": [1, STEPS, len(KEPT)], "range": [0, 1]}],
        }
    )


def cut(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with the columns of the kept characters in its last layer; an answer is 3 MB otherwise."""
    for tensor in model.graph.initializer:
        if tensor.name in HEAD:
            kept = np.ascontiguousarray(numpy_helper.to_array(tensor)[..., KEPT])
            tensor.CopyFrom(numpy_helper.from_array(kept, tensor.name))
    model.graph.output[0].type.tensor_type.shape.dim[-1].dim_value = len(KEPT)
    del model.graph.value_info[:]
    return model


CASES = (
    Case(
        name="ocr-reading",
        what="PP-OCRv6 small recogniser, its head cut to ASCII (ONNX opset 11, 12 MB, Apache-2.0)",
        data="400 lines of text drawn with six fonts, not labelled",
        figure="strings",
        make=make,
        formats=("onnx",),
        max_drop=0.05,
    ),
)
