"""The calibration doctor: refuses data that would make a quantized model wrong, before anything is converted.

Pure: it reads statistics (`statistics.collect`) and compares the calibration data with the contract and, where there
is one, with the evaluation set. Clean data of independent rows is refused with a probability of at most
`findings.FALSE_ALARMS`, divided evenly among the statistical checks; where sets may differ for natural reasons, a
margin is added to what chance explains. Facts (NaN, a value outside the range, one class) have no such rate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import msgspec

from edgesdk.contract import Contract
from edgesdk.errors import ConfigError
from edgesdk_converters.calibration import rules
from edgesdk_converters.calibration.classes import one_class_unlabelled
from edgesdk_converters.calibration.findings import FALSE_ALARMS, Diagnosis, Finding
from edgesdk_converters.calibration.scale import raw_beside_standard, sizes
from edgesdk_converters.calibration.sensitivity import Model, ask, helped
from edgesdk_converters.calibration.statistics import SetStatistics
from edgesdk_converters.calibration.stories import tell
from edgesdk_converters.calibration.structure import noise

CHECKS_PER_INPUT = 16
"""More than there are statistical checks of one input, its stories included."""


def examine(
    data: SetStatistics, contract: Contract, evaluation: SetStatistics | None = None, model: Model | None = None
) -> Diagnosis:
    """Examine calibration data.

    Args:
        data: Statistics of the calibration data.
        contract: What its values mean.
        evaluation: Statistics of the data that judges; much can only be seen beside it.
        model: The float model of a classification with one input: scores [n, classes] of rows. It is asked where the
            rest found nothing, and sees mistakes that were made in both sets.
    """
    data = _varying(data)
    if evaluation is not None:
        evaluation = replace(evaluation, tensors={name: evaluation.tensors[name] for name in data.tensors})
    checks = CHECKS_PER_INPUT * len(data.tensors)
    unchecked: list[str] = []
    found = list(_examine(data, contract, evaluation, FALSE_ALARMS / checks, unchecked))
    if evaluation is not None and not _refused(found):
        found += _doubled_alike(contract, (data, evaluation), model, FALSE_ALARMS / checks)
    if model is not None and not _refused(found):
        [(name, tensor)] = data.tensors.items()
        found += ask(name, tensor, data.labels, model, FALSE_ALARMS / checks)
    found.sort(key=lambda finding: finding.severity != "refuse")
    return Diagnosis(
        findings=tuple(found), false_alarm_rate=FALSE_ALARMS, checks=checks, unchecked=tuple(dict.fromkeys(unchecked))
    )


def _varying(found: SetStatistics) -> SetStatistics:
    """Leave out inputs that the contract declares constant, by a range of one value, and that are."""
    kept = {
        name: tensor
        for name, tensor in found.tensors.items()
        if tensor.spec.range is None or tensor.spec.range[0] < tensor.spec.range[1] or tensor.outside
    }
    return replace(found, tensors=kept) if kept else found


def refuse(diagnosis: Diagnosis, name: str) -> None:
    """Stop at the first refusal; the message counts the others.

    Raises:
        ConfigError: ``calibration-…``.
    """
    if not diagnosis.refusals:
        return
    first, *others = diagnosis.refusals
    more = f"; and {', '.join(dict.fromkeys(other.code for other in others))}" if others else ""
    raise ConfigError(first.code, f"{name}: {first.sentence()}{more}", hint=first.fix)


def _examine(
    data: SetStatistics, contract: Contract, evaluation: SetStatistics | None, alpha: float, unchecked: list[str]
) -> Iterator[Finding]:
    yield from rules.not_finite(data)
    values = [*rules.constant(data, evaluation, alpha), *rules.repeated(data, evaluation, alpha)]
    yield from values
    yield from rules.leaks(data)
    if evaluation is not None:
        yield from rules.overlap(data, evaluation)
    yield from rules.too_few(data)
    yield from rules.classes(data, evaluation, alpha)
    if any(finding.code == "calibration-constant" and finding.severity == "refuse" for finding in values):
        unchecked.append("everything that compares values: they are constant")
        return
    if evaluation is None:
        unchecked.append("layout, colours, sizes and classes without labels: give evaluation data to compare with")
        yield from rules.contract_scale(contract, data, alpha)
    compared = [found for name in data.tensors for found in _compare(name, data, evaluation, alpha, unchecked)]
    ranged = list(rules.out_of_range(data))
    doubled = any(finding.code == "calibration-double-normalised" for finding in compared)
    if not doubled or rules.beyond_normalisation(data):  # a fact before a guess, unless the guess explains it
        yield from ranged
        ranged = []
    yield from compared
    if evaluation is not None and data.labels is None and not _refused(compared):
        yield from one_class_unlabelled(data, evaluation, alpha, unchecked)  # spoilt rows look like one class too
    yield from ranged


def _refused(found: Iterable[Finding]) -> bool:
    return any(finding.severity == "refuse" for finding in found)


def _doubled_alike(
    contract: Contract, sets: tuple[SetStatistics, SetStatistics], model: Model | None, alpha: float
) -> Iterator[Finding]:
    """Yield what looks normalised in both sets, so that neither looks odd beside the other.

    Where there are labels and a model that is no more often right once it is undone, the contract's own figures may
    well be what is wrong: that warns.
    """
    data, evaluation = sets
    there = {finding.where for finding in rules.contract_scale(contract, evaluation, alpha)}
    for finding in rules.contract_scale(contract, data, alpha):
        if finding.where in there:
            doubted = model is not None and data.labels is not None and not helped(data, data.labels, model)
            yield msgspec.structs.replace(
                finding,
                severity="warn" if doubted else "refuse",
                what=f"{finding.what}, in the evaluation set too",
                fix=f"{finding.fix} Correct both sets.",
            )


def _compare(
    name: str, data: SetStatistics, evaluation: SetStatistics | None, alpha: float, unchecked: list[str]
) -> Iterator[Finding]:
    """Yield what explains a difference best: noise, else a mistake that was played, else plain size."""
    tensor = data.tensors[name]
    other = evaluation.tensors[name] if evaluation is not None else None
    found = list(noise(name, tensor, other, alpha, unchecked))
    if not found and other is not None:
        found = list(tell(name, tensor, other, alpha, unchecked))
        if not _refused(found):
            found += list(raw_beside_standard(name, tensor, other, alpha)) or sizes(name, tensor, other, alpha)
    yield from found
