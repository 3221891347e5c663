"""Several plans as one: what they have in common is done once, what only bears one name gets two. Pure.

Targets read different operator sets. Each gets the file that it would get alone: a target with a low ceiling neither
lowers what the others get nor stops them, so that one release of many targets is the sum of their own.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgesdk.targets.profiles import Profile
from edgesdk_converters.planning.fit import ceiling_of
from edgesdk_converters.planning.plan import Plan, VariantPlan, Wanted, build_plan
from edgesdk_converters.planning.routes import Ceiling
from edgesdk_converters.running.steps import Ref, Step

FOR = " for "
"""What stands before the targets in the name of a step that others have in another way."""


def joined_plan(wanted: Wanted) -> Plan:
    """Return the steps and variants of a conversion, targets with one ceiling planned together.

    Raises:
        EdgeError: As `build_plan`.
    """
    groups: dict[Ceiling, list[Profile]] = {}
    free: list[Profile] = []
    for target in wanted.targets:
        if any(runtime.max_opset is not None for runtime in target.runtimes):
            groups.setdefault(ceiling_of([target], wanted.recipes, wanted.formats), []).append(target)
        else:  # it reads no ONNX, so what the others read will do
            free.append(target)
    first, *others = list(groups.values()) or [[]]
    plan = merged([build_plan(dataclasses.replace(wanted, targets=group)) for group in ([*first, *free], *others)])
    places = {target.name: place for place, target in enumerate(wanted.targets)}
    return dataclasses.replace(plan, variants=tuple(sorted(plan.variants, key=lambda each: places[each.target.name])))


def merged(plans: Sequence[Plan]) -> Plan:
    """Return one plan of all; where two steps of one name differ, the later gets its targets' name too."""
    steps: dict[str, Step] = {}
    variants: list[VariantPlan] = []
    for plan in plans:
        names: dict[str, str] = {}
        for step in plan.steps:
            inputs = {name: _renamed(each, names) for name, each in step.inputs.items()}
            for name in _candidates(step.name, plan):
                found = steps.setdefault(name, dataclasses.replace(step, name=name, inputs=inputs))
                if found.inputs == inputs and found.params == step.params:
                    names[step.name] = name
                    break
        for variant in plan.variants:
            fields = {field.name: getattr(variant, field.name) for field in dataclasses.fields(variant)}
            kept = fields.pop("name")
            variants.append(VariantPlan(name=kept, **{key: _renamed(each, names) for key, each in fields.items()}))
    left_out = dict.fromkeys(words for plan in plans for words in plan.left_out)
    return Plan(steps=tuple(steps.values()), variants=tuple(variants), left_out=tuple(left_out))


def _candidates(name: str, plan: Plan) -> Iterator[str]:
    """Yield names for a step until one is free: its own, with the targets that it is for, with a number."""
    yield name
    targets = list(dict.fromkeys(variant.target.name for variant in plan.variants))
    if targets:
        name = f"{name}{FOR}{targets[0]}{' and others' if targets[1:] else ''}"
        yield name
    yield from (f"{name} ({number})" for number in itertools.count(2))


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, Ref):
        return dataclasses.replace(value, step=names.get(value.step, value.step))
    if isinstance(value, dict):
        return {key: _renamed(each, names) for key, each in value.items()}
    return names.get(value, value) if isinstance(value, str) else value
