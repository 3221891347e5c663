"""Walks every model through the deployment table: journal, act, next; and goes on after a crash where it was.

One thread calls `resume` once and then `step` again and again; `offer`, `evidence`, `interval` and `snapshot` may be
called from any thread. The table says what happens (`ota.table`), `ota.work` does it, the journal remembers it.
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from edgesdk.clock import Clock, rfc3339
from edgesdk.errors import DeploymentError
from edgesdk.generation import Slots
from edgesdk.protocol.evidence import Evidence
from edgesdk.protocol.messages import Desired, DesiredModel, ModelTelemetry, Reason
from edgesdk.targets.matching import Capabilities
from edgesdk_agent.boots import BLAMELESS, DEVICE_WENT_DOWN, End
from edgesdk_agent.ota import journal as journals
from edgesdk_agent.ota.backoff import Backoff
from edgesdk_agent.ota.download import Downloader
from edgesdk_agent.ota.evidence import EvidenceBook
from edgesdk_agent.ota.holdings import MOVES, Holdings
from edgesdk_agent.ota.intervals import summarise
from edgesdk_agent.ota.journal import Journal, Outcome
from edgesdk_agent.ota.preflight import Needs, NotNow
from edgesdk_agent.ota.status import ModelStatus, Origin, draft, status
from edgesdk_agent.ota.table import Action, Event, transition
from edgesdk_agent.ota.trial import Verdict
from edgesdk_agent.ota.trials import Trials
from edgesdk_agent.ota.work import Work, needs_of
from edgesdk_agent.paths import Paths
from edgesdk_agent.store.records import Quarantined, StatementDraft
from edgesdk_agent.store.state import StateDb
from edgesdk_agent.workers.messages import Offer, Workers

log = logging.getLogger(__name__)

IDLE_S = 3600.0
TRIAL_POLL_S = 0.5
FULL_DISK_S = 30.0
MAX_RESUMES = 5
MAX_CUTS = 25
BEGINS = frozenset({"offered", "staged", "testing"})
"""States whose work is followed by a download, a test or a trial."""
ASK_AGAIN = frozenset({"http-status", "http-failed", "tuf-target-mismatch"})


class Updater:
    """One device's deployments.

    Args:
        paths: Where everything lies; the folders exist.
        state: The journal and the statements; open it with ``on_full=Reserve(paths.reserve).give_up``.
        workers: The children that verify and test.
        download: Fetches bundles.
        capabilities: What the device has now.
        clock: Time.
        emit: Called with each statement after it is durable (`StateDb.unsigned` has it too).
        boot_id: Of this boot of the device.
        ended: How the run before ended; a blameless end is held against no model.
        run_id: Of this run of the agent.
        backoff: How transient failures are spaced.
        disk_budget: Bytes that generations may take together; 0: what the disk has.
        preflight: Asked before a download, a test or a trial begins; returns why it must wait.
        ask_again: Called when the repository should be looked at again, because what it offered does not work.
        on_enter: Called with the name of each state that was journalled, and around moves of the slots; for tests
            that pull the plug there.
    """

    def __init__(
        self,
        *,
        paths: Paths,
        state: StateDb,
        workers: Workers,
        download: Downloader,
        capabilities: Callable[[], Capabilities],
        clock: Clock,
        emit: Callable[[StatementDraft], None],
        boot_id: str,
        run_id: str,
        ended: End = "killed",
        backoff: Backoff | None = None,
        disk_budget: int = 0,
        preflight: Callable[[Needs], NotNow | None] = lambda _: None,
        ask_again: Callable[[], None] = lambda: None,
        on_enter: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._paths, self._state, self._clock = paths, state, clock
        self._emit, self._ask_again, self._on_enter = emit, ask_again, on_enter
        self._boot_id, self._run_id = boot_id, run_id
        self._preflight, self._ended = preflight, ended
        self._holdings = Holdings(paths)
        self._slots, self._generations = self._holdings.slots, self._holdings.generations
        self._book = EvidenceBook(clock.monotonic)
        self._trials = Trials(self._book, clock.monotonic, boot_id)
        self._backoff = backoff or Backoff(random.random)
        self._work = Work(
            paths=paths,
            generations=self._generations,
            workers=workers,
            download=download,
            capabilities=capabilities,
            disk_budget=disk_budget,
        )
        self._lock = threading.Lock()
        self._newest: tuple[Desired, Mapping[str, Offer]] | None = None
        self._journals: dict[str, Journal] = {}
        self._retry_at: dict[str, float] = {}
        self._paused = False
        self._stopping = threading.Event()

    # ---- from any thread ----------------------------------------------------------------------------------------

    def offer(self, desired: Desired, offers: Mapping[str, Offer]) -> None:
        """Set the newest desired document and what the repository has for it; only the newest counts."""
        with self._lock:
            self._newest = (desired, offers)

    def evidence(self, evidence: Evidence) -> None:
        """Take in what an app says; what it says of generations that are not here is ignored."""
        if self._generations.has(evidence.generation):
            self._book.take(evidence)

    def stop(self) -> None:
        """Say that the agent ends: a download is interrupted, and the next run goes on with what was under way."""
        self._stopping.set()

    def interval(self) -> tuple[ModelTelemetry, ...]:
        """Return what apps did since the last call, by model, generation and app."""
        return summarise(self._book.interval(), self._holdings.describe)

    def reported(self) -> bytes:
        """Return a mark of what `interval` has reported; store it with the record (see `continue_from`)."""
        return self._book.reported()

    def continue_from(self, reported: bytes) -> None:
        """Continue after `reported` of an earlier run, so that no app's past is reported twice."""
        self._book.continue_from(reported)

    def snapshot(self) -> dict[str, ModelStatus]:
        """Return how every model stands."""
        now = self._clock.monotonic()
        return {model: self._status(journal, now) for model, journal in sorted(self._journals.copy().items())}

    def _status(self, journal: Journal, now: float) -> ModelStatus:
        slots = self._slots.read(journal.model)
        retry_at = self._retry_at.get(journal.model) if journal.retries else None
        return status(
            journal,
            slots,
            self._holdings.release_of(slots.good),
            retry_in_s=max(retry_at - now, 0.0) if retry_at is not None else None,
            paused=self._paused,
            trial_evidence=self._trials.judge(journal).evidence if journal.state == "trial" else {},
        )

    # ---- the one thread -----------------------------------------------------------------------------------------

    def resume(self) -> None:
        """Go on where an earlier run was cut off: call once, before the first `step`.

        Moves that were decided are made, journals that were lost are rebuilt from the slots, a trial that no journal
        knows is ended, and what is stated is made what is served.
        """
        self._holdings.reserve.take()
        self._paused = self._state.get("paused") == "1"
        stored = {model: journals.decode(body) for model, body in self._state.journals().items()}
        for model in sorted({*stored, *self._slots.models()}):
            self._resume_model(model, stored.get(model))
        self._holdings.tidy(self._journals.values())

    def adopt(self) -> None:
        """Begin what the newest desired document asks for; the work itself is done by `step`."""
        newest = self._take_newest()
        if newest:
            self._adopt(*newest)

    def step(self) -> float:
        """Do the next thing; return the seconds until it wants to be called again (0: at once)."""
        try:
            self.adopt()
            waits = []
            for journal in sorted(self._journals.values(), key=lambda each: (each.state != "trial", each.model)):
                wait = self._advance(journal)
                if wait == 0:
                    return 0.0
                waits.append(wait)
            return min(waits, default=IDLE_S)
        except DeploymentError as error:
            if error.code != "disk-full":
                raise
            log.warning("waiting for disk space: %s", error)  # the journal was not written: it is done again
            self._holdings.tidy(self._journals.values())
            return FULL_DISK_S

    # ---- desired ------------------------------------------------------------------------------------------------

    def _take_newest(self) -> tuple[Desired, Mapping[str, Offer]] | None:
        with self._lock:
            newest, self._newest = self._newest, None
            return newest

    def _adopt(self, desired: Desired, offers: Mapping[str, Offer]) -> None:
        """Begin what the desired document asks for; models that it does not name stay as they are."""
        try:
            if desired.paused != self._paused:
                self._state.set("paused", "1" if desired.paused else "0")
                self._paused = desired.paused
            for model, wanted in sorted(desired.models.items()):
                self._ask(model, wanted, offers.get(model), desired.serial)
        except Exception:
            with self._lock:  # nothing is forgotten: it is adopted again unless a newer one has come
                self._newest = self._newest or (desired, offers)
            raise

    def _ask(self, model: str, wanted: DesiredModel, offer: Offer | None, serial: int) -> None:
        journal = self._journals.get(model) or Journal(model=model)
        if journal.move:  # it may have been made already: apps must not stay on a trial that nobody watches
            journal = self._enter(journal, journal.move)
        if journals.answers(journal, wanted) and (journal.state != "committed" or self._holdings.is_good(journal)):
            self._answer(journal, wanted, offer, serial)
            return
        if journal.in_progress:
            journal = self._enter(journal, journals.superseded())
        event: Event = "asked" if wanted.release is not None else "removed"
        asked = msgspec.structs.replace(
            journal, wanted=wanted, offer=offer, choice=None, serial=serial, deployment=wanted.deployment, attempts=0
        )
        self._enter(asked, Outcome(event=event))

    def _answer(self, journal: Journal, wanted: DesiredModel, offer: Offer | None, serial: int) -> None:
        """Note that a newer document asks for what is under way or done already."""
        usable = offer if offer and offer.index else journal.offer
        now = msgspec.structs.replace(
            journal, wanted=wanted, offer=usable or offer, serial=serial, deployment=wanted.deployment
        )
        if (now.serial, now.deployment) != (journal.serial, journal.deployment):
            self._save(now, state_it=True)
        elif now != journal:
            self._save(now)
        if now.retries and offer and offer.index and now.reason and now.reason.code in ASK_AGAIN:
            self._enter(now, Outcome(event="retry"))
        elif now.state == "refused" and offer and offer.index:
            chosen = self._work.do(msgspec.structs.replace(now, state="offered"), *self._surroundings(now))
            if chosen and chosen.event == "fits":
                self._enter(now, Outcome(event="asked"))

    # ---- walking the table --------------------------------------------------------------------------------------

    def _advance(self, journal: Journal) -> float:
        """Do the next thing for a model; return 0 if something was done, else how long to wait."""
        if journal.move:
            self._enter(journal, journal.move)
            return 0.0
        if journal.state == "trial":
            return self._watch(journal)
        if journal.retries:
            return self._wait_or_retry(journal)
        return self._work_on(journal) if journal.in_progress and not self._paused else IDLE_S

    def _work_on(self, journal: Journal) -> float:
        outcome = self._work.do(journal, *self._surroundings(journal))
        if self._stopping.is_set() and (outcome is None or outcome.event == "broke"):
            return IDLE_S  # it was we who ended the download or the child: the next run goes on
        if outcome is None:  # interrupted: something more important wants to be done first
            return 0.0
        self._enter(journal, self._checked(journal, outcome))
        return 0.0

    def _checked(self, journal: Journal, outcome: Outcome) -> Outcome:
        """Ask whether what would follow may begin now; the table's guards decide whether that matters."""
        if outcome.event not in {"fits", "done"} or journal.state not in BEGINS:
            return outcome
        waits = self._preflight(needs_of(journal, outcome))
        return msgspec.structs.replace(outcome, not_now=waits.reason, wait_s=waits.seconds) if waits else outcome

    def _surroundings(self, journal: Journal) -> tuple[Slots, dict[str, Quarantined], Callable[[], bool]]:
        return self._slots.read(journal.model), self._state.quarantined(), self._interrupted

    def _enter(self, journal: Journal, outcome: Outcome) -> Journal:
        """Walk one row: journal the move, make it, journal the next state and state it."""
        row = transition(journal.state, outcome.event, outcome.facts)
        if row.action in MOVES and self._move(row.action, journal, outcome) is None:
            return self._enter(msgspec.structs.replace(journal, move=None), journals.lost(journal))
        entered = msgspec.structs.replace(
            journal,
            state=row.next,
            move=None,
            resumes=0,
            cuts=0,
            reason=outcome.not_now if row.guard == "not now" else outcome.reason,
            choice=outcome.choice or journal.choice,
            attempts=journals.attempts(journal, outcome, row.next),
        )
        if row.next == "trial":
            good = self._slots.read(entered.model).good
            entered = msgspec.structs.replace(entered, trial=self._trials.begin(entered, good=good))
        elif journal.state == "trial":
            self._trials.end(journal)
        quarantine = None
        if row.action in {"quarantine", "roll back"}:
            quarantine = self._quarantined(entered)
        self._save(entered, state_it=True, evidence=outcome.evidence, quarantine=quarantine)
        if entered.retries:
            wait = self._backoff.wait(entered.attempts) if outcome.wait_s is None else outcome.wait_s
            self._retry_at[entered.model] = self._clock.monotonic() + wait
        self._on_enter(row.next)
        if not entered.in_progress:
            self._holdings.tidy(self._journals.values())
        return entered

    def _move(self, action: Action, journal: Journal, outcome: Outcome) -> Slots | None:
        """Journal a move of the slots, then make it; None if it cannot be made because something is gone."""
        self._save(msgspec.structs.replace(journal, move=outcome))
        self._on_enter(f"{action}: journalled")
        try:
            slots = self._holdings.make(action, journal)
        except DeploymentError as error:
            if error.code == "disk-full":
                raise
            log.exception("%s: cannot %s", journal.model, action)
            return None
        self._on_enter(f"{action}: made")
        return slots

    def _save(
        self,
        journal: Journal,
        *,
        state_it: bool = False,
        evidence: dict[str, Any] | None = None,
        quarantine: Quarantined | None = None,
    ) -> None:
        """Make the journal durable, with a statement if it says something new."""
        statement = self._draft(journal, evidence or {}) if state_it else None
        stated = self._state.record(
            journal.model, msgspec.json.encode(journal), statement=statement, quarantine=quarantine
        )
        self._journals[journal.model] = journal
        if stated:
            log.info("%s %s: %s%s", stated.model, stated.release, stated.state, _because(stated.reason))
            self._emit(stated)

    def _draft(self, journal: Journal, evidence: dict[str, Any]) -> StatementDraft:
        slots = self._slots.read(journal.model)
        origin = Origin(run=self._run_id, boot=self._boot_id, ts=rfc3339(self._clock.now()))
        return draft(journal, slots, self._holdings.release_of(slots.good), origin, evidence)

    def _quarantined(self, journal: Journal) -> Quarantined:
        return Quarantined(
            generation=journal.generation or "",
            model=journal.model,
            release=(journal.wanted and journal.wanted.release) or "",
            reason=journal.reason or Reason(code="trial-evidence"),
            at=rfc3339(self._clock.now()),
        )

    # ---- waiting ------------------------------------------------------------------------------------------------

    def _wait_or_retry(self, journal: Journal) -> float:
        due = self._retry_at.setdefault(
            journal.model, self._clock.monotonic() + self._backoff.wait(min(journal.attempts, 1))
        )
        left = due - self._clock.monotonic()
        if left > 0 or self._paused:
            return left if left > 0 else IDLE_S
        if journal.reason and journal.reason.code in ASK_AGAIN:
            self._ask_again()
        self._enter(journal, Outcome(event="retry"))
        return 0.0

    def _watch(self, journal: Journal) -> float:
        """Look at a trial: go on, commit or roll back. While paused nothing is committed; a bad one still goes."""
        slots = self._slots.read(journal.model)
        if slots.good == journal.generation and slots.trial is None:
            self._enter(journal, Outcome(event="accepted"))
            return 0.0
        if slots.trial != journal.generation or slots.serve != "trial":
            self._enter(journal, journals.lost(journal))
            return 0.0
        verdict = self._trials.judge(journal)
        if verdict.kind == "rollback":
            self._enter(journal, journals.against(verdict))
            return 0.0
        if verdict.kind == "commit" and not self._paused:
            self._enter(journal, Outcome(event="accepted", reason=verdict.reason, evidence=verdict.evidence))
            return 0.0
        self._checkpoint(journal, verdict)
        return TRIAL_POLL_S

    def _checkpoint(self, journal: Journal, verdict: Verdict) -> None:
        """Journal how far a trial is, now and then; say once that it is held beyond its deadline."""
        if verdict.kind == "hold" and not journal.trial.held:
            trial = msgspec.structs.replace(self._trials.progress(journal), held=True)
            held = msgspec.structs.replace(journal, trial=trial, reason=verdict.reason)
            self._save(held, state_it=True, evidence=verdict.evidence)
        elif self._trials.checkpoint_due(journal):
            self._save(msgspec.structs.replace(journal, trial=self._trials.progress(journal)))

    def _interrupted(self) -> bool:
        """Whether a download should be left for something more important: a newer desired, a trial going wrong."""
        if self._stopping.is_set() or self._newest is not None:
            return True
        for journal in [each for each in self._journals.values() if each.state == "trial"]:
            verdict = self._trials.judge(journal)
            if verdict.kind == "rollback" or (verdict.kind == "commit" and not self._paused):
                return True
            self._checkpoint(journal, verdict)
        return False

    # ---- after a restart ----------------------------------------------------------------------------------------

    def _resume_model(self, model: str, journal: Journal | None) -> None:
        stated = self._state.latest_drafts().get(model)
        slots = self._holdings.readable_slots(model, stated.good if stated else None)
        journal = journal or self._holdings.found(model, slots)
        journal = journals.restarted(journal, blameless=self._ended in BLAMELESS)
        self._journals[model] = journal
        if slots.trial and not journal.move and (journal.state, journal.generation) != ("trial", slots.trial):
            log.error("%s: generation %s is on trial but no journal knows why: back to good", model, slots.trial)
            self._slots.roll_back(model)
        if journal.state == "trial" and not journal.move:
            self._trials.resume(journal, good=slots.good, went_down=self._ended in DEVICE_WENT_DOWN)
            self._save(msgspec.structs.replace(journal, trial=self._trials.progress(journal)))
        elif journal.in_progress:
            self._save(journal)
            if journal.resumes > MAX_RESUMES and not journal.move:
                self._enter(journal, journals.ended_too_often(journal))
            elif journal.cuts > MAX_CUTS and not journal.move:
                self._enter(journal, journals.cut_too_often(journal))
        if not self._journals[model].move:
            self._state_what_is_served(model)

    def _state_what_is_served(self, model: str) -> None:
        """State again what the slots say if the last statement says otherwise, or there is none."""
        journal, stated = self._journals[model], self._state.latest_drafts().get(model)
        now = self._draft(journal, {})
        if stated is None or (stated.good, stated.serving, stated.state) != (now.good, now.serving, now.state):
            self._save(journal, state_it=True)


def _because(reason: Reason | None) -> str:
    return f" ({reason.code}: {reason.message})" if reason else ""
