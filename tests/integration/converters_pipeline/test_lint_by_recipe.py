"""`edge lint --recipe`: what a recipe makes is linted before anything is calibrated, as the conversion will lint it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from edgesdk_converters.lint.by_recipe import read_made
from edgesdk_converters.lint.check import check
from edgesdk_converters.lint.report import LintReport
from edgesdk_converters.request import Request, prepare
from edgesdk_converters.running.cache import StepCache
from edgesdk_converters.running.steps import Ref, Runner, Silent

from edgesdk.errors import ConfigError, TargetError
from edgesdk.targets.profiles import load_profile

FIRST = "*/conv2d_4_1/convolution*"
Lint = Callable[..., LintReport]


@pytest.fixture
def lint(words: dict[str, Any]) -> Lint:
    """Lint a model for a target by a recipe, on the shared cache."""

    def run(model: Path, target: str, recipe: str | Path) -> LintReport:
        profile = load_profile(target)
        made = read_made(model, profile, str(recipe), words["contract"], cache_dir=words["cache_dir"])
        return check(made, profile)

    return run


def in_a_conversion(model: Path, words: dict[str, Any], out: Path) -> LintReport:
    """Run the steps of a conversion up to its own lint: with its calibration data, and rounding by it."""
    plan = prepare(Request(models=(model,), **words, out=out)).plan
    [variant] = plan.variants
    named = {step.name: step for step in plan.steps}
    wanted = [named[variant.lint]]
    for step in wanted:
        wanted += [named[each.step] for each in step.inputs.values() if isinstance(each, Ref)]
    runner = Runner(StepCache(words["cache_dir"]), timeout_s=100)
    entries = runner.run([step for step in plan.steps if step in wanted], Silent())
    return msgspec.convert(entries[variant.lint].result, LintReport)


@pytest.mark.parametrize(
    ("model", "target", "recipe", "found"), [(0, "ethos-u55-128", "int8", True), (1, "qualcomm-htp", "int8-qnn", False)]
)
def test_the_verdict_is_the_conversions_own(lint, models, words, tmp_path, model, target, recipe, found):  # noqa: PLR0917 - fixtures
    """Without a sample of data: the same findings, operators and shares as in the report of a release."""
    foretold = lint(models[model], target, "int8")
    real = in_a_conversion(models[model], {**words, "targets": (target,)}, tmp_path / "out")
    assert bool(real.findings) == found
    assert msgspec.structs.replace(foretold, assumed=()) == real
    assert foretold.assumed == (f"the model is linted as the recipe {recipe} makes it, with ranges of made-up inputs",)


def test_what_a_recipe_leaves_in_float_is_beside_an_npu(lint, models, tmp_path):
    """Mixed precision is not the full int8 that is assumed without a recipe: an island's work is off the NPU."""
    mixed = tmp_path / "mixed.toml"
    mixed.write_text(f'base = "int8"\nfloat_layers = ["{FIRST}"]\n')
    whole, part = (lint(models[0], "ethos-u55-128", recipe) for recipe in ("int8", mixed))
    assert whole.macs == part.macs
    assert whole.macs_off == 0 < part.macs_off


def test_a_layer_that_is_not_there_and_a_recipe_that_is_not_taken_are_refused(lint, models, tmp_path):
    """By the words of the conversion."""
    mixed = tmp_path / "mixed.toml"
    mixed.write_text('base = "int8"\nfloat_layers = ["nobody"]\n')
    with pytest.raises(ConfigError, match="nobody"):
        lint(models[0], "ethos-u55-128", mixed)
    with pytest.raises(TargetError) as caught:
        lint(models[0], "ethos-u55-128", "float16")
    assert caught.value.code == "recipe-unfit"


def test_a_tool_that_quantizes_by_itself_gets_the_float_file(lint, models):
    """Rockchip's: nothing is assumed about what it will make."""
    report = lint(models[1], "rk3588", "int8")
    assert "which quantizes it by itself" in report.assumed[0]
    assert not report.refused
