"""Cases of pictures: when a line of text is read right, and what their data is made of."""

from __future__ import annotations

import numpy as np
import onnx
from convert import photographs, pictures, reading
from convert.figures import compare
from convert.reading import NOTHING, read
from onnx import TensorProto, helper, numpy_helper
from PIL import Image


def said(*lines: list[int], classes: int = 4) -> np.ndarray:
    """Return scores [N, 1, T, classes] that say these classes, position by position."""
    return np.eye(classes, dtype=np.float32)[np.array(lines)][:, None]


def test_repetitions_are_one_letter_unless_nothing_stands_between():
    """A letter that lasts two positions is one; a blank between two equal letters keeps both."""
    assert read(said([1, 1, 0, 1, 2, 0], [0, 0, 0, 0, 0, 0])) == [(1, 1, 2), ()]


def test_a_line_is_right_only_to_the_letter():
    """The same string at other positions is right; one letter less, one more or a NaN is wrong."""
    truth = np.array([[1, 2, NOTHING, NOTHING]] * 4)
    reference = {"c": said([1, 0, 2, 0], [1, 0, 2, 0], [1, 0, 2, 0], [1, 3, 2, 0])}
    found = {"c": said([1, 1, 0, 2], [1, 0, 0, 0], [1, 0, 2, 0], [1, 0, 2, 0])}
    compared = compare("strings", reference, found, truth)
    assert (compared.value, compared.float_value) == (0.75, 0.75)
    assert compared.interval[0] < 0 < compared.interval[1], "one line lost and one won"
    found["c"][2, 0, 3, 1] = np.nan
    compared = compare("strings", reference, found, truth)
    assert (compared.value, compared.broken_rows) == (0.5, 1)


def test_a_drawn_line_says_what_it_is_labelled_with():
    """The text fits whole, and its numbers are those of the head's columns: blank, ASCII, space."""
    text, line = reading.line(np.random.default_rng(1))
    letters = ["", *reading.ASCII, " "]
    assert line.shape == (3, pictures.HEIGHT, reading.WIDTH)
    assert "".join(letters[number] for number in reading.numbers(text) if number != NOTHING) == text
    assert len(letters) == len(reading.KEPT)


def test_every_cut_out_that_judges_has_a_class_of_imagenet():
    """The table of labels names each cut-out once, with a number that the model can answer."""
    classes = [number for named in photographs.THINGS.values() for number in named.values()]
    assert len(classes) == 81
    assert all(0 <= number < photographs.CLASSES for number in classes)


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
