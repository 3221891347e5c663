"""The testing worker: runs a newcomer on golden sets before any app sees it, in a process that may die of it.

    python -m edgesdk_agent.workers.testing   one `workers.messages.JudgeNewcomer` on stdin

The judges: the newcomer's own parity (is this device computing it right?) and truth, then the truth of the incumbent
(the good generation) and the anchor set of the signed policy. A judge's own contract says which loss it tolerates, so
that a newcomer cannot set the bar for itself.
"""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgesdk.bundle.decode import decode_manifest
from edgesdk.bundle.golden import TruthData, load_parity, load_truth
from edgesdk.bundle.layout import MANIFEST_NAME
from edgesdk.bundle.manifest import Manifest
from edgesdk.errors import ConfigError, ContractError, DeploymentError, EdgeError, ReleaseError
from edgesdk.protocol.messages import Reason
from edgesdk.runtime import Session, open_session
from edgesdk_agent.workers.child import serve
from edgesdk_agent.workers.judging import (
    Array,
    Flags,
    answered_label,
    compare_labels,
    compare_parity,
    judge_growth,
    judge_slowdown,
    judge_truth,
    not_comparable,
)
from edgesdk_agent.workers.measuring import takes, time_calls, time_in_turn, watch_memory
from edgesdk_agent.workers.messages import (
    GrowthResult,
    Judge,
    Judgement,
    JudgeNewcomer,
    LatencyResult,
    ParityResult,
    SlowdownResult,
    TruthResult,
)

NICENESS = 5
MAX_OPEN_FILES = 256
MAX_FILE_BYTES = 64 << 20
MAX_TIMED = 200
TIMING_SHARE = 0.1
"""Part of the policy's time for testing that each of the repeated measurements may take."""
SLOWER = (
    "Use a smaller model; or another runtime on the device (`runtime` in agent.toml), as some take longer with int8"
    " than with float; or allow it: `edge fleet deploy --trial-max-slowdown`."
)


@dataclass(frozen=True, slots=True)
class _Unpacked:
    """An unpacked bundle."""

    folder: Path
    manifest: Manifest

    def read(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()

    def truth(self) -> TruthData | None:
        return load_truth(self.read, self.manifest)

    def open(self, options: Mapping[str, Any]) -> Session:
        return open_session(self.folder, self.manifest, options=options.get("runtime"))


def limit(request: JudgeNewcomer) -> None:
    """Limit this process: memory, processor time, files. Wall time is the parent's."""
    seconds = math.ceil(request.policy.testing_seconds) * (os.cpu_count() or 1) + 1
    limits = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_FSIZE: MAX_FILE_BYTES,
        resource.RLIMIT_NOFILE: MAX_OPEN_FILES,
    }
    if request.policy.testing_memory_bytes:
        limits[resource.RLIMIT_AS] = request.policy.testing_memory_bytes
    for what, most in limits.items():
        _, hard = resource.getrlimit(what)
        value = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(what, (value, value))
    with suppress(OSError):
        os.nice(NICENESS)


def judge(request: JudgeNewcomer) -> Judgement:
    """Judge a newcomer; what it did wrong is in the judgement, not an exception."""
    try:
        return _judge(request)
    except (ReleaseError, ContractError, ConfigError) as error:
        return _refused(Judgement(passed=False), error)
    except MemoryError:
        return _too_large(request)
    except DeploymentError as error:
        if request.policy.testing_memory_bytes and error.code == "runtime-conflict":
            return _too_large(request)  # the runtime itself found no room
        raise


def _judge(request: JudgeNewcomer) -> Judgement:
    newcomer = _unpacked(request.newcomer)
    with newcomer.open(request.options) as session:
        parity = _parity(session, newcomer)
        truth = tuple(_truths(session, newcomer, request))
        growth = _growth(session, newcomer, request)
        latency = _latency(session, newcomer, request)
        slowdown = _slowdown(session, newcomer, request)
        facts = Judgement(
            passed=True,
            weak=not truth or any(result.verdict == "weak" for result in truth),
            parity=parity,
            truth=truth,
            latency=latency,
            slowdown=slowdown,
            growth=growth,
            peak_memory=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            backend=session.backend,
            provider=session.provider,
        )
    error = _parity_error(parity) or _truth_error(truth) or _cost_error(growth, latency, slowdown)
    return _refused(facts, error) if error else facts


def _unpacked(folder: str) -> _Unpacked:
    path = Path(folder)
    return _Unpacked(path, decode_manifest((path / MANIFEST_NAME).read_bytes()))


def _examples(inputs: Mapping[str, Array]) -> Iterator[dict[str, Array]]:
    count = len(next(iter(inputs.values())))
    for index in range(count):
        yield {name: array[index] for name, array in inputs.items()}


def _parity(session: Session, newcomer: _Unpacked) -> ParityResult | None:
    data = load_parity(newcomer.read, newcomer.manifest)
    golden = newcomer.manifest.golden.parity
    if data is None or golden is None:
        return None
    answers = [session.run(example) for example in _examples(data.inputs)]
    for answer in answers:
        session.check_finite(answer)
    try:
        found = {name: np.stack([answer[name] for answer in answers]) for name in data.outputs}
        return compare_parity(data.outputs, found, golden.tolerances)
    except ValueError as error:
        raise ReleaseError("golden-mismatch", f"outputs have another shape than expected: {error}") from error


def _truths(session: Session, newcomer: _Unpacked, request: JudgeNewcomer) -> Iterator[TruthResult]:
    """Yield the verdict of every judge that has labelled examples."""
    if newcomer.manifest.contract.task != "classification":
        return
    incumbent = _unpacked(request.incumbent) if request.incumbent else None
    anchor = _unpacked(request.anchor) if request.anchor else None
    judges: list[tuple[Judge, _Unpacked | None]] = [("own", newcomer), ("incumbent", incumbent), ("anchor", anchor)]
    for name, bundle in judges:
        data = bundle.truth() if bundle is not None else None
        if bundle is None or data is None:
            continue
        answers = _answers_to(bundle, data, session, newcomer)
        if answers is None:
            yield not_comparable(name)
            continue
        reference = _reference(name, data, incumbent, request)
        margin = bundle.manifest.contract.margin
        yield judge_truth(name, answers, reference, margin=margin, alpha=request.policy.alpha)


def _answers_to(judge: _Unpacked, data: TruthData, session: Session, newcomer: _Unpacked) -> Flags | None:
    """Return which examples the newcomer gets right; None if a new major of the contract takes other inputs."""
    try:
        return _flags(session, newcomer, data)
    except ContractError:
        if judge.manifest.contract.major == newcomer.manifest.contract.major:
            raise
        return None


def _reference(name: Judge, data: TruthData, incumbent: _Unpacked | None, request: JudgeNewcomer) -> Flags | None:
    """Return whom the newcomer is compared with: stored answers, or the incumbent's on the anchor set.

    An anchor set's own answers count only for a first release: they are those of the release it was made from.
    """
    if data.correct is not None and (name != "anchor" or incumbent is None):
        return data.correct
    if name == "own" or incumbent is None:
        return None
    try:
        with incumbent.open(request.incumbent_options) as session:
            return _flags(session, incumbent, data)
    except EdgeError:
        return None


def _flags(session: Session, bundle: _Unpacked, data: TruthData) -> Flags:
    contract = bundle.manifest.contract
    answers = [answered_label(contract, session.run(example)) for example in _examples(data.inputs)]
    return compare_labels(answers, data.names())


def _calls(bundle: _Unpacked) -> list[dict[str, Array]]:
    """Return inputs to time calls with: those of the parity set, else of the truth set."""
    data = load_parity(bundle.read, bundle.manifest) or bundle.truth()
    return (
        [] if data is None else [example for example, _ in zip(_examples(data.inputs), range(MAX_TIMED), strict=False)]
    )


def _latency(session: Session, newcomer: _Unpacked, request: JudgeNewcomer) -> LatencyResult | None:
    """Time calls by themselves, for the policy's budget in milliseconds."""
    calls = _calls(newcomer)
    if not calls:
        return None
    return time_calls(session, calls, budget=request.policy.slow_ms, share=1 - request.policy.max_slow_rate)


def _slowdown(session: Session, newcomer: _Unpacked, request: JudgeNewcomer) -> SlowdownResult | None:
    """Time calls in turn with the good generation's; None where there is none that can be called."""
    calls, policy = _calls(newcomer), request.policy
    if not calls or request.incumbent is None or policy.max_slowdown is None:
        return None
    incumbent = _unpacked(request.incumbent)
    try:
        with incumbent.open(request.incumbent_options) as other:
            theirs = calls if takes(other, calls[0]) else _calls(incumbent)
            if not theirs:
                return None
            mine, others = time_in_turn(session, calls, other, theirs, seconds=policy.testing_seconds * TIMING_SHARE)
    except EdgeError:  # an incumbent that cannot run here is no judge
        return None
    return judge_slowdown(mine, others, factor=policy.max_slowdown, alpha=policy.alpha)


def _growth(session: Session, newcomer: _Unpacked, request: JudgeNewcomer) -> GrowthResult | None:
    """See what repeated inference leaves behind; None when too few calls fit into the time."""
    calls, policy = _calls(newcomer), request.policy
    if not calls or policy.max_growth_bytes is None:
        return None
    seen = watch_memory(session, calls, seconds=policy.testing_seconds * TIMING_SHARE)
    if seen is None:
        return None
    return judge_growth(seen.resident, seen.calls_per_block, limit=policy.max_growth_bytes, alpha=policy.alpha)


def _parity_error(parity: ParityResult | None) -> ReleaseError | None:
    if parity is None or parity.passed:
        return None
    return ReleaseError(
        "golden-mismatch",
        f"only {parity.share:.1%} of the outputs are within tolerance (largest difference {parity.largest:.4g})",
    )


def _truth_error(truth: tuple[TruthResult, ...]) -> ReleaseError | None:
    for result in truth:
        if result.verdict == "refused":
            whose = {"own": "its own", "incumbent": "the incumbent's", "anchor": "the anchor's"}[result.judge]
            return ReleaseError(
                "golden-truth-loss",
                f"on {result.n} of {whose} labelled examples it is right in {result.newcomer_score:.1%}, expected about"
                f" {result.incumbent_score or 0:.1%}: {result.losses} lost, {result.wins} won, p={result.p_value:.2g}",
            )
    return None


def _cost_error(
    growth: GrowthResult | None, latency: LatencyResult | None, slowdown: SlowdownResult | None
) -> ReleaseError | None:
    if growth is not None and not growth.passed:
        return ReleaseError(
            "memory-growth",
            f"each call leaves {growth.bytes_per_call:.0f} bytes behind ({growth.rising} of {growth.blocks} blocks of"
            f" calls rose), expected at most {growth.limit}",
        )
    if latency is not None and latency.budget_ms is not None and latency.judged_ms > latency.budget_ms:
        return ReleaseError(
            "latency-budget", f"calls take {latency.judged_ms:.1f} ms, expected at most {latency.budget_ms:.1f} ms"
        )
    if slowdown is not None and not slowdown.passed:
        return ReleaseError(
            "latency-budget",
            f"calls take {slowdown.ratio:.2f} times as long as the good release's, expected at most"
            f" {slowdown.factor:g} times ({slowdown.slower} of {slowdown.pairs} pairs, p={slowdown.p_value:.2g})",
            hint=SLOWER,
        )
    return None


def _refused(facts: Judgement, error: EdgeError) -> Judgement:
    reason = Reason(code=error.code, message=error.message, hint=error.hint, permanent=True)
    return Judgement(
        passed=False,
        reason=reason,
        **{name: getattr(facts, name) for name in facts.__struct_fields__ if name not in {"passed", "reason"}},
    )


def _too_large(request: JudgeNewcomer) -> Judgement:
    most = request.policy.testing_memory_bytes
    return _refused(
        Judgement(passed=False), ReleaseError("memory-budget", f"testing needs more than {most} bytes of address space")
    )


def handle(request: JudgeNewcomer) -> Judgement:
    """Limit the process, then judge."""
    limit(request)
    return judge(request)


if __name__ == "__main__":
    serve(JudgeNewcomer, handle)
