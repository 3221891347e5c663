"""The file that a recipe makes of a model, to be linted: made by the steps of a conversion, on made-up inputs.

What a compiler takes is decided by operators, types and sizes, and hardly by the values of scales: ranges of made-up
inputs give the graph that calibration data would give. Weights are rounded to the nearest, which changes no
operator either.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edgesdk.contract import Contract
from edgesdk.runtime import installed
from edgesdk.targets.profiles import Profile
from edgesdk_converters import MAX_DROP
from edgesdk_converters.data.npz import has_batch
from edgesdk_converters.lint.graph import Graph
from edgesdk_converters.lint.read import read_graph
from edgesdk_converters.lint.source import run_steps, wanted_format
from edgesdk_converters.passes import layer_names
from edgesdk_converters.planning.plan import Plan, VariantPlan, Wanted, build_plan
from edgesdk_converters.planning.routes import TENSORFLOW_TOOLS
from edgesdk_converters.recipes import Recipe, find_recipe
from edgesdk_converters.request import read_contract
from edgesdk_converters.running.steps import Ref, Step
from edgesdk_converters.sources import open_source
from edgesdk_converters.sources.agreement import probes
from edgesdk_converters.sources.keras import check_tensorflow


def read_made(
    path: Path,
    profile: Profile,
    recipe: str,
    contract: Path,
    *,
    cache_dir: Path | None = None,
    told: Callable[[str], None] | None = None,
) -> Graph:
    """Read what a recipe makes of a model for a target, before a vendor's tool gets it.

    Args:
        path: Whatever `edge convert` takes.
        profile: The target.
        recipe: The name of a recipe, or a TOML file of one.
        contract: TOML file of the contract.
        cache_dir: Where results of steps are kept; None: the user's cache.
        told: Is told what takes long, before it is done.

    Raises:
        TargetError: ``recipe-unfit`` if the target takes no such recipe.
        EdgeError: Of the recipe, the contract, or a step.
    """
    promised, source, asked = read_contract(contract), open_source(path), find_recipe(recipe)
    own = source.format if source.format in {"tflite", "onnx"} else wanted_format(profile)
    with tempfile.TemporaryDirectory(prefix="edgesdk-lint-") as folder:
        plan = build_plan(
            Wanted(
                sources={source.format: source},
                contract=promised,
                targets=[profile],
                formats=[own],
                recipes=[_unrounded(asked)],
                data={"calibration": _made_up(promised, Path(folder, "made-up.npz"))},
                packages=[runtime.package for runtime in installed()],
                max_drop=MAX_DROP,
                doctor=False,
            )
        )
        [variant] = plan.variants
        steps = _steps_of(plan, variant.artifact)
        if any(step.tools == TENSORFLOW_TOOLS for step in steps):
            check_tensorflow()
        runner = run_steps(steps, f"making the file of the recipe {asked.name}", cache_dir=cache_dir, told=told)
        graph = read_graph(runner.path(variant.artifact))
    return replace(graph, assumed=(_words(variant),))


def _words(variant: VariantPlan) -> str:
    if variant.backend is not None and variant.backend.quantizes:
        return f"the model is linted as the float file that {variant.backend.title} gets, which quantizes it by itself"
    return f"the model is linted as the recipe {variant.recipe.name} makes it, with ranges of made-up inputs"


def _unrounded(recipe: Recipe) -> Recipe:
    """Return the recipe without rounding by calibration data, which there is none of."""
    for name in ("tflite", "onnx"):
        options: Any = getattr(recipe, name)
        if hasattr(options, "rounding"):
            recipe = msgspec.structs.replace(recipe, **{name: msgspec.structs.replace(options, rounding="nearest")})
    return recipe


def _made_up(contract: Contract, path: Path) -> Path:
    """Write inputs in the contract's ranges, always the same bytes; return the file."""
    samples = list(probes(contract))
    join = {spec.name: np.concatenate if has_batch(spec) else np.stack for spec in contract.inputs}
    np.savez(path, **{name: join[name]([sample[name] for sample in samples]) for name in join})
    return path


def _steps_of(plan: Plan, artifact: Path | Ref) -> list[Step]:
    """Return the steps that make an artifact, and those that look for the layers that a recipe names."""
    wanted = {artifact.step} if isinstance(artifact, Ref) else set()
    kept: list[Step] = []
    for step in reversed(plan.steps):
        if step.name in wanted or step.name.startswith(layer_names.STEP):
            wanted |= {each.step for each in step.inputs.values() if isinstance(each, Ref)}
            kept.insert(0, step)
    return kept
