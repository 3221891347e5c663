"""The table of figures after a conversion: what is a share changes by points, and other figures say their direction."""

import io
from types import SimpleNamespace

import pytest
from edgesdk_converters.progress import figures, ladder, summary
from rich.console import Console


def _variant(metric: str, *, share: bool, greater: bool, name: str = "onnx-int8") -> dict:
    evaluation = {
        "metric": metric,
        "value": 0.5,
        "source_value": 0.5026,
        "difference": -0.0026,
        "interval": (-0.003, -0.002),
        "samples": 300,
        "runtime": "onnxruntime 1.20",
        "measured_on": "x86_64",
        "on_target": True,
        "details": {"metric": {"share": share, "greater_is_better": greater}},
    }
    return {"variant": name, "artifact_size": 2000, "evaluation": evaluation}


def _printed(metric: str, *, share: bool, greater: bool, name: str = "onnx-int8", width: int = 200) -> str:
    variant = _variant(metric, share=share, greater=greater, name=name)
    out = io.StringIO()
    Console(file=out, width=width).print(summary(SimpleNamespace(report={"variants": [variant]})))
    return out.getvalue()


def test_a_share_changes_by_points():
    """The change of an accuracy is given in points, and nothing needs saying about it."""
    text = _printed("accuracy", share=True, greater=True)
    assert "-0.26 (-0.30 to -0.20)" in text
    assert "better" not in text
    assert "own unit" not in text


@pytest.mark.parametrize("metric", ["rmse", "mine:mse"])
def test_an_error_keeps_its_unit_and_says_that_less_is_better(metric):
    """An error's change is no points, whoever wrote the metric, and a fall is an improvement."""
    text = _printed(metric, share=False, greater=False)
    assert "-0.0026 (-0.003 to -0.002)" in text
    assert "in its own unit, not points; less is better" in text


@pytest.mark.parametrize("width", [60, 80, 200])
def test_a_long_name_stands_whole_whatever_the_width(width):
    """Of a narrow terminal it gets a line of its own, with the figures below under their headings; it never wraps."""
    name = "linux-x86_64-cpu-onnx-int8-per-channel-fast-7-bit"
    lines = _printed("accuracy", share=True, greater=True, name=name, width=width).splitlines()
    [row] = [place for place, line in enumerate(lines) if name in line]
    figures = lines[row if width == 200 else row + 1]
    assert "-0.26 (-0.30 to -0.20)" in figures
    [head] = [line for line in lines if "change in points" in line]
    assert head.index("change") == figures.index("-0.26")
    assert max(map(len, lines)) <= width


def test_a_rung_stands_beside_the_samples_that_judged_it():
    """Rungs that were ended on a part of the samples are not to be compared with one that was judged on all."""
    rung = {"rung": "asked", "recipe": "int8", "value": 0.8, "source_value": 0.9, "loss": 0.1, "interval": (0.05, 0.15)}
    rung |= {"samples": 340, "unit": 1.0, "greater": True, "size": 3000, "speedup": 1.5, "passed": False, "why": "loss"}
    last = {**rung, "rung": "mse", "recipe": "int8-mse", "value": 0.9, "loss": 0.0, "samples": 2720}
    never = {**dict.fromkeys(rung), "rung": "16-bit", "recipe": "int8-16-bit", "passed": False, "why": "crashed"}
    out = io.StringIO()
    report = {"variants": [], "metric": "accuracy", "pareto": {"v": {"points": [rung, last, never], "front": []}}}
    Console(file=out, width=200).print(ladder(report))
    rows = [line.split() for line in out.getvalue().splitlines()]
    assert ["rung", "judged", "samples", "change"] in [row[:4] for row in rows]
    assert ["asked", "0.8000", "340", "-10.00"] in [row[:4] for row in rows]
    assert ["mse", "0.9000", "2,720", "+0.00"] in [row[:4] for row in rows]
    assert ["16-bit", "crashed"] in rows


def test_a_refusal_tells_of_every_variant_what_became_of_it():
    """Those that are refused, those that pass, and those that came to no figures."""
    report = {
        "refused": {"code": "accuracy-gate", "variants": {"bad": {}, "unmade": {}}},
        "variants": [_variant("accuracy", share=True, greater=True, name=name) for name in ("bad", "good")],
    }
    out = io.StringIO()
    Console(file=out, width=200).print(figures(report))
    rows = [line.split() for line in out.getvalue().splitlines()]
    assert rows[0][:3] == ["variant", "gate", "kB"]
    assert [row[:4] for row in rows[1:3]] == [["bad", "refused", "2.0", "0.5000"], ["good", "passes", "2.0", "0.5000"]]
    assert rows[3] == ["unmade", "refused", "no"]
