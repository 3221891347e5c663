"""What to do about a recipe file that is none: the field that was meant, where it belongs, the values it may have."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from edgesdk.near import did_you_mean

_UNKNOWN = re.compile(r"unknown field `([^`]*)`(?: - at `\$\.?([^`]*)`)?")
_KIND = re.compile(r"Invalid value '([^']*)' - at `\$\.([^`.]+)\.kind`")
_VALUE = re.compile(r"Invalid enum value '([^']*)' - at `\$\.?(?:[^`]*\.)?([^`.]+)`")


def hint(error: str, recipe: type[msgspec.Struct], tables: Iterable[type[msgspec.Struct]]) -> str | None:
    """Return what to do about msgspec's words; None where the error's own cure has to do.

    Args:
        error: Its words.
        recipe: The type of a recipe.
        tables: The types of options.
    """
    tables = list(tables)
    inner = {field.name for table in tables for field in msgspec.structs.fields(table)}
    outer = {field.name for field in msgspec.structs.fields(recipe)}
    if found := _UNKNOWN.search(error):
        name, place = found.groups()
        if not place and name in inner:
            return f"{name} belongs into [onnx] or [tflite]."
        if place and name in outer:
            return f"{name} belongs at the top, before [onnx] and [tflite]."
        known = sorted(inner if place else outer | inner)
        return f"{did_you_mean(name, known)}Fields are {', '.join(sorted(inner if place else outer))}."
    if found := _KIND.search(error):
        value, place = found.groups()
        kinds = sorted({str(each.__struct_config__.tag) for each in tables if each.__name__.lower().startswith(place)})
        return f"{did_you_mean(value, kinds)}kind is one of {', '.join(kinds)}."
    if found := _VALUE.search(error):
        value, name = found.groups()
        values = _values([recipe, *tables], name)
        return f"{did_you_mean(value, values)}{name} is one of {', '.join(values)}." if values else None
    return None


def _values(types: Iterable[type[msgspec.Struct]], name: str) -> list[str]:
    """Return the words that a field may hold, wherever it is."""
    hints = [get_type_hints(each).get(name) for each in types]
    return list(dict.fromkeys(word for each in hints for word in _words(each)))


def _words(annotation: Any) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(word) for word in get_args(annotation)]
    return [word for part in get_args(annotation) for word in _words(part)]
