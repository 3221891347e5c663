"""The report: shares, the refusal, and that every rule says what a person needs."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from edgesdk_converters.lint.render import render
from edgesdk_converters.lint.report import Finding, LintReport
from edgesdk_converters.lint.rules import RULE_SETS, find_rules
from rich.console import Console

from edgesdk.errors import TargetError
from edgesdk.targets.profiles import load_profile, profile_names


def _report(*, refused: bool = False, macs: int = 100, off: int = 7) -> LintReport:
    finding = Finding(
        node="n", op="SIN", rule="supported-op", effect="refused" if refused else "fallback", limit="l", found="f",
        why="w", rewrite="use a table",
    )  # fmt: skip
    return LintReport(
        target="t", rules="r", source="s", format="tflite", assumed=(), findings=(finding,), ops=4, ops_off=1,
        macs=macs, macs_off=off if macs else 0, refused=refused,
    )  # fmt: skip


def test_shares_by_ops_and_by_macs():
    """Each share is of its own whole; a model without MACs is judged by its operators."""
    assert _report().share("ops") == 0.25
    assert _report().share("macs") == 0.07
    assert _report(macs=0).share("macs") == 0.25


@pytest.mark.parametrize(("most", "by", "raises"), [(0.07, "macs", False), (0.06, "macs", True), (0.2, "ops", True)])
def test_too_large_a_share_is_refused_with_the_first_rewrite(most, by, raises):
    """The limit itself is allowed; beyond it the error names the share and says what to do."""
    if not raises:
        _report().check(most, by)
        return
    with pytest.raises(TargetError) as caught:
        _report().check(most, by)
    assert caught.value.code == "fallback-share"
    assert caught.value.hint == "use a table"


def test_a_refused_file_is_refused_whatever_is_allowed():
    """No share helps a file that the compiler does not take."""
    with pytest.raises(TargetError, match="takes no file like this"):
        _report(refused=True).check(1.0)


@pytest.mark.parametrize("rules", RULE_SETS, ids=lambda rules: rules.name)
def test_every_rule_says_its_limit_its_reason_and_a_rewrite(rules):
    """Names are unique within a set; no text is missing."""
    every = [*rules.rules, *rules.last, *rules.graph_rules]
    assert all(rule.name and rule.limit and rule.why and rule.rewrite for rule in every)
    names = [rule.name for rule in every]
    assert len(names) == len(set(names))


def test_every_target_has_rules_for_what_it_takes():
    """No profile is left without a lint."""
    for name in profile_names():
        profile = load_profile(name)
        tflite = any(runtime.name.startswith("tflite") for runtime in profile.runtimes)
        assert find_rules(profile, "tflite" if tflite else "onnx").rules


def test_a_target_that_takes_onnx_refuses_tflite():
    """The error says what to give instead."""
    with pytest.raises(TargetError) as caught:
        find_rules(load_profile("jetson-orin-gpu"), "tflite")
    assert caught.value.code == "runtime-missing"


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_terminal_of_any_width_shows_every_word(width):
    """No line is longer than the terminal or ends with spaces, no text is lost, long names are cut where they must."""
    report = _report()
    [finding] = report.findings
    long = msgspec.structs.replace(finding, node="block/" * 30, limit="at most [4] dimensions", why="because " * 20)
    bridge = msgspec.structs.replace(finding, op="DEQUANTIZE", node="beside")
    screen = io.StringIO()
    render(msgspec.structs.replace(report, findings=(bridge, long)), Console(file=screen, width=width))
    lines = screen.getvalue().splitlines()
    assert all(len(line) <= width and line == line.rstrip() for line in lines)
    shown = "".join(line[10:].strip() for line in lines).replace(" ", "")
    for text in (long.op, long.node, long.limit, long.why, long.rewrite):
        assert text.replace(" ", "") in shown
    assert shown.index("SIN") < shown.index("DEQUANTIZE")


def test_the_rendered_page_is_up_to_date():
    """docs/lint.md is what docs/render_lint.py prints today."""
    docs = Path(__file__).parents[3] / "docs"
    made = subprocess.run([sys.executable, docs / "render_lint.py"], capture_output=True, text=True, check=True)
    assert (docs / "lint.md").read_text() == made.stdout, "run: python docs/render_lint.py > docs/lint.md"


def test_of_a_profiles_words_the_first_sentence_is_shown():
    """Paragraphs hide the figures: the rest is where the note says; a note of one sentence stands as it is."""
    profile = load_profile("qualcomm-htp")
    out = io.StringIO()
    report = msgspec.structs.replace(_report(), target=profile.name, notes=("a forecast", profile.notes))
    render(report, Console(file=out, width=500))
    lines = [line for line in out.getvalue().splitlines() if line.startswith("Note: ")]
    first = profile.notes[: profile.notes.index(". ")]
    assert lines == ["Note: a forecast.", f"Note: {first} (more: edge targets show qualcomm-htp)."]
    assert "hardware" in profile.notes
    assert "hardware" not in out.getvalue()
