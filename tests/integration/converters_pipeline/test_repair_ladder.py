"""The repair ladder on the wearable model: it climbs to what passes, and says what it lost where nothing does."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest
from edgesdk_converters import ALPHA, convert
from edgesdk_converters.pipeline import SilentPlan
from edgesdk_converters.planning.plan import Plan

from edgesdk.errors import ReleaseError

pytestmark = pytest.mark.slow


def test_saturating_weights_are_repaired_by_seven_bits(models, words, tmp_path):
    """8-bit weights that saturate on x86 are refused; the next rung passes, and both are points of the report."""
    asked = {**words, "targets": ["linux-x86_64-cpu"], "recipes": ["int8-per-channel-fast"]}
    with pytest.raises(ReleaseError, match="saturate"):
        convert(models[1], **asked, out=tmp_path / "refused")
    made = convert(models[1], **asked, repair=True, out=tmp_path / "repaired")
    [variant] = made.report["variants"]
    assert variant["recipe"]["onnx"]["reduce_range"]
    [told] = made.report["pareto"].values()
    assert [(point["rung"], point["passed"]) for point in told["points"]] == [
        ("float", True),
        ("asked", False),
        ("7-bit", True),
    ]
    assert told["chosen"] == variant["recipe"]["name"] == "int8-per-channel-fast-7-bit"
    assert set(told["front"]) <= {point["recipe"] for point in told["points"]}
    assert told["points"][1]["alpha"] == ALPHA / 2
    assert told["points"][2]["samples"] == variant["evaluation"]["samples"]
    assert sum(point["alpha"] or 0 for point in told["points"]) < ALPHA
    shown = Shown()
    again = convert(models[1], **asked, repair=True, out=tmp_path / "again", observer=shown)
    assert shown.steps == shown.cached == {step["name"] for step in again.report["steps"]}
    assert {step["name"] for step in made.report["steps"]} == shown.steps
    assert "run onnx int8-per-channel-fast in onnxruntime" in shown.steps, "what was tried and left counts too"


class Shown(SilentPlan):
    """Keeps the plan that was shown."""

    def plan(self, plan: Plan, cached: set[str], expected: Mapping[str, float]) -> None:
        self.steps, self.cached, self.expected = {step.name for step in plan.steps}, cached, expected


def test_a_model_that_passes_as_asked_needs_no_ladder(models, words, released, tmp_path):
    """The first rung is the recipe as asked: the same artifact as without the ladder."""
    made = convert(models[0], **{**words, "targets": ["linux-arm64-cpu"]}, repair=True, out=tmp_path / "release")
    [told] = made.report["pareto"].values()
    assert [point["rung"] for point in told["points"]] == ["float", "asked"]
    [variant] = made.report["variants"]
    before = {each["variant"]: each for each in released.report["variants"]}[variant["variant"]]
    assert variant["artifact_size"] == before["artifact_size"]
    assert variant["evaluation"]["value"] == before["evaluation"]["value"]


def test_a_ladder_without_a_passing_rung_is_refused_with_the_best(models, words, tmp_path):
    """A limit that these few samples can never show: every rung is tried, and the best one's loss is told."""
    asked = {**words, "targets": ["linux-x86_64-cpu"], "max_drop": 0.0}
    with pytest.raises(ReleaseError) as caught:
        convert(models[0], **asked, repair=True, out=tmp_path / "release")
    assert caught.value.code == "repair-exhausted"
    for word in ("asked", "core", "percentile", "mse", "16-bit", "weights", "the best is"):
        assert word in caught.value.message
    assert not (tmp_path / "release").exists()
    left = tmp_path / "release.refused"
    report = json.loads((left / "report.json").read_bytes())
    [told] = report["pareto"].values()
    assert told["chosen"] is None
    assert len(told["points"]) >= 5
    assert not any(point["passed"] for point in told["points"] if point["rung"] != "float")
    assert "<h2>Repair</h2>" in (left / "report.html").read_text()
