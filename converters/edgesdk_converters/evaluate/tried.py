"""Would a float model answer right more often if its inputs were prepared in another way?

The usual preparations are tried on a few rows: none, 0 to 1, -1 to 1, ImageNet's, the data's own mean and deviation,
and each with the colours exchanged. What is found is a hint for people; nothing is corrected by itself.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgesdk.bundle.decode import channel_axis
from edgesdk.contract import Contract, Normalisation, TensorSpec
from edgesdk.runtime import describe_artifact
from edgesdk_converters.calibration.doctor import CHECKS_PER_INPUT
from edgesdk_converters.calibration.findings import FALSE_ALARMS
from edgesdk_converters.calibration.rules import contract_scale
from edgesdk_converters.calibration.statistics import summarise
from edgesdk_converters.data.binding import bind
from edgesdk_converters.data.npz import class_names, open_data
from edgesdk_converters.evaluate.measure import open_draft
from edgesdk_converters.evaluate.metrics import decide
from edgesdk_converters.evaluate.source import at_random
from edgesdk_converters.running.isolation import Call

ROWS = 200
ALIKE = 0.05
"""Share of rows by which two ways differ that are about as good."""
MOST_S = 60.0
"""Time for all ways; what is slower is not tried."""
COLOURS = 3
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and deviation of red, green and blue in [0, 1], as torchvision's models were trained with."""


@dataclass(frozen=True, kw_only=True)
class Way:
    """One preparation.

    Attributes:
        normalisation: In the contract's words; None for none.
        flipped: Whether the colours are exchanged first.
    """

    normalisation: Normalisation | None
    flipped: bool = False


def ways(spec: TensorSpec, samples: NDArray[Any]) -> list[Way]:
    """Return the preparations to try for one input, that of the contract left out.

    Args:
        spec: The input.
        samples: Some rows, ``(N, *shape)``, in the app's units.
    """
    axis = channel_axis(spec) % len(spec.shape)
    rows = samples.reshape(len(samples), *spec.shape)
    channels = rows.shape[axis + 1]
    found = list(dict.fromkeys(_normalisations(rows, axis + 1, channels)))
    plain = [Way(normalisation=each) for each in found if each != spec.normalisation]
    coloured = spec.colour in {"RGB", "BGR"} and channels == COLOURS
    return [*plain, *(Way(normalisation=each, flipped=True) for each in (found if coloured else []))]


def _normalisations(rows: NDArray[Any], axis: int, channels: int) -> Iterator[Normalisation | None]:
    def all_alike(mean: float, std: float) -> Normalisation:
        return Normalisation(mean=(mean,) * channels, std=(std,) * channels)

    yield None
    yield from (all_alike(0.0, 255.0), all_alike(127.5, 127.5), all_alike(0.5, 0.5))
    if channels == COLOURS:
        mean, std = IMAGENET
        yield Normalisation(mean=mean, std=std)
        yield Normalisation(mean=tuple(255 * each for each in mean), std=tuple(255 * each for each in std))
    others = tuple(place for place in range(rows.ndim) if place != axis)
    mean, std = rows.mean(axis=others, dtype=np.float64), rows.std(axis=others, dtype=np.float64)
    if (std > 0).all():
        yield Normalisation(mean=_rounded(mean), std=_rounded(std))
        yield all_alike(*_rounded([rows.mean(dtype=np.float64), rows.std(dtype=np.float64)]))


def _rounded(values: Sequence[float] | NDArray[np.float64]) -> tuple[float, ...]:
    return tuple(float(f"{value:.4g}") for value in values)


def retry(call: Call) -> dict[str, Any]:
    """Child action: run float file ``artifact`` on rows of ``evaluation`` prepared in other ways; answer the best.

    Answers ``{"rows", "right", "now", "expected", "deviation", "normalisation", "flipped", "doubled"}`` of the way that
    is `best` (`now`: as the contract says; `doubled`: the data looks as if the contract's normalisation had
    been applied to it already), or ``{}`` where there is none to try, or all would take too long.
    """
    contract = msgspec.convert(call.params["contract"], Contract)
    data = open_data(call.inputs["evaluation"], contract, labelled=False)
    [spec, *others] = contract.inputs
    if others or spec.dtype != "float32" or data.labels is None or any(isinstance(size, str) for size in spec.shape):
        return {}
    chosen = np.unique(np.linspace(0, data.count - 1, min(ROWS, data.count)).astype(np.int64))
    samples, truth = data.take(chosen)[spec.name], data.labels[chosen]
    found: list[dict[str, Any]] = []
    tried = ways(spec, samples)
    started = time.monotonic()
    statistics = summarise(contract, {spec.name: samples})
    doubled = any(contract_scale(contract, statistics, FALSE_ALARMS / CHECKS_PER_INPUT))
    now = _answers(call, contract, Way(normalisation=spec.normalisation), samples)
    if (time.monotonic() - started) * len(tried) > MOST_S:
        return {}
    for place, way in enumerate(tried):
        answers = _answers(call, contract, way, samples)
        right = int(np.count_nonzero(answers == truth))
        expected, deviation = at_random(answers, truth, len(class_names(contract)))
        found.append(
            {
                "rows": len(truth),
                "right": right,
                "now": int(np.count_nonzero(now == truth)),
                "expected": expected,
                "deviation": deviation,
                "normalisation": msgspec.to_builtins(way.normalisation),
                "flipped": way.flipped,
                "doubled": doubled and way == Way(normalisation=None),
            }
        )
        call.progress(place + 1, len(tried))
    return best(found)


def best(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return what is right most often; where data looks normalised already and about as much is right then, that.

    The data's own mean and deviation do nothing to such data: it is what it looks like.
    """
    most = max(found, key=lambda each: each["right"], default={})
    return next(
        (each for each in found if each["doubled"] and each["right"] > most["right"] - ALIKE * most["rows"]), most
    )


def _answers(call: Call, contract: Contract, way: Way, samples: NDArray[Any]) -> NDArray[np.int64]:
    [spec] = contract.inputs
    changed = msgspec.structs.replace(spec, normalisation=way.normalisation)
    contract = msgspec.structs.replace(contract, inputs=(changed,))
    runtime = call.params["runtime"], call.params["package"]
    axis = channel_axis(spec) % len(spec.shape)
    bindings = bind(contract, *describe_artifact(call.inputs["artifact"], runtime[0], options={"package": runtime[1]}))
    first = contract.outputs[0].name
    answers = []
    with (
        tempfile.TemporaryDirectory(dir=call.out.parent) as folder,
        open_draft(Path(folder), call.inputs["artifact"], contract, bindings, runtime) as session,
    ):
        for sample in samples:
            row = sample.reshape(spec.shape)
            given = np.ascontiguousarray(np.flip(row, axis)) if way.flipped else row
            answers.append(session.run_timed({spec.name: given})[0][first].reshape(1, -1))
    return decide(np.concatenate(answers))
