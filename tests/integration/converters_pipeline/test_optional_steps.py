"""Steps whose results are good to know: what they look at may crash its runtime, and the conversion goes on."""

from __future__ import annotations

import pytest
from edgesdk_converters.running.cache import StepCache
from edgesdk_converters.running.steps import Runner, Silent, Step

from edgesdk.errors import ReleaseError

ACTIONS = """
import os

def crash(call):
    os.abort()

def fine(call):
    return {"answer": 42}
"""


@pytest.fixture
def runner(tmp_path, monkeypatch):
    """A runner whose children find the actions above."""
    (tmp_path / "some_actions.py").write_text(ACTIONS)
    monkeypatch.syspath_prepend(tmp_path)
    return Runner(StepCache(tmp_path / "cache"), timeout_s=60)


def test_a_crash_of_an_optional_step_is_noted_and_tried_again_next_time(runner):
    """Some interpreters segfault when they are asked for their tensors: that costs the comparison, nothing else."""
    steps = [
        Step(name="look", action="some_actions:crash", inputs={}, optional=True),
        Step(name="go on", action="some_actions:fine", inputs={}),
    ]
    entries = runner.run(steps, Silent())
    assert entries["look"].result["failed"]["code"] == "conversion-failed"
    assert "SIGABRT" in entries["look"].result["failed"]["message"]
    assert entries["go on"].result == {"answer": 42}
    assert runner.cached(steps) == {"go on"}


def test_a_crash_of_any_other_step_ends_the_conversion(runner):
    """What is needed is needed; what several need is not tried again for each of them."""
    step = Step(name="make", action="some_actions:crash", inputs={})
    with pytest.raises(ReleaseError, match="SIGABRT") as first:
        runner.run([step], Silent())
    with pytest.raises(ReleaseError) as again:
        runner.run([step], Silent())
    assert again.value is first.value


def test_how_long_a_step_took_is_expected_of_the_next_one(runner):
    """After a step has run there is an estimate for it; before, there is none."""
    steps = [Step(name="go on", action="some_actions:fine", inputs={})]
    assert runner.expected(steps) == {}
    runner.run(steps, Silent())
    assert runner.expected(steps)["go on"] > 0
