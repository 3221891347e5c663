"""The page of a release: complete, self-contained, and safe with whatever names it is given."""

from __future__ import annotations

import copy
import re
from html.parser import HTMLParser

import pytest
from edgesdk_converters.report import render
from edgesdk_converters.report.svg import Scale, cut

LABELS = ("walk", "<b>run</b>")


def _metrics(right: int) -> dict:
    classes = [
        {
            "label": label,
            "support": 100,
            "precision": 0.9,
            "recall": right / 100,
            "recall_interval": [0.7, 1.0],
            "f1": 0.9,
        }
        for label in LABELS
    ]
    return {"n": 200, "classes": classes, "confusion": [[right, 100 - right], [100 - right, right]]}


VERDICT = {
    "outcome": "pass",
    "reason": "accuracy changes by -0.0100 (95 % interval -0.0150 to +0.0040) on 200 samples",
    "metric": "accuracy",
    "loss": 0.01,
    "unit": 1.0,
    "share": True,
    "max_drop": 0.02,
    "alpha": 0.01,
}
LAYERS = {
    "compared": True,
    "samples": 32,
    "start": "net/dense",
    "sentence": "the error starts at layer net/dense (MatMul): the signal-to-noise ratio falls from 40 dB to 5 dB",
    "layers": [
        {"name": name, "op": "MatMul", "added": 0.0, "figures": {"snr_db": ratio, "max_abs": 0.1}}
        for name, ratio in (("net/conv", 40.0), ("net/dense", 5.0), ("net/out", 120.0))
    ],
}
VARIANT = {
    "variant": "linux-arm64-cpu-onnx-int8",
    "target": "linux-arm64-cpu",
    "format": "onnx",
    "recipe": {"name": "int8", "summary": "full int8"},
    "artifact_size": 30_000,
    "source_size": 100_000,
    "runtimes": {"onnxruntime": {"runtime": "onnxruntime 1.32.0"}},
    "evaluation": {
        "metric": "accuracy",
        "value": 0.9,
        "source_value": 0.91,
        "difference": -0.01,
        "interval": [-0.015, 0.004],
        "samples": 200,
        "runtime": "onnxruntime 1.32.0",
        "on_target": False,
        "details": {
            "artifact": _metrics(90),
            "source": _metrics(91),
            "agreement": 0.98,
            "averages": {"f1": {"artifact": 0.9, "source": 0.91}},
            "parity": {"probabilities": {"max_abs": 0.1, "rmse": 0.01, "snr_db": 33.0, "cosine": 0.99}},
            "gate": {"verdicts": {"onnxruntime": VERDICT}},
            "metric": {"greater_is_better": True, "share": True},
        },
    },
    "layers": LAYERS,
    "latency": {
        "timed": True,
        "speedup": 1.7,
        "interval": [1.6, 1.8],
        "source_ms": 0.2,
        "artifact_ms": 0.117,
        "machine": {"architecture": "x86_64", "processor": "Fast & Co"},
        "on_target": False,
    },
    "conversion": {"ranges": {"net/conv": [-1.0, 4.0], "net/dense": [0.0, 1000.0]}},
    "placement": {
        "accelerator": 12,
        "cpu": 1,
        "macs_share": 0.97,
        "fallback": [{"name": "net/odd", "op": "Erf", "why": "not supported"}],
    },
    "saturation": None,
}
REPORT = {
    "model": "gait",
    "release": "1.2.0",
    "built_at": "2026-01-02T03:04:05Z",
    "contract": {"task": "classification"},
    "gate": {"on": True, "max_drop": 0.02, "reason": None},
    "doctor": {"on": True, "reason": None, "diagnosis": {"checks": 16, "findings": []}},
    "sources": [{"file": "gait.onnx", "format": "onnx", "sha256": "a" * 64, "size": 100_000}],
    "data": {"evaluation": {"file": "e.npz", "sha256": "b" * 64, "samples": 200}},
    "weak_truth": True,
    "lineage": {"code_commit": None, "tools": {"numpy": "1.26.4"}},
    "steps": [{"name": "quantize onnx int8", "cached": False, "seconds": 1.5}],
    "variants": [VARIANT, {**VARIANT, "variant": "linux-x86_64-cpu-onnx-int8", "target": "linux-x86_64-cpu"}],
}


class _Page(HTMLParser):
    """Checks that tags pair, and keeps what the page shows."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in {"meta", "br"}:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del tag, attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(report: dict) -> tuple[str, str]:
    """Render, check that tags pair; return the page and its words."""
    page = render(report)
    parser = _Page()
    parser.feed(page)
    assert parser.open == []
    return page, " ".join(parser.words)


def test_the_page_needs_nothing_from_elsewhere():
    """No script, no link, no address of any server: it can be mailed, archived and opened offline."""
    page, _words = read(REPORT)
    assert not re.search(r"<script|<link|<img|https?:|url\(|@import", page)


def test_the_verdict_comes_first_and_everything_is_there():
    """Verdict, figures, classes, layers with the broken one named, placement, ranges, speed and lineage."""
    _page, words = read(REPORT)
    assert words.index("Passed: each of the 2 variants is shown to lose at most 2 points") < words.index("Variants")
    for expected in (
        "97.0% of the work on the accelerator of linux-arm64-cpu",
        "-1.00 points change of accuracy against float, the worst of 2; minus is worse than float",
        "change, points (95 %)",
        "-1.00 (-1.50 to +0.40)",
        "judged on this machine, not on the target",
        "The error starts at layer net/dense (MatMul)",
        "starts here",
        "12 operators on the accelerator, 97.0% of the multiplications; 1 on the CPU.",
        "Fast & Co",
        "0.200 → 0.117 ms",
        "No truth examples",
        "not under version control",
    ):
        assert expected in words


def test_few_truth_examples_are_told_from_none():
    """Where some travel they are few, else none."""
    data = {**REPORT["data"], "truth": {"file": "t.npz", "sha256": "c" * 64, "samples": 20}}
    assert "Few truth examples travel" in read({**REPORT, "data": data})[1]


@pytest.mark.parametrize(("size", "said"), [(30_000, "3.3 x smaller than"), (150_000, "1.5 x as large as")])
def test_an_artifact_that_grew_is_not_called_smaller(size, said):
    """Scales beside a few kB of weights can make int8 the larger file."""
    _, words = read({**REPORT, "variants": [{**VARIANT, "artifact_size": size}]})
    assert f"{said} its source: onnx int8" in " ".join(words.split())


def test_names_cannot_break_the_page():
    """A label with markup is shown as it is."""
    page, words = read(REPORT)
    assert "<b>run</b>" not in page
    assert "<b>run</b>" in words


def test_one_artifact_has_one_section():
    """Two targets that share an artifact do not repeat its plots."""
    page, _words = read(REPORT)
    assert page.count("<h3>Confusion</h3>") == 1


def test_what_a_vendors_tool_quantizes_is_an_artifact_of_its_own():
    """Its recipe has the name of the portable one's, and another file; targets that share a file have one section."""
    report, lint = copy.deepcopy(REPORT), {"macs": 100, "macs_off": 25, "ops": 4, "ops_off": 2}
    own = {"variant": "rk3588-int8", "target": "rk3588", "made_by": "Rockchip's rknn-toolkit2"}
    seen = {"variant": "jetson-int8", "target": "jetson", "placement": None, "lint": lint}
    report["variants"] += [{**VARIANT, **own}, {**VARIANT, **seen}]
    page, words = read(report)
    assert page.count("<h3>Confusion</h3>") == 2
    assert "onnx · int8 for rk3588 The float onnx file, quantized and built by Rockchip's rknn-toolkit2." in words
    assert words.count("Placement on") == 3
    assert "≈75.0%" in words
    least = "≈75.0% of the work fits the accelerator, by the lint's rules, of jetson, the least of 4 variants"
    assert least in words


@pytest.mark.parametrize("missing", ["evaluation", "layers", "latency", "conversion", "placement"])
def test_what_was_not_measured_is_left_out(missing):
    """A page is made of whatever there is."""
    report = copy.deepcopy(REPORT)
    for variant in report["variants"]:
        variant[missing] = None
    read(report)


def test_a_release_without_the_gate_says_so_first():
    """The reason that was given stands where the verdict would."""
    _page, words = read({**REPORT, "gate": {"on": False, "max_drop": 0.02, "reason": "a drill"}})
    assert "Packed without the gate: a drill" in words


def test_what_the_repair_ladder_tried_is_shown():
    """The points of the ladder, those that nothing beats in bold."""
    point = {"recipe": "int8", "value": 0.8, "loss": 0.1, "size": 3000, "speedup": None, "passed": False, "why": "loss"}
    point |= {"unit": 1.0, "greater": True}
    point |= {"samples": 340}
    wide = {**point, "recipe": "int8-wide", "passed": True, "samples": 2720}
    page, _words = read({**REPORT, "pareto": {"v": {"points": [point, wide], "front": ["int8-wide"]}}})
    assert "<b>int8-wide</b>" in page
    assert re.findall(r"data-label='samples'>([\d,]+)<", page.split("<h2>Repair</h2>")[1]) == ["340", "2,720"]
    assert "<h2>Repair</h2>" in page


def test_ticks_are_round_and_within():
    """Axis values are few, round and inside; a range of nothing has one."""
    assert Scale(0, 1, 0, 100).ticks() == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert Scale(-0.03, 0.03, 0, 100).ticks() == [-0.02, 0.0, 0.02]
    assert Scale(2, 2, 0, 100).ticks() == [2]
    assert (Scale(0, 1, 10, 20)(2), Scale(0, 1, 10, 20)(-1)) == (20, 10)
    assert cut("a/very/long/name", 8) == "…ng/name"


def _own_metric(**kind) -> dict:
    """A report whose variants were judged by an error in degrees, of which less is better."""
    report = copy.deepcopy(REPORT)
    for variant in report["variants"]:
        found = variant["evaluation"]
        figures = {"metric": "metrics:angle", "value": 12.5, "source_value": 12.0}
        found.update(**figures, difference=0.5, interval=[0.2, 0.9])
        found["details"]["metric"] = kind
        verdict = {**VERDICT, "metric": "metrics:angle", "share": kind["share"], "max_drop": 1.5}
        found["details"]["gate"] = {"verdicts": {"onnxruntime": verdict}}
    return report


def test_a_metric_with_a_unit_is_never_given_in_points():
    """0.5 degrees are no 50 points: the verdict, the table, the cards and the drawing keep the unit."""
    page, words = read(_own_metric(share=False, greater_is_better=False))
    assert "is shown to lose at most 1.5 of metrics:angle against float" in words
    assert "+0.5 (+0.2 to +0.9)" in words
    assert "in its own unit; less is better" in words
    assert "its unit" in words
    assert "plus is worse than float" in words
    assert "points" not in page


def test_a_loss_lies_on_the_side_of_what_is_worse():
    """Where less is better, what is not allowed is drawn on the right of zero; else on the left."""

    def limit(report: dict) -> tuple[float, float]:
        page, _words = read(report)
        line = re.search(r"<line [^>]*class='limit'[^>]*>|<line [^>]*class=\"limit\"[^>]*>", page)
        zero = re.search(r"<line [^>]*class='zero'[^>]*>|<line [^>]*class=\"zero\"[^>]*>", page)
        return tuple(float(re.search(r"x1=['\"]([\d.]+)", found.group()).group(1)) for found in (line, zero))

    at, zero = limit(_own_metric(share=False, greater_is_better=False))
    assert at > zero
    at, zero = limit(REPORT)
    assert at < zero


REFUSED = {
    **REPORT,
    "schema": "edge.refusal/1",
    "refused": {
        "code": "accuracy-gate",
        "message": "v: it lost <much>",
        "hint": "Calibrate with real data.",
        "variants": {"linux-arm64-cpu-onnx-int8": {"message": "v: it lost <much>"}},
    },
    "lineage": {},
}


@pytest.mark.parametrize("variants", [REPORT["variants"], []])
def test_a_refusal_says_so_first_and_is_no_release(variants):
    """The reason and the cure stand where the verdict would; the page never says passed or packed."""
    page, words = read({**REFUSED, "variants": variants})
    assert words.index("Refused (accuracy-gate): v: it lost <much>") < words.index("Where it came from")
    assert "Calibrate with real data. There is no release." in words
    assert "gait 1.2.0, refused" in words
    assert "Passed" not in words
    assert "Packed" not in words
    assert "class='verdict refused'" in page


def test_a_refusal_of_several_marks_each_variant_and_says_why():
    """Also one that its accuracy does not refuse, and one that came to no figures; what passes is marked so."""
    slow = "linux-arm64-cpu-onnx-int8"
    why = {slow: {"message": f"{slow} (onnxruntime): too slow"}, "rk3588-int8": {"message": "it died; last\n<words>"}}
    refused = {**REFUSED["refused"], "message": "one <b>\nalso refused: two\npasses: x86", "variants": why}
    page, words = read({**REFUSED, "refused": refused})
    assert "one &lt;b&gt;<br>also refused: two<br>passes: x86</b>" in page
    marks = re.findall(r"<tr><td[^>]*>([\w-]+)</td><td[^>]*><span class='tag [\w-]+'>([\w ]+)</span>", page)
    assert marks == [(slow, "refused"), ("linux-x86_64-cpu-onnx-int8", "passes"), ("rk3588-int8", "refused")]
    assert f"<li><b>{slow}</b>: (onnxruntime): too slow</li>" in page
    assert "<li><b>rk3588-int8</b>: it died; last<br>&lt;words&gt;</li>" in page
    assert "Why they are refused" in words
    assert "Why they are refused" not in read(REFUSED)[1], "of one alone it stands above"


def test_what_too_few_samples_refuse_is_called_refused_too():
    """Where the terminal says refused the page does not say less; where the gate is off it says only what is open."""
    report = copy.deepcopy(REPORT)
    variant = report["variants"][0]
    for verdict in variant["evaluation"]["details"]["gate"]["verdicts"].values():
        verdict["outcome"] = "not-enough-data"
    assert ">not enough data</span>" in read(report)[0]
    refused = {**REFUSED["refused"], "variants": {variant["variant"]: {"message": "few"}}}
    assert ">refused: not enough data</span>" in read({**report, "refused": refused})[0]


def test_many_classes_are_shown_by_what_changed():
    """Of a thousand classes those that lost most, and what is taken for what, names made safe."""
    report = copy.deepcopy(REPORT)
    short = {"confusion": [], "classes_in_all": 1000, "confused": [["walk", "<b>run</b>", 17]]}
    for variant in report["variants"]:
        for name in ("artifact", "source"):
            variant["evaluation"]["details"][name] |= short
    page, words = read(report)
    assert "The classes that lost most, of 1000" in words
    assert "Most often confused" in words
    assert "<td>&lt;b&gt;run&lt;/b&gt;</td><td class=n>17</td>" in page


@pytest.mark.parametrize(
    ("recipe", "precision", "said"), [("int8-weights", "int8-dynamic", 1), ("int8-mse", "int8", 0)]
)
def test_a_precision_that_is_called_otherwise_than_the_recipe_is_told(recipe, precision, said):
    """Who compares page and release.json reads two words for one artifact only where the page says so."""
    report = copy.deepcopy(REPORT)
    del report["variants"][1:]
    report["variants"][0] |= {"recipe": {**report["variants"][0]["recipe"], "name": recipe}, "precision": precision}
    _page, words = read(report)
    assert words.count(f"Its precision is {precision} in release.json") == said
