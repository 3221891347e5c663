"""What `edge data inspect` says it read: plain data, and the lines that people see."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from edgesdk.contract import Contract
from edgesdk_converters.calibration.doctor import examine
from edgesdk_converters.calibration.statistics import SetStatistics, TensorStatistics, collect
from edgesdk_converters.data.inputs import as_npz
from edgesdk_converters.data.npz import DataSet, open_data
from edgesdk_converters.data.tables import check_columns
from edgesdk_converters.running.cache import default_cache_dir

SHOWN_CHANNELS = 16


def inspect(path: Path, contract: Contract, against: Path | None = None) -> dict[str, Any]:
    """Read a data file once, and examine it as calibration data, beside evaluation data if that is given.

    Raises:
        ConfigError: ``file-missing``, ``data-invalid`` or ``dependency-missing``.
    """
    check_columns((against, path))
    made = default_cache_dir() / "data"
    data = open_data(as_npz(path, contract, made), contract, labelled=False)
    found = collect(data)
    beside = as_npz(against, contract, made) if against is not None else None
    evaluation = collect(open_data(beside, contract, labelled=False)) if beside is not None else None
    diagnosis = examine(found, contract, evaluation)
    return {
        "file": path.name,
        "against": against.name if against is not None else None,
        **_describe(data, found),
        **msgspec.to_builtins(diagnosis),
        "fit": not diagnosis.refusals,
    }


def lines(report: dict[str, Any]) -> Iterator[str]:
    """Yield what people see of a report."""
    yield f"{report['file']}: {report['rows']} rows, {report['distinct_rows']} different"
    for tensor in report["inputs"]:
        span = "no finite value" if tensor["low"] is None else f"[{tensor['low']:g}, {tensor['high']:g}]"
        promised = f", contract {tensor['range']}" if tensor["range"] else ""
        stored = f"array {tensor['array']!r}, {tensor['dtype']} {tensor['shape']}"
        yield f"input {tensor['name']}: {stored}, {span}{promised}"
        bad = {key: tensor[key] for key in ("not_finite", "outside_range", "blank") if tensor[key]}
        if bad:
            yield "  rows: " + ", ".join(f"{count} {key.replace('_', ' ')}" for key, count in bad.items())
        for index, channel in enumerate(tensor["channels"][:SHOWN_CHANNELS]):
            yield (
                f"  channel {index}: mean {channel['mean']:.4g}, deviation {channel['std']:.4g}, "
                f"[{channel['low']:.4g}, {channel['high']:.4g}]"
            )
        if len(tensor["channels"]) > SHOWN_CHANNELS:
            yield f"  and {len(tensor['channels']) - SHOWN_CHANNELS} channels more (--json)"
    if report["classes"] is not None:
        yield "classes: " + ", ".join(f"{label} {count}" for label, count in report["classes"].items())
    for finding in report["findings"]:
        number = f"{finding['measure']} {finding['evidence']:.4g}, limit {finding['threshold']:.4g}"
        yield f"{finding['severity']}: {finding['where']}: {finding['what']} ({number}) [{finding['code']}]"
        yield f"  do:  {finding['fix']}"
    for what in report["unchecked"]:
        yield f"not checked: {what}"
    rate = f"clean data is refused at most {report['false_alarm_rate']:.1%} of the time"
    yield f"fit to calibrate ({rate})" if report["fit"] else "not fit to calibrate"


def _describe(data: DataSet, found: SetStatistics) -> dict[str, Any]:
    return {
        "rows": found.count,
        "distinct_rows": found.rows.distinct,
        "repeated_share": found.rows.repeated_share,
        "classes": found.class_counts,
        "inputs": [_tensor(name, data.members[name], tensor) for name, tensor in found.tensors.items()],
    }


def _tensor(name: str, member: str, tensor: TensorStatistics) -> dict[str, Any]:
    columns = (tensor.mean, tensor.std, tensor.channel_low, tensor.channel_high)
    return {
        "name": name,
        "array": member,
        "dtype": tensor.dtype,
        "shape": ["N", *tensor.sample.shape[1:]],
        "layout": tensor.spec.layout,
        "range": list(tensor.spec.range) if tensor.spec.range is not None else None,
        "low": tensor.low if math.isfinite(tensor.low) else None,
        "high": tensor.high if math.isfinite(tensor.high) else None,
        "not_finite": tensor.not_finite,
        "outside_range": tensor.outside,
        "blank": tensor.blank,
        "channels": [
            dict(zip(("mean", "std", "low", "high"), (float(value) for value in values), strict=True))
            for values in zip(*columns, strict=True)
        ]
        if tensor.rows
        else [],
    }
