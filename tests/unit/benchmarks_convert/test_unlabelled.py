"""Cases without labels: what stays the same of classes and of lines of text, and what their data is made of."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from convert import photographs, pictures, reading
from convert.figures import compare, read
from onnx import TensorProto, helper, numpy_helper
from PIL import Image


def said(*lines: list[int], classes: int = 4) -> np.ndarray:
    """Return scores [N, 1, T, classes] that say these classes, position by position."""
    return np.eye(classes, dtype=np.float32)[np.array(lines)][:, None]


def test_repetitions_are_one_letter_unless_nothing_stands_between():
    """A letter that lasts two positions is one; a blank between two equal letters keeps both."""
    assert read(said([1, 1, 0, 1, 2, 0], [0, 0, 0, 0, 0, 0])) == [(1, 1, 2), ()]


def test_a_line_is_kept_only_to_the_letter():
    """The same string at other positions is the same; one letter less or a NaN is another line."""
    reference = {"c": said([1, 0, 2, 0], [1, 0, 2, 0], [1, 0, 2, 0], [1, 0, 2, 0])}
    found = {"c": said([1, 1, 0, 2], [1, 0, 0, 0], [1, 0, 2, 0], [1, 0, 2, 3])}
    assert compare("strings", reference, found, None).value == 0.5
    found["c"][2, 0, 3, 1] = np.nan
    compared = compare("strings", reference, found, None)
    assert (compared.value, compared.broken_rows) == (0.25, 1)
    assert compared.interval[0] < -0.75 < compared.interval[1] <= 0


def test_top_classes_are_compared_with_floats_and_nan_is_none():
    """Agreement counts the same top class; an answer of NaN agrees with nothing."""
    reference = {"logits": np.eye(4, dtype=np.float32)}
    found = {"logits": np.eye(4, dtype=np.float32)[[0, 1, 3, 0]]}
    found["logits"][0] = np.nan
    compared = compare("classes", reference, found, None)
    assert (compared.value, compared.float_value) == (0.25, 1.0)


def test_the_cut_head_keeps_blank_ascii_and_space():
    """Of the last layer's columns the kept ones stay as they are, in order; other layers are left alone."""
    every = reading.CHARACTERS + 2
    wide = numpy_helper.from_array(np.arange(2 * every, dtype=np.float32).reshape(2, every), reading.HEAD[0])
    bias = numpy_helper.from_array(np.arange(every, dtype=np.float32), reading.HEAD[1])
    other = numpy_helper.from_array(np.ones((2, 3), np.float32), "other")
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, every])
    graph = helper.make_graph([helper.make_node("Identity", [reading.HEAD[1]], ["y"])], "g", [], [y])
    graph.initializer.extend([wide, bias, other])
    made = reading.cut(helper.make_model(graph))
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    assert held[reading.HEAD[1]].tolist() == [*range(95), every - 1]
    assert held[reading.HEAD[0]][1].tolist() == [every + at for at in (*range(95), every - 1)]
    assert held["other"].shape == (2, 3)
    assert isinstance(made, onnx.ModelProto)


@pytest.mark.parametrize("most", [pictures.WIDTH, reading.WIDTH])
def test_a_line_of_text_has_the_width_that_is_asked_for(most):
    """Both cases draw with one function, each in its own width."""
    line = pictures.line_of_text(np.random.default_rng(1), turned=False, most=most)
    assert line.shape == (3, pictures.HEIGHT, most)
    assert line.std() > 0


def test_a_picture_shows_the_cut_out_before_the_photograph(tmp_path):
    """Where the cut-out is opaque it is seen, where it is clear the photograph is."""
    thing = Image.new("RGBA", (120, 120), (255, 0, 0, 255))
    thing.paste((0, 0, 0, 0), (0, 0, 60, 120))
    thing.save(tmp_path / "thing.png")
    behind = Image.new("RGB", (640, 480), (0, 0, 255))
    made = photographs.picture(np.random.default_rng(0), tmp_path / "thing.png", behind)
    red, blue = (np.mean(made[channel] > 200) for channel in (0, 2))
    assert made.shape == (3, photographs.SIDE, photographs.SIDE)
    assert 0.15 < red < 0.51
    assert blue > 0.45
