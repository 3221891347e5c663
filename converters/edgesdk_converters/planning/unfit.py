"""What to say of a target that runs nothing of what was asked for. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgesdk.errors import TargetError
from edgesdk_converters.recipes import RECIPES, Format, Recipe

OFFERED = 4
EACH = "each target takes those of the recipes that it can"


def unfit(
    target: str, takes: Mapping[Format, Sequence[str]], recipes: Sequence[Recipe], formats: Sequence[Format]
) -> TargetError:
    """Return the refusal of a target that runs none of the recipes in any of the formats.

    Args:
        target: Its name.
        takes: Precisions that it runs, by format.
        recipes: What was asked for.
        formats: As what; all that the models give, where none were asked for.
    """
    asked = ", ".join(f"{recipe.name} ({recipe.precision})" for recipe in recipes)
    runs = "; ".join(f"{name} in {', '.join(precisions)}" for name, precisions in takes.items())
    message = f"{target} runs nothing that {asked} makes as {' or '.join(formats)}; it runs {runs}"
    if not set(takes) & set(formats):
        return TargetError("recipe-unfit", message, hint=f"Add --format {' or '.join(takes)}, or leave {target} out.")
    fitting = [
        name
        for name, recipe in RECIPES.items()
        if any(recipe.makes(each) and recipe.precision in takes.get(each, ()) for each in formats)
    ]
    return TargetError("recipe-unfit", message, hint=added(target, fitting[:OFFERED]))


def added(target: str, recipes: Sequence[str]) -> str:
    """Return the advice to ask for another recipe beside those that other targets run."""
    return f"Add --recipe {' or '.join(recipes)} ({EACH}), or leave {target} out."
