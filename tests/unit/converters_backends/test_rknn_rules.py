"""Rules of Rockchip's toolkit that fail are left out, one by one."""

from __future__ import annotations

from pathlib import Path

import pytest
from edgesdk_converters.backends.tools.rknn_rules import MOST_RULES, Heard, build_without, failed_rule

WORDS = "W You can add disable_rules=['{}'] in rknn.config() to temporarily disable the error rule!\n"


@pytest.fixture
def heard(tmp_path: Path):
    """A stream as the toolkit's; it needs a file of the operating system's."""
    with (tmp_path / "log").open("w") as log:
        yield Heard(log)


def failing(heard: Heard, rules: list[str]):
    """Return a toolkit whose rules fail in that order."""

    def build(left_out: list[str]) -> str:
        for rule in rules:
            if rule not in left_out:
                heard.write(WORDS.format(rule))
                raise ValueError(rule)
        return "built"

    return build


@pytest.mark.parametrize("rules", [[], ["fuse_a"], ["fuse_a", "swap_b"], [f"r{place}" for place in range(MOST_RULES)]])
def test_what_fails_is_left_out(heard: Heard, rules: list[str]) -> None:
    """In the order of their failures; a graph on which none fails is built with all."""
    assert build_without(failing(heard, rules), heard) == ("built", rules)


def test_what_is_said_goes_on_and_names_what_is_left_out(heard: Heard, tmp_path: Path) -> None:
    """The log has the toolkit's words and ours."""
    build_without(failing(heard, ["fuse_a"]), heard)
    heard.flush()
    said = (tmp_path / "log").read_text()
    assert said == WORDS.format("fuse_a") + "building again without rule fuse_a, which fails on this model\n"


@pytest.mark.parametrize("error", [ValueError("no rule is at fault"), SystemExit("build answered -1")])
def test_another_failure_is_told_as_it_is(heard: Heard, error: BaseException) -> None:
    """Where the toolkit names no rule, or only one that it was told to leave out, it fails at once."""
    attempts: list[list[str]] = []

    def build(left_out: list[str]) -> str:
        attempts.append(left_out)
        heard.write(WORDS.format("fuse_a"))
        raise error

    with pytest.raises(type(error)):
        build_without(build, heard)
    assert attempts == [[], ["fuse_a"]]


def test_more_failures_than_are_plausible_end_it(heard: Heard) -> None:
    """A toolkit that stumbles everywhere is not built rule by rule for an hour."""
    with pytest.raises(ValueError, match=f"r{MOST_RULES}"):
        build_without(failing(heard, [f"r{place}" for place in range(MOST_RULES + 1)]), heard)


def test_no_rule_where_none_is_named() -> None:
    """Words about rules alone name none."""
    assert failed_rule("Rule: fuse_a", ()) is None
    assert failed_rule(WORDS.format("fuse_a"), ()) == "fuse_a"
    assert failed_rule(WORDS.format("fuse_a"), ["fuse_a"]) is None
