"""Checks of the values themselves: not finite, out of range, constant, repeated, too few, one class, labels as inputs.

Every function is pure and returns what it found. `alpha` is the probability with which one may refuse clean data of
independent rows; checks without it are facts that clean data does not have.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgesdk.contract import Contract, TensorSpec
from edgesdk.stats import clopper_pearson
from edgesdk_converters.calibration.findings import Finding, share_error
from edgesdk_converters.calibration.statistics import SetStatistics, TensorStatistics

COVERAGE, CONFIDENCE = 0.90, 0.95
GOOD_COVERAGE = 0.95
BLANK_SHARE = 0.10
REPEATED_SHARE = 0.30
USED_RANGE = 0.02
MAX_ALL_CHANNELS = 16
"""With more channels than this a constant one is ordinary (a border pixel)."""


def not_finite(data: SetStatistics) -> Iterator[Finding]:
    """Find rows with NaN or infinity."""
    for name, tensor in data.tensors.items():
        if tensor.not_finite:
            yield Finding(
                code="calibration-not-finite",
                severity="refuse",
                what="rows hold NaN or infinity",
                where=f"input {name!r}, first in row {tensor.first_not_finite}",
                measure="rows",
                evidence=tensor.not_finite,
                threshold=0,
                fix="Remove or repair these rows; look for divisions by zero and missing readings.",
            )


def out_of_range(data: SetStatistics) -> Iterator[Finding]:
    """Find values outside the contract's range, and data that uses next to nothing of it."""
    for name, tensor in data.tensors.items():
        if tensor.spec.range is None or not tensor.rows:
            continue
        low, high = tensor.spec.range
        used = (tensor.high - tensor.low) / (high - low) if high > low else 1.0
        if tensor.outside:
            yield _outside(name, tensor)
        elif 0 < used < USED_RANGE:
            yield Finding(
                code="calibration-range",
                severity="refuse",
                what=f"values lie in [{tensor.low:g}, {tensor.high:g}] where the contract promises [{low:g}, {high:g}]",
                where=f"input {name!r}",
                measure="share of the range that is used",
                evidence=used,
                threshold=USED_RANGE,
                fix="Give data in the contract's units: this looks already scaled.",
            )


def beyond_normalisation(data: SetStatistics) -> bool:
    """Say whether values are larger than the contract's range allows, before its normalisation and after it."""
    return any(
        max(abs(tensor.low), abs(tensor.high)) > _largest(tensor.spec)
        for tensor in data.tensors.values()
        if tensor.spec.range is not None and tensor.outside
    )


def _largest(spec: TensorSpec) -> float:
    edges = np.abs(np.asarray(spec.range, np.float64))
    if spec.normalisation is None:
        return float(edges.max())
    mean, std = (np.asarray(each)[:, None] for each in (spec.normalisation.mean, spec.normalisation.std))
    return float(max(edges.max(), np.abs((np.asarray(spec.range) - mean) / std).max()))


def _outside(name: str, tensor: TensorStatistics) -> Finding:
    assert tensor.spec.range is not None
    low, high = tensor.spec.range
    raw = high <= 1 and tensor.high > 16 * max(high, 1e-9)
    what = f"values lie in [{tensor.low:g}, {tensor.high:g}], outside the contract's [{low:g}, {high:g}]"
    return Finding(
        code="calibration-not-normalised" if raw else "calibration-range",
        severity="refuse",
        what=what,
        where=f"input {name!r}, first in row {tensor.first_outside}",
        measure="rows",
        evidence=tensor.outside,
        threshold=0,
        fix="Scale the data as the app does (by 1/255 for 8-bit images)."
        if raw
        else "Give data in the contract's units, before any normalisation, or correct the contract's range.",
    )


def constant(data: SetStatistics, evaluation: SetStatistics | None, alpha: float) -> Iterator[Finding]:
    """Find inputs or channels that never vary, and rows that are blank."""
    for name, tensor in data.tensors.items():
        other = evaluation.tensors[name] if evaluation is not None else None
        if not tensor.rows:
            continue
        if tensor.low == tensor.high:
            yield _constant(f"input {name!r}", f"every value is {tensor.low:g}", tensor.rows)
            continue
        yield from _dead_channels(name, tensor, other, alpha)
        natural = clopper_pearson(other.blank, other.rows, alpha)[1] if other is not None and other.rows else 0.0
        limit = max(BLANK_SHARE, natural)
        surely = clopper_pearson(tensor.blank, tensor.rows, 2 * alpha)[0]
        if surely > limit:
            yield Finding(
                code="calibration-constant",
                severity="refuse",
                what="rows hold one value everywhere",
                where=f"input {name!r}",
                measure=f"{tensor.blank} of {tensor.rows} rows, surely a share of",
                evidence=surely,
                threshold=limit,
                fix="Remove blank rows: they teach no range.",
            )


def _constant(where: str, what: str, rows: int) -> Finding:
    return Finding(
        code="calibration-constant",
        severity="refuse",
        what=what,
        where=where,
        measure="rows without any variation",
        evidence=rows,
        threshold=0,
        fix="Give recordings of real inputs; look for a sensor, file or loader that returns nothing.",
    )


def _dead_channels(
    name: str, tensor: TensorStatistics, other: TensorStatistics | None, alpha: float
) -> Iterator[Finding]:
    """Find channels that vary in the evaluation set so often that this many rows could not have missed it."""
    for channel in np.flatnonzero(tensor.channel_low == tensor.channel_high):
        where, value = f"input {name!r}, channel {channel}", tensor.channel_low[channel]
        if other is None:
            if tensor.channels <= MAX_ALL_CHANNELS:
                finding = _constant(where, f"every value is {value:g}", tensor.rows)
                yield Finding(**{**{f: getattr(finding, f) for f in finding.__struct_fields__}, "severity": "warn"})
            continue
        values = np.moveaxis(other.sample, 1 + (other.channel or 0), 1)[:, channel].reshape(len(other.sample), -1)
        varied = int(np.count_nonzero((values != np.float32(value)).any(axis=1)))
        often = clopper_pearson(varied, len(values), alpha)[0]
        if (1 - often) ** tensor.rows < alpha / tensor.channels:
            yield _constant(where, f"every value is {value:g}, and it varies in the evaluation set", tensor.rows)


def repeated(data: SetStatistics, evaluation: SetStatistics | None, alpha: float) -> Iterator[Finding]:
    """Find a share of repeated rows that is far above what the evaluation set holds."""
    natural = evaluation.rows.repeated_share + share_error(evaluation.count, alpha) if evaluation is not None else 0.0
    for severity, margin in (("refuse", REPEATED_SHARE), ("warn", REPEATED_SHARE / 3)):
        limit = min(0.98, max(margin, natural) + share_error(data.count, alpha))
        if data.rows.repeated_share > limit:
            yield Finding(
                code="calibration-repeated",
                severity="refuse" if severity == "refuse" else "warn",
                what=f"only {data.rows.distinct} of {data.count} rows differ from each other",
                where="all inputs",
                measure="share of repeated rows",
                evidence=data.rows.repeated_share,
                threshold=limit,
                fix="Give different recordings: a repeated row adds nothing to a range.",
            )
            return


def too_few(data: SetStatistics) -> Iterator[Finding]:
    """Find sets whose minimum and maximum say too little about what comes next (Wilks 1941, tolerance limits)."""
    distinct = data.rows.distinct
    for severity, coverage in (("refuse", COVERAGE), ("warn", GOOD_COVERAGE)):
        needed = rows_needed(coverage, CONFIDENCE)
        if distinct < needed:
            yield Finding(
                code="calibration-few",
                severity="refuse" if severity == "refuse" else "warn",
                what=f"with {CONFIDENCE:.0%} confidence these ranges do not hold {coverage:.0%} of what will come",
                where="all inputs",
                measure="different rows",
                evidence=distinct,
                threshold=needed,
                fix=f"Give at least {needed} different rows, better {rows_needed(GOOD_COVERAGE, CONFIDENCE)} or more.",
            )
            return


def rows_needed(coverage: float, confidence: float) -> int:
    """Return the smallest n whose [minimum, maximum] holds `coverage` of a population with `confidence`.

    Wilks 1941, "Determination of sample sizes for setting tolerance limits": the confidence for n rows is
    ``1 - n c^(n-1) + (n - 1) c^n``, whatever the distribution.
    """
    rows = 2
    while 1 - rows * coverage ** (rows - 1) + (rows - 1) * coverage**rows < confidence:
        rows += 1
    return rows


def classes(data: SetStatistics, evaluation: SetStatistics | None, alpha: float) -> Iterator[Finding]:
    """Find labelled data of one class, and classes that are missing though they are common in the evaluation set."""
    counts = data.class_counts
    if counts is None or len(counts) < 2:  # noqa: PLR2004 - one class is no classification
        return
    present = [label for label, count in counts.items() if count]
    if len(present) == 1:
        yield Finding(
            code="calibration-one-class",
            severity="refuse",
            what=f"every row is of class {present[0]!r}",
            where="labels",
            measure="classes",
            evidence=1,
            threshold=2,
            fix="Take rows of every class; a folder per class was perhaps read only once.",
        )
        return
    usual = evaluation.class_counts if evaluation is not None else None
    for label in [label for label, count in counts.items() if not count and usual and usual.get(label)]:
        assert usual is not None
        often = clopper_pearson(usual[label], sum(usual.values()), alpha)[0]
        chance = (1 - often) ** data.count
        if chance < alpha:
            yield Finding(
                code="calibration-one-class",
                severity="warn",
                what=f"no row is of class {label!r}, which the evaluation set holds",
                where="labels",
                measure="probability of that by chance",
                evidence=chance,
                threshold=alpha,
                fix="Take rows of every class.",
            )


def leaks(data: SetStatistics, what: str = "these rows") -> Iterator[Finding]:
    """Find labels among the inputs: a value, or one per class, that tells the class of every row without an error."""
    if data.labels is None:
        return
    for name, tensor in data.tensors.items():
        labels = data.labels[tensor.sample_rows]
        known = np.unique(labels)
        if len(known) < 2 or len(labels) < rows_needed(COVERAGE, CONFIDENCE):  # noqa: PLR2004 - see `classes`
            continue
        place = _telling_value(tensor.flat, labels, known)
        if place is not None:
            position = tuple(int(i) for i in np.unravel_index(place[0], tensor.sample.shape[1:]))
            yield Finding(
                code="calibration-leak",
                severity="refuse",
                what=f"{place[1]} the class of every row of {what}",
                where=f"input {name!r}, position {position}",
                measure="rows without exception",
                evidence=len(labels),
                threshold=0,
                fix="Take the label out of the inputs, here and where the model was trained.",
            )


def _telling_value(flat: NDArray[Any], labels: NDArray[Any], known: NDArray[Any]) -> tuple[int, str] | None:
    low = np.stack([flat[labels == k].min(axis=0) for k in known])
    high = np.stack([flat[labels == k].max(axis=0) for k in known])
    fixed = (low == high).all(axis=0)
    different = (np.diff(np.sort(low, axis=0), axis=0) > 0).all(axis=0)
    single = np.flatnonzero(fixed & different)
    if len(single):
        return int(single[0]), "one value gives away"
    values = np.where(fixed, low, np.nan)
    marks = []
    for k in range(len(known)):
        rest = np.delete(values, k, axis=0)
        indicator = fixed & (rest == rest[:1]).all(axis=0) & (values[k] != rest[0])
        places = np.flatnonzero(indicator)
        if not len(places):
            return None
        marks.append(int(places[0]))
    return min(marks), f"{len(known)} values, one per class, give away"


def overlap(data: SetStatistics, evaluation: SetStatistics) -> Iterator[Finding]:
    """Find rows that calibrate and judge."""
    share = data.rows.shared_with(evaluation.rows)
    if share > 0:
        yield Finding(
            code="calibration-overlap",
            severity="refuse",
            what="rows are in the evaluation set too",
            where="all inputs",
            measure="share of rows",
            evidence=share,
            threshold=0,
            fix="Keep the two sets apart: what calibrated a model must not judge it.",
        )


def contract_scale(contract: Contract, data: SetStatistics, alpha: float) -> Iterator[Finding]:
    """Find data that looks like what the contract's normalisation makes of clean data, whatever it is compared with.

    Clean channels have about the normalisation's mean m and deviation s, normalised ones about 0 and 1. The distance
    of a channel is ``((mean - m) / s)² + ln(std / s)²``, averaged over channels.
    """
    del contract
    for name, tensor in data.tensors.items():
        normalisation = tensor.spec.normalisation
        if normalisation is None or not tensor.rows or len(normalisation.mean) not in {1, tensor.channels}:
            continue
        m, s = np.asarray(normalisation.mean), np.asarray(normalisation.std)
        std = np.maximum(tensor.std, 1e-12)
        as_raw = float(np.mean(((tensor.mean - m) / s) ** 2 + np.log(std / s) ** 2))
        as_normalised = float(np.mean(tensor.mean**2 + np.log(std) ** 2))
        apart = float(np.mean((m / s) ** 2 + np.log(s) ** 2))
        limit = apart / 4 + math.log(1 / alpha) / tensor.rows
        if as_raw > limit and as_normalised < as_raw / 4:
            yield Finding(
                code="calibration-double-normalised",
                severity="refuse",
                what="channels have mean 0 and deviation 1 before the contract's normalisation is applied",
                where=f"input {name!r}",
                measure="distance from the contract's mean and deviation",
                evidence=as_raw,
                threshold=limit,
                fix="Give data in the app's units: the runtime applies the contract's normalisation itself.",
            )
