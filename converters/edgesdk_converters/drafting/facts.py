"""What data tells a draft: the names of classes, the smallest and largest value of each input."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from edgesdk.contract import Task, load_contract_toml
from edgesdk.errors import ConfigError
from edgesdk_converters.data.inputs import as_npz
from edgesdk_converters.data.npz import DataSet, open_data
from edgesdk_converters.data.tables import check_columns, label_names
from edgesdk_converters.drafting.draft import Facts, draft
from edgesdk_converters.drafting.ports import Ports


def read_facts(given: Sequence[Path], ports: Ports, task: Task | None) -> Facts:
    """Read what `edge convert` takes as data, in memory that does not grow with it; of several sets, what all hold.

    Raises:
        ConfigError: ``file-missing`` or ``data-invalid``, for example where its shapes are not the model's.
    """
    check_columns(given)
    source = " and ".join(each.name for each in given)
    labels = union([_labels(each) for each in given])
    contract = load_contract_toml(draft(ports, source, Facts(labels=labels), task))
    contract = msgspec.structs.replace(contract, labels=labels)  # all of them, whatever the model's outputs hold
    spans = {spec.name: (math.inf, -math.inf) for spec in contract.inputs}
    samples = 0
    with tempfile.TemporaryDirectory() as folder:
        for each in given:
            data = open_data(as_npz(each, contract, Path(folder)), contract, labelled=False)
            samples += data.count
            for name, (low, high) in _spans(data, each).items():
                spans[name] = min(spans[name][0], low), max(spans[name][1], high)
    ranges = {name: plausible(*span) for name, span in spans.items()}
    return Facts(labels=labels, ranges=ranges, samples=samples, source=source)


def _spans(data: DataSet, given: Path) -> dict[str, tuple[float, float]]:
    spans = {spec.name: (math.inf, -math.inf) for spec in data.contract.inputs}
    for batch in data.batches():
        for name, values in batch.items():
            low, high = spans[name]
            # numpy's keep NaN, which `min` forgets.
            spans[name] = float(np.minimum(low, values.min())), float(np.maximum(high, values.max()))
    bad = [name for name, span in spans.items() if not all(map(math.isfinite, span))]
    if bad:
        raise ConfigError("data-invalid", f"{given}: input {bad[0]!r} holds NaN or infinity, or nothing")
    return spans


def union(labels: Sequence[tuple[str, ...]]) -> tuple[str, ...]:
    """Return the names of all sets: in the order of one that has them all, else sorted."""
    every = {name for each in labels for name in each}
    return next((each for each in labels if set(each) == every), tuple(sorted(every)))


def plausible(low: float, high: float) -> tuple[float, float]:
    """Return a range for what was seen: as it is if its ends are plain (0 to 255), else a twentieth wider, rounded."""
    if low == high or all(float(end).is_integer() for end in (low, high)):
        return low, high
    margin = (high - low) / 20
    step = 10.0 ** math.floor(math.log10(margin))
    return math.floor((low - margin) / step) * step, math.ceil((high + margin) / step) * step


def _labels(given: Path) -> tuple[str, ...]:
    """Return the names of classes: folders of pictures or labels by name, sorted; or the array `labels`."""
    if given.is_dir():
        return tuple(sorted(each.name for each in given.iterdir() if each.is_dir() and not each.name.startswith(".")))
    if given.suffix == ".npz" and given.is_file():
        try:
            with np.load(given) as arrays:
                if "labels" in arrays:
                    return tuple(str(each) for each in arrays["labels"])
                named = "y" in arrays and arrays["y"].dtype.kind in "US"
                return tuple(str(each) for each in np.unique(arrays["y"]) if each) if named else ()
        except (OSError, ValueError) as error:
            raise ConfigError("data-invalid", f"{given} is no readable .npz file: {error}") from error
    return label_names(given) if given.is_file() else ()
