"""What the plan says about how long it takes."""

from edgesdk_converters.progress import estimate
from edgesdk_converters.running.durations import Durations

STEPS = ("export", "quantize", "run")


def test_durations_are_remembered_by_action_and_name(tmp_path):
    """Another process reads what one wrote; the last time counts; what never ran has none."""
    Durations(tmp_path).note("module:quantize", "quantize onnx int8", 3.2)
    Durations(tmp_path).note("module:quantize", "quantize onnx int8", 4.4)
    Durations(tmp_path).note("module:run", "run", 1.0)
    again = Durations(tmp_path)
    assert again.of("module:quantize", "quantize onnx int8") == 4.4
    assert again.of("module:run", "run") == 1.0
    assert again.of("module:run", "another") is None
    assert [path.name for path in tmp_path.iterdir()] == ["durations.json"]


def test_a_damaged_record_costs_an_estimate_and_nothing_else(tmp_path):
    """Garbage, another shape or an unwritable folder never end a conversion."""
    record = tmp_path / "durations.json"
    for garbage in ("{", "[1, 2]", '{"a|b": "long"}', ""):
        record.write_text(garbage)
        assert Durations(tmp_path).of("a", "b") is None
    Durations(tmp_path / "nowhere").note("a", "b", 1.0)


def test_the_estimate_says_what_is_known():
    """All at hand; nothing known; some of it."""
    assert estimate(STEPS, set(STEPS), {}) == "3 steps, 3 of them at hand"
    assert "not known yet" in estimate(STEPS, {"export"}, {})
    known = {"export": 60.0, "quantize": 4.4, "run": 1.3}
    assert estimate(STEPS, {"export"}, known) == "3 steps, 1 of them at hand; about 6 s"
    assert estimate(STEPS, set(), {"run": 2.0}) == "3 steps, 0 of them at hand; about 2 s, and 2 that never ran here"
