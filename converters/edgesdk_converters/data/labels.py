"""Classes by name: what a label in data stands for, and what to say where the contract knows no such class. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from edgesdk.errors import ConfigError
from edgesdk.near import nearest

LISTED = 8
"""Names that a message lists at most, of each side."""
OFFERED = 3


def class_indices(found: Collection[str], names: Sequence[str]) -> dict[str, int]:
    """Return the classes that labels stand for: by the contract's name, or by a number; unknown ones are left out."""
    by_name = {name: index for index, name in enumerate(names)}
    numbers = {label: int(label) for label in found if label not in by_name and label.isdecimal()}
    known = {label: by_name[label] for label in found if label in by_name}
    return known | {label: number for label, number in numbers.items() if number < len(names)}


def unknown_label(what: str, found: Collection[str], names: Sequence[str], *, named: bool) -> ConfigError:
    """Return the refusal of a label that stands for no class.

    Args:
        what: The file and the first that is unknown, as the beginning of a sentence.
        found: All labels of the data.
        names: Names of the contract's classes.
        named: Whether these stand in the contract, or are only numbers.
    """
    unknown = sorted(set(found) - set(class_indices(found, names)))
    message = f"{what}, expected one of {listed(names)}; "
    if len(unknown) < len(set(found)):
        message += f"{len(unknown)} of the data's {len(set(found))} labels are unknown: {listed(unknown)}"
    else:
        message += f"the data's labels are {listed(unknown)}"
    if not named:
        hint = "Write the names into the contract, in the order of the model's outputs: labels = [...]."
        return ConfigError("data-invalid", message, hint=hint)
    offers = _offers(unknown, [name for name in names if name not in found])
    meant = f"Did you mean {', '.join(offers[:OFFERED])}? " if offers else ""
    hint = f"{meant}Name classes as the contract's `labels` do (folders of pictures too), or correct the contract."
    return ConfigError("data-invalid", message, hint=hint)


def _offers(unknown: Sequence[str], free: Sequence[str]) -> list[str]:
    """Return which of the contract's names a label may stand for; each is offered once."""
    meant: dict[str, str] = {}
    for label in unknown:
        near = nearest(label, [name for name in free if name not in meant])
        if near:
            meant[near[0]] = label
    return [f"{name!r} for {label!r}" for name, label in meant.items()]


def listed(names: Sequence[str]) -> str:
    """Return names as a list that does not grow without end."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{', '.join(names[:LISTED])}{more}"
