"""Which recipes a target's runtimes run, and the newest ONNX that they read. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from edgesdk.bundle.manifest import RuntimeName
from edgesdk.targets.profiles import Profile
from edgesdk_converters.backends import find_backend
from edgesdk_converters.backends.steps import refusals
from edgesdk_converters.passes import quantize_onnx
from edgesdk_converters.planning.routes import Ceiling
from edgesdk_converters.recipes import Format, OnnxFloat16, Recipe

RUNTIME: dict[Format, RuntimeName] = {"tflite": "tflite", "onnx": "onnxruntime"}


def fits(target: Profile, artifact_format: Format, recipe: Recipe) -> bool:
    """Say whether the target's runtime for a format runs a recipe's precision."""
    runtimes = {runtime.name: runtime for runtime in target.runtimes}
    runtime = runtimes.get(RUNTIME[artifact_format])
    return runtime is not None and recipe.precision in runtime.precisions


def whole_half(recipe: Recipe) -> Recipe:
    """Return a recipe for an accelerator without float32: float16 throughout, under a name of its own."""
    if not isinstance(recipe.onnx, OnnxFloat16) or recipe.onnx.tiny == "float16":
        return recipe
    return msgspec.structs.replace(recipe, name=f"{recipe.name}-whole", onnx=OnnxFloat16(tiny="float16"))


def ceiling_of(targets: Sequence[Profile], recipes: Sequence[Recipe], formats: Sequence[Format]) -> Ceiling:
    """Return the newest (opset, IR version) that every target's oldest runtime reads, and what the recipes need.

    Only recipes count of which a target takes the ONNX artifact.
    """
    runtimes = [runtime for target in targets for runtime in target.runtimes]
    highest = [runtime.max_opset for runtime in runtimes if runtime.max_opset is not None]
    lowest = [runtime.min_opset for runtime in runtimes if runtime.min_opset is not None]
    irs = [runtime.max_ir for runtime in runtimes if runtime.max_ir is not None]
    taken = [recipe for target in targets for recipe in _onnx_recipes(target, recipes, formats)]
    return Ceiling(
        min_opset=max([*lowest, *map(quantize_onnx.min_opset, taken)], default=0),
        max_opset=min(highest, default=21),
        max_ir=min(irs, default=10),
        flat=all(target.compiler is not None for target in targets),
    )


def _onnx_recipes(target: Profile, recipes: Sequence[Recipe], formats: Sequence[Format]) -> list[Recipe]:
    backend = find_backend(target)
    if backend is None:
        return [recipe for recipe in recipes if "onnx" in formats and fits(target, "onnx", recipe)]
    if backend.source != "onnx":
        return []
    return [recipe for recipe, reason in refusals(backend, target, recipes).items() if reason is None]
