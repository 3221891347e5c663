"""A rollout: many devices in waves, opened by verified commits, halted by evidence (pure).

`advance` looks at the rollout and at what each device has *said* (verified statements only, folded by `fold`) and
answers with the one thing to do next. It is called again after every statement and every second; calling it once
more changes nothing.

How a wave is judged, first rule that fits:

1. too many bad devices (rolled back, or failed for good) in any opened wave → halted. "Too many" is the gate's
   `max_bad` exceeded; without one, the first bad device of a wave of up to 10; in larger waves
   `evidence.halting_count` at `max_bad_share` and ``alpha / number of waves``: over the whole rollout a release that is
   exactly as bad as tolerated is halted with a probability of at most `alpha`;
2. every device refused it as unfit, or too many are bad for `min_committed_share` to be reached → halted;
3. `min_committed_share` of the devices that can take it have committed → next wave; in the last wave: done once
   every device has settled;
4. `timeout_seconds` have passed: devices that never answered are set aside and rule 3 is asked again; if it still
   does not hold → paused, with the reason.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edgesdk.errors import ConfigError
from edgesdk.fleet.evidence import halting_count
from edgesdk.generation import TrialPolicy
from edgesdk.protocol.messages import DesiredModel, Statement

SMALL_WAVE = 10
ACTIVE = ("running", "paused")

RolloutState = Literal["running", "paused", "halted", "done", "rolled_back"]
Standing = Literal["silent", "started", "committed", "bad", "refused"]


class Gate(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What must hold before the next wave, and what halts.

    Attributes:
        max_bad: Bad devices that are tolerated, as a count; None: by the size of the wave.
        max_bad_share: Tolerated share of bad devices in waves of more than ten.
        min_committed_share: Share of the wave's devices that must have committed.
        alpha: Probability, at most, of halting a release that is exactly at `max_bad_share`.
        timeout_seconds: After this, devices that never answered no longer hold the rollout up.
    """

    max_bad: Annotated[int, Meta(ge=0)] | None = None
    max_bad_share: Annotated[float, Meta(ge=0, lt=1)] = 0.02
    min_committed_share: Annotated[float, Meta(gt=0, le=1)] = 0.9
    alpha: Annotated[float, Meta(gt=0, lt=1)] = 0.01
    timeout_seconds: Annotated[float, Meta(gt=0)] = 86_400.0


class Wave(msgspec.Struct, frozen=True, kw_only=True):
    """Devices that are asked at the same time; `opened_at` in Unix milliseconds, None: not yet."""

    devices: tuple[str, ...]
    gate: Gate = Gate()
    opened_at: int | None = None


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's plan and how far it came.

    Attributes:
        release: What the devices should run.
        prior: What each device was asked to run before its wave was opened; devices that have not committed are asked
            for that again when the rollout is halted.
        created_at: Unix milliseconds.
        undoes: The rollout that this one rolls back; None: it is no rollback.
    """

    id: str
    fleet: str
    model: str
    release: str
    waves: tuple[Wave, ...]
    created_at: int
    state: RolloutState = "running"
    reason: str = ""
    policy: TrialPolicy = TrialPolicy()
    config: dict[str, Any] = {}
    retry_quarantined: bool = False
    prior: dict[str, DesiredModel | None] = {}
    undoes: str | None = None

    @property
    def opened(self) -> tuple[Wave, ...]:
        """The waves whose devices were asked."""
        return tuple(wave for wave in self.waves if wave.opened_at is not None)

    @property
    def devices(self) -> tuple[str, ...]:
        """Every device of the plan, in order."""
        return tuple(device for wave in self.waves for device in wave.devices)

    def desired(self) -> DesiredModel:
        """Return what a device of this rollout is asked to run."""
        return DesiredModel(
            release=self.release,
            deployment=self.id,
            config=self.config,
            policy=self.policy,
            retry_quarantined=self.retry_quarantined,
        )


@dataclass(frozen=True, slots=True)
class Progress:
    """What one device has said about one rollout; `state`, `reason` and `hint` (the fix) in the device's words."""

    standing: Standing = "silent"
    state: str = ""
    reason: str = ""
    message: str = ""
    counter: int = 0
    hint: str = ""


SILENT = Progress()


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do: enter `state`, open wave number `open_wave`, ask `withdraw` for their prior release again."""

    state: RolloutState
    reason: str = ""
    open_wave: int | None = None
    withdraw: tuple[str, ...] = ()


def fold(progress: Progress, statement: Statement) -> Progress:
    """Add one verified statement of a device about this rollout, in the order of its counters.

    A device that turned bad stays bad, whatever it refuses or retries later, until it commits.
    """
    if statement.counter <= progress.counter:
        return progress
    standing = _standing(statement)
    if progress.standing == "bad" and standing != "committed":
        standing = "bad"
    reason = statement.reason
    return Progress(
        standing=standing,
        state=statement.state,
        reason=reason.code if reason else (progress.reason if standing == "bad" else ""),
        message=reason.message if reason else (progress.message if standing == "bad" else ""),
        counter=statement.counter,
        hint=reason.hint if reason else (progress.hint if standing == "bad" else ""),
    )


def _standing(statement: Statement) -> Standing:
    reason = statement.reason
    match statement.state:
        case "committed":
            return "committed" if statement.good_release == statement.release else "started"
        case "rolled_back":
            return "bad"
        case "failed":
            # A newer desired that ended this deployment says nothing about the release.
            ended = reason is None or reason.code == "superseded" or not reason.permanent
            return "started" if ended else "bad"
        case "refused":
            return "bad" if reason is not None and reason.code == "generation-quarantined" else "refused"
        case _:
            return "started"


def put_out(progress: Progress) -> Progress:
    """Return where a revoked device stands: what it ended counts, an open end is waited for no longer."""
    if progress.standing not in {"silent", "started"}:
        return progress
    return replace(progress, standing="refused", reason="device-unknown", message="revoked by an operator", hint="")


def progress_of(statements: Iterable[Statement]) -> Progress:
    """Fold a device's statements about one rollout, given in any order."""
    progress = SILENT
    for statement in sorted(statements, key=lambda each: each.counter):
        progress = fold(progress, statement)
    return progress


@dataclass(frozen=True, slots=True)
class Tally:
    """A wave in numbers."""

    size: int
    silent: int
    committed: int
    bad: int
    refused: int

    @property
    def settled(self) -> bool:
        """Whether every device has said how it ended."""
        return self.committed + self.bad + self.refused == self.size

    @property
    def eligible(self) -> int:
        """Devices that could take the release, as far as is known."""
        return self.size - self.refused


def tally(wave: Wave, progress: Mapping[str, Progress]) -> Tally:
    """Count where the devices of a wave stand."""
    standings = [progress.get(device, SILENT).standing for device in wave.devices]
    return Tally(
        size=len(standings),
        silent=standings.count("silent"),
        committed=standings.count("committed"),
        bad=standings.count("bad"),
        refused=standings.count("refused"),
    )


def bad_limit(wave: Wave, waves: int) -> int:
    """Return how many bad devices halt this wave (see the rules above)."""
    gate, size = wave.gate, len(wave.devices)
    if gate.max_bad is not None:
        return gate.max_bad + 1
    if size <= SMALL_WAVE:
        return 1
    return halting_count(size, gate.max_bad_share, gate.alpha / waves)


def advance(rollout: Rollout, progress: Mapping[str, Progress], now: int) -> Decision:
    """Decide what a rollout does next.

    Args:
        rollout: The plan and its state.
        progress: What each device has said about it; a missing device has said nothing.
        now: Unix milliseconds.

    Returns:
        The decision; equal to the present state and nothing else when there is nothing to do.
    """
    stay = Decision(rollout.state, rollout.reason)
    if rollout.state not in ACTIVE:
        return stay
    for number, wave in enumerate(rollout.opened, start=1):
        if problem := _halts(number, wave, progress, rollout):
            return Decision("halted", problem, withdraw=undecided(rollout, progress))
    if rollout.state == "paused":
        return stay
    opened = len(rollout.opened)
    if opened == 0:
        return Decision("running", open_wave=0)
    return _judge_wave(rollout, opened - 1, progress, now) or stay


def _halts(number: int, wave: Wave, progress: Mapping[str, Progress], rollout: Rollout) -> str | None:
    count, limit = tally(wave, progress), bad_limit(wave, len(rollout.waves))
    if count.bad >= limit:
        examples = [
            f"{device}: {progress[device].state} ({progress[device].reason or 'no reason given'})"
            for device in wave.devices
            if progress.get(device, SILENT).standing == "bad"
        ]
        shown = ", ".join(examples[:3]) + (", …" if len(examples) > 3 else "")  # noqa: PLR2004 - three are enough to read
        return f"wave {number}: {count.bad} of {count.size} devices went bad, {limit} halt it; {shown}"
    if count.eligible == 0:
        return f"wave {number}: all {count.size} devices refused the release as unfit"
    if count.bad > 0 and count.eligible - count.bad < _needed(wave.gate, count.eligible):
        share = wave.gate.min_committed_share
        return f"wave {number}: {count.bad} of {count.size} devices went bad, so {share:.0%} cannot commit any more"
    return None


def _judge_wave(rollout: Rollout, index: int, progress: Mapping[str, Progress], now: int) -> Decision | None:
    wave, last = rollout.waves[index], index == len(rollout.waves) - 1
    count = tally(wave, progress)
    enough = count.committed >= _needed(wave.gate, count.eligible)
    if enough and not last:
        return Decision("running", open_wave=index + 1)
    if enough and count.settled:
        return Decision("done", _closing(rollout, progress))
    if now - (wave.opened_at or 0) < wave.gate.timeout_seconds * 1000:
        return None
    answered = count.eligible - count.silent
    if answered == 0 or count.committed < _needed(wave.gate, answered):
        waited = f"wave {index + 1}: after {wave.gate.timeout_seconds:g} s "
        return Decision(
            "paused", waited + f"{count.committed} of {count.size} committed, {count.silent} never answered"
        )
    if last:
        return Decision("done", _closing(rollout, progress))
    return Decision("running", f"wave {index + 1}: {count.silent} devices never answered and were set aside", index + 1)


def _needed(gate: Gate, eligible: int) -> int:
    # Rounded before ceil: 0.9 * 10 is 9.000000000000002 in some orders of operations.
    return max(1, math.ceil(round(gate.min_committed_share * eligible, 9)))


def _closing(rollout: Rollout, progress: Mapping[str, Progress]) -> str:
    counts = [tally(wave, progress) for wave in rollout.waves]
    committed, size = sum(c.committed for c in counts), sum(c.size for c in counts)
    parts = [f"{committed} of {size} devices committed"]
    others = {name: sum(getattr(c, name) for c in counts) for name in ("bad", "refused", "silent")}
    return ", ".join(parts + [f"{number} {name}" for name, number in others.items() if number])


def undecided(rollout: Rollout, progress: Mapping[str, Progress]) -> tuple[str, ...]:
    """Return the devices that were asked and have not ended the deployment: those that a halt withdraws."""
    asked = [device for wave in rollout.opened for device in wave.devices]
    return tuple(device for device in asked if progress.get(device, SILENT).standing in ("silent", "started"))


def open_wave(rollout: Rollout, index: int, now: int, prior: Mapping[str, DesiredModel | None]) -> Rollout:
    """Return the rollout with one more wave opened; `prior` is what its devices were asked to run until now."""
    opened = msgspec.structs.replace(rollout.waves[index], opened_at=now)
    waves = (*rollout.waves[:index], opened, *rollout.waves[index + 1 :])
    return msgspec.structs.replace(rollout, waves=waves, prior={**rollout.prior, **prior})


def resume(rollout: Rollout, now: int) -> Rollout:
    """Return a paused rollout running again; the open wave gets its full time once more.

    Raises:
        ConfigError: ``rollout-conflict`` if it is not paused.
    """
    if rollout.state != "paused":
        raise ConfigError("rollout-conflict", f"rollout {rollout.id} is {rollout.state}; only a paused one resumes")
    waves = rollout.waves
    if index := len(rollout.opened):
        again = msgspec.structs.replace(waves[index - 1], opened_at=now)
        waves = (*waves[: index - 1], again, *waves[index:])
    return msgspec.structs.replace(rollout, state="running", reason="", waves=waves)


def shuffled(devices: Iterable[str], rollout: str) -> tuple[str, ...]:
    """Order devices by a hash with the rollout's id: who goes first differs between rollouts, and is reproducible."""
    return tuple(sorted(devices, key=lambda device: hashlib.sha256(f"{rollout}/{device}".encode()).digest()))


def plan_waves(devices: Sequence[str], sizes: Sequence[str], gates: Sequence[Gate]) -> tuple[Wave, ...]:
    """Cut devices into waves.

    Args:
        devices: In the order in which they are asked.
        sizes: Cumulative, growing: shares (``"10%"``) or counts (``"5"``); the last must reach every device.
        gates: One for all waves, or one per wave.

    Raises:
        ConfigError: ``argument-invalid`` for no devices, duplicates, sizes that shrink or do not reach all.
    """
    if not devices or len(set(devices)) != len(devices):
        raise ConfigError("argument-invalid", "a rollout needs devices, each named once", hint="See the devices' ids.")
    if len(gates) not in {1, len(sizes)}:
        raise ConfigError("argument-invalid", f"expected one gate or {len(sizes)} (one per wave), got {len(gates)}")
    ends = [_wave_end(size, len(devices)) for size in sizes]
    shrinks = any(a > b for a, b in pairwise(ends)) or any(a > b for a, b in pairwise(_shares(sizes)))
    if not ends or ends[-1] < len(devices) or shrinks:
        raise ConfigError(
            "argument-invalid",
            f"waves {', '.join(sizes) or '(none)'} do not grow to all {len(devices)} devices",
            hint="Sizes are cumulative; end with 100%, for example 10%,50%,100%.",
        )
    waves, start = [], 0
    for number, end in enumerate(min(end, len(devices)) for end in ends):
        if end > start:
            waves.append(Wave(devices=tuple(devices[start:end]), gate=gates[number if len(gates) > 1 else 0]))
        start = max(start, end)
    return tuple(waves)


def _shares(sizes: Sequence[str]) -> list[float]:
    """Return the sizes that are shares: in a small fleet 10% and 5% are one device each, and still a mistake."""
    return [float(size.strip().removesuffix("%")) for size in sizes if size.strip().endswith("%")]


def _wave_end(size: str, total: int) -> int:
    text = size.strip()
    try:
        value = float(text.removesuffix("%")) if text.endswith("%") else int(text)
    except ValueError:
        value = 0
    if not math.isfinite(value) or value <= 0:
        raise ConfigError("argument-invalid", f"a wave's size is a share like 10% or a count, got {size!r}")
    return math.ceil(round(total * min(value, 100.0) / 100.0, 9)) if text.endswith("%") else int(value)
