"""The steps that compile a variant, and run it where its vendor's own tool does, for the plan. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edgesdk.errors import TargetError
from edgesdk.targets.profiles import Profile
from edgesdk_converters.backends import Backend
from edgesdk_converters.planning.unfit import added
from edgesdk_converters.recipes import RECIPES, Recipe
from edgesdk_converters.running.steps import Ref, Step

CALIBRATION = "calibration"
Job = tuple[Backend, Profile, Recipe]
"""What compiles, for what, and how."""
PLAIN = "int8"
"""The recipe whose name stands for the target's own flavour of int8."""


def fitting_recipes(backend: Backend, target: Profile, recipes: Sequence[Recipe]) -> list[Recipe]:
    """Return the recipes that a target's compiler takes; plain ``int8`` becomes its own flavour of it.

    Raises:
        TargetError: ``recipe-unfit`` if it takes none; the message says of each why.
    """
    reasons = refusals(backend, target, recipes)
    found = [recipe for recipe, reason in reasons.items() if reason is None]
    if not found:
        said = "; ".join(str(reason) for reason in reasons.values())
        message = f"{backend.title} takes nothing of this for {target.name}: {said}"
        raise TargetError("recipe-unfit", message, hint=added(target.name, backend.recipes))
    return found


def refusals(backend: Backend, target: Profile, recipes: Sequence[Recipe]) -> dict[Recipe, str | None]:
    """Return why a target's compiler does not take a recipe, by recipe in its own flavour; None where it does."""
    precisions = backend.precisions(target)
    return {
        recipe: backend.refusal(recipe)
        or (None if recipe.precision in precisions else f"{recipe.name} is {recipe.precision}")
        for recipe in dict.fromkeys(_flavour(backend, recipe) for recipe in recipes)
    }


def _flavour(backend: Backend, recipe: Recipe) -> Recipe:
    if recipe.name != PLAIN or backend.refusal(recipe) is None:
        return recipe
    return RECIPES[backend.recipes[0]]


def compile_step(job: Job, artifact: Path | Ref, data: Mapping[str, Path], contract: Any) -> Step:
    """Return the step that compiles the portable `artifact` for a target."""
    backend, target, recipe = job
    params = {**_params(backend, target, recipe, contract), "target": target.name}
    params["memory"] = msgspec.to_builtins(target.memory)
    params["profile"] = msgspec.to_builtins(target)
    return Step(
        name=f"compile {recipe.name} for {target.name}",
        action=backend.compile,
        inputs={"artifact": artifact, **_calibration(backend, recipe, data)},
        params=params,
        environment=backend.environment,
    )


def measure_step(
    job: Job, artifact: Path | Ref, data: Mapping[str, Path], contract: Any, instalments: Mapping[str, Any] | None
) -> Step:
    """Return the step that runs the samples in the vendor's own runtime or simulator.

    Args:
        job: What compiles, for what, and how.
        artifact: What is run.
        data: Data files by what they are for.
        contract: The contract as plain data.
        instalments: ``source`` (what the float source answered) and ``gate``, if the evaluation data is run only
            until the gate is decided.
    """
    backend, target, recipe = job
    assert backend.measure is not None
    judged: dict[str, Path | Ref] = {name: path for name, path in data.items() if name != CALIBRATION}
    params = _params(backend, target, recipe, contract)
    if instalments is not None:
        judged["source"] = instalments["source"]
        params["gate"] = instalments["gate"]
    return Step(
        name=f"run {recipe.name} for {target.name} in {backend.name}",
        action=backend.measure,
        inputs={"artifact": artifact, **judged, **_calibration(backend, recipe, data)},
        params=params,
        environment=backend.environment,
    )


def _params(backend: Backend, target: Profile, recipe: Recipe, contract: Any) -> dict[str, Any]:
    params: dict[str, Any] = {"options": backend.params(target)}
    if backend.measure is not None:
        params["contract"] = contract
    if backend.quantizes:
        params |= {"precision": recipe.precision, "ranges": recipe.calibration_range}
    return params


def _calibration(backend: Backend, recipe: Recipe, data: Mapping[str, Path]) -> dict[str, Path]:
    quantizes = backend.quantizes and recipe.precision == PLAIN
    return {CALIBRATION: data[CALIBRATION]} if quantizes else {}
