"""`prune` and `distill` as Python functions, with the words of the command line."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from edgesdk.errors import ConfigError
from edgesdk_converters.compress.run import Compressed, Told, run
from edgesdk_converters.compress.words import Distil, Prune

_W = TypeVar("_W", Prune, Distil)


def prune(
    model: str | PathLike[str], *, out: str | PathLike[str], told: Told | None = None, **words: Any
) -> Compressed:
    """Make a Keras model smaller, and train it on.

    Args:
        model: A ``.keras`` file.
        out: The file to write; its report goes beside it.
        told: Is told how it comes along.
        **words: Any other field of `Prune`; paths may be strings.

    Raises:
        EdgeError: ``ConfigError`` when the request is refused, ``ReleaseError`` when the model cannot be pruned.
    """
    return run(_words(Prune, {"model": model, "out": out, **words}), told)


def distill(
    teacher: str | PathLike[str],
    student: str | PathLike[str],
    *,
    out: str | PathLike[str],
    told: Told | None = None,
    **words: Any,
) -> Compressed:
    """Teach a Keras model by another one.

    Args:
        teacher: A ``.keras`` file.
        student: A ``.keras`` file: the architecture, and the weights to start from.
        out: The file to write; its report goes beside it.
        told: Is told how it comes along.
        **words: Any other field of `Distil`; paths may be strings.

    Raises:
        EdgeError: ``ConfigError`` when the request is refused.
    """
    return run(_words(Distil, {"teacher": teacher, "student": student, "out": out, **words}), told)


def _words(kind: type[_W], given: dict[str, Any]) -> _W:
    unknown = sorted(set(given) - {field.name for field in msgspec.structs.fields(kind)})
    if unknown:
        raise ConfigError("argument-invalid", f"{kind.__name__.lower()} has no argument {unknown[0]!r}")
    try:
        return msgspec.convert(given, kind, dec_hook=lambda hint, value: Path(value) if hint is Path else value)
    except (msgspec.ValidationError, TypeError) as error:
        raise ConfigError("argument-invalid", str(error)) from error
