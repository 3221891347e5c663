"""Layers that a recipe names: found, or refused early, with what may have been meant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from edgesdk_converters.passes.layer_names import APART, check_patterns, named
from edgesdk_converters.request import Request, prepare
from edgesdk_converters.source_gate import source_first

from edgesdk.errors import ConfigError

FUSED = "model/trunk/re_lu_3/Relu;model/trunk/conv2d_3/BiasAdd;model/trunk/conv2d_3/Squeeze"
NAMES = [FUSED, "model/trunk/dense/MatMul", *(f"model/trunk/block_{place}/add" for place in range(20))]


@pytest.mark.parametrize("pattern", ["*re_lu_3*", "*/MatMul", FUSED, "*block_1?/add"])
def test_what_names_a_layer_passes(pattern: str) -> None:
    """A whole name, or a pattern of one."""
    check_patterns((pattern,), NAMES, "float_layers", "ONNX")


@pytest.mark.parametrize(
    ("pattern", "hint"),
    [
        ("*/relu_3*", "Did you mean *conv2d_3/Squeeze*?"),
        ("model/trunk/dens/MatMull", "Did you mean *dense/MatMul*?"),
        ("matmul", "Did you mean *dense/MatMul*?"),
        ("*zebra*", "Its layers, shortened: conv2d_3/Squeeze, dense/MatMul, "),
        ("*", ""),
    ],
)
def test_what_names_none_is_answered_with_what_was_meant(pattern: str, hint: str) -> None:
    """By a near part of a name, shortened to a pattern that does name it; else with a few, and how many more."""
    if not hint:
        return check_patterns((pattern,), NAMES, "float_layers", "ONNX")
    with pytest.raises(ConfigError, match="names no layer of the ONNX file") as caught:
        check_patterns((pattern,), NAMES, "float_layers", "ONNX")
    assert str(caught.value.hint).startswith(hint)
    assert len(str(caught.value.hint)) < 400
    assert "give one --format" in str(caught.value.hint), "the other format may have it"
    if "mean" in hint:
        check_patterns((hint.rsplit(maxsplit=1)[-1].removesuffix("?"),), NAMES, "float_layers", "ONNX")
    return None


def test_names_with_brackets_are_offered_as_patterns_that_mean_them() -> None:
    """A bracket opens a choice of letters in a pattern; a model without layers has none to offer."""
    with pytest.raises(ConfigError) as caught:
        check_patterns(("*convv*",), ["layer[0]/conv"], "float_layers", "TFLite")
    assert "names no layer of the TFLite file" in caught.value.message
    assert caught.value.hint == f"Did you mean *layer[[]0]/conv*? {APART}"
    check_patterns(("*layer[[]0]/conv*",), ["layer[0]/conv"], "float_layers", "TFLite")
    with pytest.raises(ConfigError) as caught:
        check_patterns(("*",), [], "float_layers", "ONNX")
    assert caught.value.hint == f"It has no layers. {APART}"


@pytest.mark.parametrize("suffix", ["tflite", "onnx"])
def test_layers_of_real_files_have_names(repository_root: Path, suffix: str) -> None:
    """Each operator of a TFLite and of an ONNX file can be meant."""
    layers = named(repository_root / "examples" / "wearable" / "models" / f"v1.{suffix}")
    assert len(layers) > 5
    assert all(layers)


@pytest.mark.parametrize("labelled", [True, False])
def test_they_are_looked_for_before_the_data_is_examined(
    repository_root: Path, tmp_path: Path, *, labelled: bool
) -> None:
    """The step follows the graph at once, whether or not labels ask for the float source first; others have none."""
    wearable, words = repository_root / "examples" / "wearable", {"y": np.arange(7).repeat(9)} if labelled else {}
    for seed, name in enumerate(("calibration", "evaluation")):
        x = np.random.default_rng(seed).normal(size=(63, 128, 6)).astype(np.float32)
        np.savez(tmp_path / f"{name}.npz", x=x, **words)
    (tmp_path / "mine.toml").write_text('base = "int8"\nfloat_layers = ["*dense*"]\n')
    request = Request(
        models=(wearable / "models" / "v1.onnx",),
        name="w",
        release="1.0.0",
        targets=("linux-arm64-cpu",),
        contract=wearable / "contract.toml",
        out=tmp_path / "out",
        recipes=("int8", str(tmp_path / "mine.toml")),
        calibration=tmp_path / "calibration.npz",
        evaluation=tmp_path / "evaluation.npz",
        cache_dir=tmp_path / "cache",
    )
    steps = [step.name for step in source_first(prepare(request)).plan.steps]
    assert steps[:3] == ["pin onnx", "fold onnx", "find layers of onnx mine"]
    assert sum(name.startswith("find layers") for name in steps) == 1
    assert "examine calibration" in steps
