"""What the updater remembers of one model's deployment; stored in `state.db` (pure)."""

from __future__ import annotations

import logging
from typing import Any

import msgspec

from edgesdk.errors import DeploymentError, EdgeError
from edgesdk.generation import Generation
from edgesdk.protocol.messages import DesiredModel, Reason, State
from edgesdk_agent.ota.evidence import SavedStream
from edgesdk_agent.ota.table import IN_PROGRESS, Event, Facts
from edgesdk_agent.ota.trial import Verdict
from edgesdk_agent.workers.messages import Offer, TargetFile

log = logging.getLogger(__name__)

TRANSIENT_CODES = frozenset(
    {"disk-full", "disk-error", "download-budget", "worker-failed", "generation-missing", "tuf-target-mismatch"}
)
ENDED_BY_NEWER = "superseded"


class _Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Common behaviour of the journal's records; unknown fields of a later version are ignored."""


class Choice(_Record, frozen=True, kw_only=True):
    """The one variant that fits, and the generation that it makes with the deployment's config and policy."""

    variant: str
    bundle: TargetFile
    generation: str


class TrialProgress(_Record, frozen=True, kw_only=True):
    """A trial so far, so that a restart neither ends it nor makes it last for ever.

    Attributes:
        seconds: Its length, in seconds in which the agent ran.
        served_seconds: The same since an app first ran the generation.
        held: The deadline has passed and was stated.
        boot: The boot in which this was written: an app that was loading at a power cut did not crash.
        streams: What apps said, by session.
        went_down: How often the device was reset by its watchdog or crashed meanwhile.
        unsure_below: Answers less confident than this are unsure; None: the good generation has not said enough.
    """

    seconds: float = 0.0
    served_seconds: float = 0.0
    held: bool = False
    boot: str = ""
    streams: dict[str, SavedStream] = {}
    went_down: int = 0
    unsure_below: float | None = None


class Outcome(_Record, frozen=True, kw_only=True):
    """How a state's work ended: the event for the table, what guards look at, and what the statement says.

    `not_now` says why what would follow must wait; `wait_s` for how many seconds, if that is known.
    """

    event: Event
    permanent: bool = False
    is_good: bool = False
    quarantined: bool = False
    is_here: bool = False
    reason: Reason | None = None
    evidence: dict[str, Any] = {}
    choice: Choice | None = None
    not_now: Reason | None = None
    wait_s: float | None = None

    @property
    def facts(self) -> Facts:
        """What the table's guards look at."""
        return Facts(
            is_good=self.is_good,
            quarantined=self.quarantined,
            is_here=self.is_here,
            permanent=self.permanent,
            not_now=self.not_now is not None,
        )


class Journal(_Record, frozen=True, kw_only=True):
    """One model's deployment.

    Attributes:
        wanted: What the desired document asks for; None if the model was only ever found in the slots.
        offer: What the repository has for it: enough to go on after a restart without asking again.
        choice: The variant and generation that `offered` chose.
        move: A move of the slots that was decided; it is made again after a crash until the next state is journalled.
        reason: Why it is in this state.
        attempts: Transient failures in a row; the back-off grows with it.
        resumes: Restarts of the agent in this state that it may have caused.
        cuts: Restarts in this state that say nothing about it: power cuts, planned ones.
    """

    model: str
    state: State = "idle"
    deployment: str = ""
    serial: int = 0
    wanted: DesiredModel | None = None
    offer: Offer | None = None
    choice: Choice | None = None
    move: Outcome | None = None
    reason: Reason | None = None
    attempts: int = 0
    resumes: int = 0
    cuts: int = 0
    trial: TrialProgress = TrialProgress()

    @property
    def in_progress(self) -> bool:
        """Whether there is work under way that a newer desired document would have to end."""
        return self.state in IN_PROGRESS

    @property
    def generation(self) -> str | None:
        """The generation that this deployment is about."""
        return self.choice.generation if self.choice else None

    @property
    def retries(self) -> bool:
        """Whether it failed in a way that is tried again."""
        return self.state == "failed" and self.reason is not None and not self.reason.permanent


def broke(error: EdgeError) -> Outcome:
    """Return the outcome of work that raised: network, disk and our own children are tried again, nothing else is."""
    permanent = type(error).__name__ != "LinkError" and error.code not in TRANSIENT_CODES
    reason = Reason(code=error.code, message=error.message, hint=error.hint, permanent=permanent)
    return Outcome(event="broke", permanent=permanent, reason=reason)


def against(verdict: Verdict) -> Outcome:
    """Return the outcome of a trial whose evidence went against the release."""
    return Outcome(event="against", permanent=True, reason=verdict.reason, evidence=verdict.evidence)


def superseded() -> Outcome:
    """Return the outcome of work that a newer desired document ended."""
    error = DeploymentError(ENDED_BY_NEWER, "a newer desired document asks for something else")
    reason = Reason(code=error.code, message=error.message, hint=error.hint, permanent=True)
    return Outcome(event="superseded", permanent=True, reason=reason)


def answers(journal: Journal, wanted: DesiredModel) -> bool:
    """Return whether `wanted` is what this journal is about already, so that there is nothing new to begin."""
    if wanted.release is None:
        return journal.state == "idle"
    if journal.wanted is None or (journal.reason and journal.reason.code == ENDED_BY_NEWER):
        return False
    if _spec(journal.wanted) != _spec(wanted):
        return False
    settled_well = journal.in_progress or journal.state == "committed"
    again = (wanted.deployment, wanted.retry_quarantined)
    return settled_well or again == (journal.wanted.deployment, journal.wanted.retry_quarantined)


def _spec(wanted: DesiredModel) -> tuple[object, ...]:
    return (wanted.release, wanted.config, wanted.policy)


def found(record: Generation, state: State) -> Journal:
    """Return the journal of a generation that was found in the slots after `state.db` was lost."""
    bundle = TargetFile(path="", url="", length=0, sha256=record.bundle_sha256)
    return Journal(
        model=record.model,
        state=state,
        wanted=DesiredModel(release=record.release, deployment="", config=record.config, policy=record.policy),
        choice=Choice(variant=record.variant, bundle=bundle, generation=record.generation),
    )


def decode(body: bytes) -> Journal | None:
    """Read a journal; None if it is not readable: it is rebuilt from the slots then."""
    try:
        return msgspec.json.decode(body, type=Journal)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        log.exception("a journal is not readable: rebuilding it from the slots")
        return None


def restarted(journal: Journal, *, blameless: bool) -> Journal:
    """Return the journal with this restart counted, if work was under way."""
    if not journal.in_progress:
        return msgspec.structs.replace(journal, resumes=0, cuts=0)
    if blameless:
        return msgspec.structs.replace(journal, cuts=journal.cuts + 1)
    return msgspec.structs.replace(journal, resumes=journal.resumes + 1)


def attempts(journal: Journal, outcome: Outcome, entered: str) -> int:
    """Count transient failures in a row; reaching the trial forgets them."""
    if entered == "failed" and not outcome.permanent:
        return journal.attempts + 1
    return 0 if entered in {"trial", "committed"} else journal.attempts


def lost(journal: Journal) -> Outcome:
    """Return the outcome of a trial or a move whose generation is not there any more."""
    return broke(DeploymentError("generation-missing", f"generation {journal.generation} of {journal.model!r} is gone"))


def cut_too_often(journal: Journal) -> Outcome:
    """Return the outcome of work that never gets done: it backs off, so that the device is not kept restarting."""
    words = f"the device lost its power or was restarted {journal.cuts} times while {journal.state}"
    return broke(DeploymentError("worker-failed", words))


def ended_too_often(journal: Journal) -> Outcome:
    """Return the outcome of work during which the agent ended again and again: a model may bring the device down."""
    words = f"the agent ended {journal.resumes} times while {journal.state}"
    return broke(DeploymentError("testing-crashed" if journal.state == "testing" else "worker-failed", words))
