"""PP-OCR's recogniser: what does a line of text say? Its head is cut to the characters of ASCII."""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from convert.fetch import InWheel, from_wheel
from convert.pictures import EDGE, HEIGHT, drawn, font, words
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
CALIBRATING, JUDGING = 100, 2000
NOTHING = -1
"""Behind the last character of a line."""


def make(store: Store) -> None:
    """The cut model, and drawn lines of text with what they say."""
    onnx.save(cut(onnx.load(from_wheel(RECOGNISER, store.cache))), store.folder / "model.onnx")
    for name, count, seed in (("calibration", CALIBRATING, 3), ("evaluation", JUDGING, 4)):
        random = np.random.default_rng(seed)
        lines = [line(random) for _ in range(count)]
        y = np.stack([numbers(text) for text, _ in lines])
        store.data(name, x=np.stack([picture for _, picture in lines]).astype(np.float32), y=y)
    picture = {"name": "x", "shape": [1, 3, HEIGHT, WIDTH], "layout": "NCHW", "colour": "BGR", "range": [0, 255]}
    store.contract(
        {
            "version": "1.0",
            "task": "other",
            "inputs": [{**picture, "normalisation": {"mean": [127.5] * 3, "std": [127.5] * 3}}],
            "outputs": [{"name": "characters", "shape": [1, STEPS, len(KEPT)], "range": [0, 1]}],
        }
    )


def right(outputs: Mapping[str, NDArray[Any]], labels: NDArray[Any]) -> NDArray[np.bool_]:
    """The metric: is a line read to the letter? Scores ``(N, 1, T, C)``, and int64 [N, T], padded with -1."""
    lines = read(next(iter(outputs.values())))
    return np.array([line == tuple(each[each != NOTHING]) for line, each in zip(lines, labels, strict=True)])


def read(scores: NDArray[Any]) -> list[tuple[int, ...] | None]:
    """Return the characters' numbers that scores ``(N, 1, T, C)`` say, None where one is NaN or infinite.

    Repetitions are one and class 0 is none (Graves et al. 2006, best path decoding).
    """
    lines: list[tuple[int, ...] | None] = []
    for values in scores.reshape(len(scores), -1, scores.shape[-1]):
        best = values.argmax(axis=-1)
        first = np.concatenate([[True], best[1:] != best[:-1]])
        lines.append(tuple(best[first & (best != 0)].tolist()) if np.isfinite(values).all() else None)
    return lines


def line(random: np.random.Generator) -> tuple[str, NDArray[np.uint8]]:
    """Return a text that fits, and its picture."""
    while True:
        chosen, text = font(random), words(random)
        if chosen.getlength(text) + 2 * EDGE <= WIDTH:
            return text, drawn(random, text, chosen, most=WIDTH)


def numbers(text: str) -> NDArray[np.int64]:
    """Return int64 [STEPS]: the number of each character, padded with -1."""
    found = [1 + ASCII.index(letter) if letter != " " else len(KEPT) - 1 for letter in text]
    return np.array([*found, *[NOTHING] * (STEPS - len(found))], np.int64)


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
        data="2,000 lines of text drawn with six fonts, with what they say. Truth came after a run had shown agreement",
        figure="strings",
        make=make,
        formats=("onnx",),
        metric="convert.reading:right",
    ),
)
