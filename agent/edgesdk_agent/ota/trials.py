"""Trials under way: their time, and the evidence they gather, kept across restarts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

from edgesdk.generation import TrialPolicy
from edgesdk.telemetry.sketches import DDSketch
from edgesdk_agent.ota.evidence import EvidenceBook
from edgesdk_agent.ota.journal import Journal, TrialProgress
from edgesdk_agent.ota.trial import REFERENCE, UNSURE, LiveEvidence, Verdict, decide

CHECKPOINT_S = 5.0


@dataclass(slots=True)
class _Running:
    """One trial's clock."""

    seconds: float
    served_seconds: float
    looked_at: float
    saved_at: float
    saved_loading: int = 0
    went_down: int = 0
    first: bool = False
    unsure_below: float | None = None


class Trials:
    """The running trials by model.

    Args:
        book: What apps say.
        monotonic: Seconds.
        boot_id: Of this boot.
    """

    def __init__(self, book: EvidenceBook, monotonic: Callable[[], float], boot_id: str) -> None:
        self._book = book
        self._monotonic = monotonic
        self._boot_id = boot_id
        self._lock = threading.Lock()  # whoever asks for the status judges too
        self._running: dict[str, _Running] = {}

    def begin(self, journal: Journal, *, good: str | None) -> TrialProgress:
        """Begin a trial: its time and evidence start at nothing, also when the generation was tried before.

        How confident the generation `good` (None: there is none) has been so far is what the newcomer is held to.
        """
        now = self._monotonic()
        self._book.forget(journal.model, journal.generation or "")
        known = self._book.confidence(journal.model, good) if good else DDSketch()
        below = known.quantile(UNSURE) if known.count >= REFERENCE else None
        self._running[journal.model] = _Running(0.0, 0.0, now, now, first=good is None, unsure_below=below)
        return TrialProgress(boot=self._boot_id, unsure_below=below)

    def resume(self, journal: Journal, *, good: str | None, went_down: bool = False) -> None:
        """Go on with a trial after a restart.

        What went by since the last checkpoint counts as one checkpoint's time, so that a device that restarts every few
        seconds still reaches its deadline; the time in which the agent was down does not count. `went_down` says that
        the device was reset by its watchdog or crashed, which an innocent release does not do twice.
        """
        saved, now = journal.trial, self._monotonic()
        served = saved.served_seconds + (CHECKPOINT_S if saved.served_seconds else 0.0)
        fell = saved.went_down + went_down
        running = _Running(saved.seconds + CHECKPOINT_S, served, now, now, went_down=fell, first=good is None)
        running.unsure_below = saved.unsure_below
        self._running[journal.model] = running
        same_boot = saved.boot == self._boot_id
        self._book.restore(journal.model, journal.generation or "", saved.streams, same_boot=same_boot)

    def end(self, journal: Journal) -> None:
        """Forget a trial's clock."""
        self._running.pop(journal.model, None)

    def judge(self, journal: Journal) -> Verdict:
        """Return what its evidence says now."""
        running = self._running.get(journal.model)
        if running is None:  # another thread asks for a trial that has just ended
            return Verdict("continue")
        heard = self._book.heard(journal.model, journal.generation or "")
        with self._lock:
            now = self._monotonic()
            passed, running.looked_at = now - running.looked_at, now
            running.seconds += passed
            running.served_seconds += passed if heard.apps else 0.0
        answers, unsure = self._unsure(journal, running)
        live = LiveEvidence(
            answers=answers,
            unsure=unsure,
            calls=heard.calls,
            bad=heard.bad,
            slow=heard.slow,
            answered_by_good=heard.answered_by_good,
            crashes=heard.crashes,
            load_failed=heard.load_failed,
            misfits=heard.misfits,
            first=running.first,
            seconds=running.seconds,
            served_seconds=running.served_seconds,
            apps=heard.apps,
            went_down=running.went_down,
        )
        return decide(live, journal.wanted.policy if journal.wanted else TrialPolicy())

    def _unsure(self, journal: Journal, running: _Running) -> tuple[int, int]:
        """Return how many answers came with a confidence, and how many of them were unsure."""
        judged = journal.wanted is not None and journal.wanted.policy.max_unsure_rate is not None
        if not judged or running.unsure_below is None:
            return 0, 0
        said = self._book.confidence(journal.model, journal.generation or "")
        return said.count, said.below(running.unsure_below)

    def checkpoint_due(self, journal: Journal) -> bool:
        """Return whether the journal should be written: now and then, and at once when an app begins to load."""
        running = self._running[journal.model]
        loading = sum(each.loading for each in self._book.save(journal.model, journal.generation or "").values())
        return loading != running.saved_loading or self._monotonic() - running.saved_at >= CHECKPOINT_S

    def progress(self, journal: Journal) -> TrialProgress:
        """Return what the journal is to keep."""
        running = self._running[journal.model]
        streams = self._book.save(journal.model, journal.generation or "")
        running.saved_at = self._monotonic()
        running.saved_loading = sum(each.loading for each in streams.values())
        return TrialProgress(
            seconds=running.seconds,
            served_seconds=running.served_seconds,
            held=journal.trial.held,
            boot=self._boot_id,
            streams=streams,
            went_down=running.went_down,
            unsure_below=running.unsure_below,
        )
