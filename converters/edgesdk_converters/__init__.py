"""Convert trained models for targets, with proof that an artifact is as good as its source, or refuse with the cause.

`convert` speaks the words of `edge convert` (see `edgesdk_converters.request.Request`). Before it, `prune` and
`distill` make Keras models smaller (`edgesdk_converters.compress.words`).
"""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgesdk_converters.compress.api import distill, prune
    from edgesdk_converters.compress.run import Compressed
    from edgesdk_converters.pipeline import Conversion, PlanObserver
    from edgesdk_converters.request import Request

__all__ = ["ALPHA", "MAX_DROP", "Compressed", "Conversion", "Request", "convert", "distill", "prune"]

MAX_DROP = 0.01
"""Default of the accuracy gate: the largest loss against the float source, as a fraction of samples."""

ALPHA = 0.01
"""Error rate of each of the gate's two tests: how often it may be wrong about a model."""

_HOME = {
    "Compressed": "edgesdk_converters.compress.run",
    "Conversion": "edgesdk_converters.pipeline",
    "Request": "edgesdk_converters.request",
    "distill": "edgesdk_converters.compress.api",
    "prune": "edgesdk_converters.compress.api",
}


def convert(
    *models: str | PathLike[str],
    name: str,
    release: str,
    targets: Sequence[str] | str,
    contract: str | PathLike[str],
    out: str | PathLike[str],
    observer: PlanObserver | None = None,
    **words: Any,
) -> Conversion:
    """Convert, evaluate, gate and pack a model into a release folder.

    Args:
        models: Source files: a ``.keras``, or float exports ``.tflite`` and ``.onnx``.
        name: The model's name.
        release: Its version.
        targets: Names of hardware profiles, or one.
        contract: TOML file of the contract.
        out: Folder of the release.
        observer: Is told how it comes along.
        **words: Any other field of `Request`; paths may be strings, and one recipe or format may stand alone.

    Raises:
        EdgeError: ``ReleaseError`` when the artifact is refused, ``ConfigError`` when the request is.
    """
    from pathlib import Path  # noqa: PLC0415 - `edge convert --help` imports this package

    import msgspec  # noqa: PLC0415 - see above

    from edgesdk.errors import ConfigError  # noqa: PLC0415 - see above
    from edgesdk_converters.pipeline import run  # noqa: PLC0415 - see above
    from edgesdk_converters.request import Request, explained  # noqa: PLC0415 - see above

    given = {
        "models": tuple(Path(model) for model in models),
        "name": name,
        "release": release,
        "targets": targets,
        "contract": contract,
        "out": out,
        **words,
    }
    given |= {word: (given[word],) for word in ("targets", "recipes", "formats") if isinstance(given.get(word), str)}
    unknown = sorted(set(given) - {field.name for field in msgspec.structs.fields(Request)})
    if unknown:
        raise ConfigError("argument-invalid", f"convert has no argument {unknown[0]!r}")

    def to_path(kind: type, value: Any) -> Any:
        return Path(value) if kind is Path else value

    try:
        request = msgspec.convert(given, Request, dec_hook=to_path)
    except (msgspec.ValidationError, TypeError) as error:
        raise ConfigError("argument-invalid", explained(error)) from error
    return run(request, observer)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        msg = f"module 'edgesdk_converters' has no attribute {name!r}"
        raise AttributeError(msg)
    from importlib import import_module  # noqa: PLC0415 - nothing is imported before it is used

    return getattr(import_module(_HOME[name]), name)
