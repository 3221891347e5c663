"""The work of each state before the trial: choose, fetch, stage, prepare, test. Doing it twice does no harm.

Each function returns how it ended, as an `Outcome` for the table; None when it was interrupted, to be gone on with.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from edgesdk.bundle.manifest import VariantEntry
from edgesdk.errors import DeploymentError, EdgeError, LinkError, TargetError, TrustError
from edgesdk.generation import GENERATION_SCHEMA, Generation, Slots, generation_id
from edgesdk.protocol.messages import DesiredModel, Reason, State
from edgesdk.targets.matching import Capabilities, choose_variant
from edgesdk_agent.ota.download import Downloader, discard
from edgesdk_agent.ota.journal import Choice, Journal, Outcome, broke
from edgesdk_agent.ota.preflight import Needs
from edgesdk_agent.paths import Paths
from edgesdk_agent.store.atomic import fsync_folder
from edgesdk_agent.store.disk import check_room, tree_bytes
from edgesdk_agent.store.generations import GenerationStore, remove_tree
from edgesdk_agent.store.records import Quarantined
from edgesdk_agent.workers.messages import JudgeNewcomer, Offer, TargetFile, VerifyBundle, Workers

log = logging.getLogger(__name__)

Stop = Callable[[], bool]


class Work:
    """Does the work; holds what it needs.

    Args:
        paths: Where everything lies.
        generations: The store's generations.
        workers: The children that verify and test.
        download: Fetches files.
        capabilities: What the device has now.
        disk_budget: Bytes that generations may take together; 0: what the disk has.
    """

    def __init__(
        self,
        *,
        paths: Paths,
        generations: GenerationStore,
        workers: Workers,
        download: Downloader,
        capabilities: Callable[[], Capabilities],
        disk_budget: int,
    ) -> None:
        self._paths = paths
        self._generations = generations
        self._workers = workers
        self._download = download
        self._capabilities = capabilities
        self._disk_budget = disk_budget

    def do(self, journal: Journal, slots: Slots, quarantine: dict[str, Quarantined], stop: Stop) -> Outcome | None:
        """Do the work of the journal's state; whatever goes wrong is an outcome."""
        try:
            work: dict[State, Callable[[], Outcome | None]] = {
                "offered": lambda: self.choose(journal, slots, quarantine),
                "downloading": lambda: self._fetch(journal, stop),
                "verified": lambda: self._stage(journal),
                "staged": lambda: self._prepare(journal, stop),
                "testing": lambda: self._test(journal, slots),
            }
            return work[journal.state]()
        except EdgeError as error:
            log.warning("%s: %s: %s", journal.model, journal.state, error)
            return broke(error)
        except OSError as error:
            log.exception("%s: %s", journal.model, journal.state)
            return broke(DeploymentError("disk-error", f"{journal.state}: {error}"))

    def choose(self, journal: Journal, slots: Slots, quarantine: dict[str, Quarantined]) -> Outcome:
        """Choose the variant that fits; look whether it is good, quarantined or here already."""
        wanted, offer = _wanted(journal), journal.offer or Offer()
        if offer.index is None:
            return _not_offered(journal, offer)
        try:
            variant = choose_variant(offer.index, self._capabilities())
        except TargetError as error:
            return Outcome(
                event="unfit", permanent=True, reason=msgspec.structs.replace(_reason(error), permanent=True)
            )
        bundle = offer.targets.get(variant.bundle)
        if bundle is None or bundle.sha256 != variant.sha256:
            raise LinkError("http-failed", f"the repository's signed metadata does not list {variant.bundle} (yet)")
        generation = generation_id(variant.sha256, wanted.config, wanted.policy)
        failed_before = quarantine.get(generation) if not wanted.retry_quarantined else None
        here = self._generations.has(generation) or self._generations.twin(variant.sha256) is not None
        return Outcome(
            event="fits",
            permanent=failed_before is not None,
            is_good=slots.good == generation and self._generations.has(generation),
            quarantined=failed_before is not None,
            is_here=here,
            reason=_quarantine_reason(failed_before, variant) if failed_before else None,
            choice=Choice(variant=variant.variant, bundle=bundle, generation=generation),
        )

    def _fetch(self, journal: Journal, stop: Stop) -> Outcome | None:
        choice, wanted = _choice(journal), _wanted(journal)
        request = VerifyBundle(
            path=str(self._paths.downloads / choice.bundle.sha256),
            length=choice.bundle.length,
            sha256=choice.bundle.sha256,
            destination=str(self._paths.staging / choice.generation),
            model=journal.model,
            release=wanted.release,
            variant=choice.variant,
        )
        received = self._fetch_verified(choice.bundle, request, stop)
        if received is None:
            return None
        return Outcome(event="done", evidence={"bundle_bytes": choice.bundle.length, "received_bytes": received})

    def _fetch_verified(self, target: TargetFile, request: VerifyBundle, stop: Stop) -> int | None:
        """Download a target and have it verified and unpacked.

        Returns:
            Bytes that came over the network in this call; None if it was interrupted.
        """
        file = self._paths.downloads / target.sha256
        present = file.stat().st_size if file.exists() else 0
        used = tree_bytes(self._paths.store / "generations")
        needed = 2 * target.length - min(present, target.length)  # the file, and what is unpacked from it
        check_room(self._paths.downloads, needed=needed, used=used, budget=self._disk_budget)
        fetched = self._download.fetch(target.url, file, length=target.length, stop=stop)
        if not fetched.complete:
            return None
        remove_tree(self._paths.staging / target.sha256)
        remove_tree(self._paths.staging / request.destination.rpartition("/")[2])
        try:
            self._workers.verify_bundle(request)
        except TrustError as error:
            if error.code == "tuf-target-mismatch":
                discard(file)
            raise
        # Before anything relies on it: else a power cut may bring back a folder of this name that was half removed.
        fsync_folder(self._paths.staging)
        return fetched.received

    def _stage(self, journal: Journal) -> Outcome:
        choice, wanted = _choice(journal), _wanted(journal)
        record = Generation(
            schema=GENERATION_SCHEMA,
            generation=choice.generation,
            model=journal.model,
            release=wanted.release or "",
            variant=choice.variant,
            bundle_sha256=choice.bundle.sha256,
            config=wanted.config,
            policy=wanted.policy,
        )
        unpacked = self._paths.staging / choice.generation
        twin = self._generations.twin(choice.bundle.sha256)
        if not self._generations.has(choice.generation) and twin is not None:
            self._generations.clone(twin, record, self._paths.staging / f"clone-{choice.generation}")
        elif self._generations.has(choice.generation) or unpacked.is_dir():
            self._generations.stage(unpacked, record)
        else:
            raise DeploymentError("generation-missing", f"the unpacked bundle of {choice.generation} is gone")
        discard(self._paths.downloads / choice.bundle.sha256)
        return Outcome(event="done")

    def _prepare(self, journal: Journal, stop: Stop) -> Outcome | None:
        if not self._generations.has(journal.generation):
            raise DeploymentError("generation-missing", f"generation {journal.generation} is not in the store")
        anchor = anchor_of(journal)
        if anchor is None or self._generations.twin(anchor.sha256) is not None:
            return Outcome(event="done")
        if (self._paths.staging / anchor_name(anchor)).is_dir():
            fsync_folder(self._paths.staging)  # whoever unpacked it may have been cut off before
            return Outcome(event="done")
        request = VerifyBundle(
            path=str(self._paths.downloads / anchor.sha256),
            length=anchor.length,
            sha256=anchor.sha256,
            destination=str(self._paths.staging / f"unpack-{anchor.sha256}"),
            model=journal.model,
        )
        if self._fetch_verified(anchor, request, stop) is None:
            return None
        (self._paths.staging / f"unpack-{anchor.sha256}").rename(self._paths.staging / anchor_name(anchor))
        fsync_folder(self._paths.staging)
        discard(self._paths.downloads / anchor.sha256)
        return Outcome(event="done")

    def _anchor_folder(self, anchor: TargetFile) -> Path:
        """Return where an anchor set lies unpacked: a generation that was made of the same bytes, or its own folder."""
        twin = self._generations.twin(anchor.sha256)
        folder = self._generations.path(twin) if twin else self._paths.staging / anchor_name(anchor)
        if not folder.is_dir():
            raise DeploymentError("generation-missing", f"the anchor set {anchor.path} is gone")
        return folder

    def _test(self, journal: Journal, slots: Slots) -> Outcome:
        wanted, generation = _wanted(journal), _choice(journal).generation
        anchor = anchor_of(journal)
        incumbent = slots.good if slots.good != generation and self._generations.has(slots.good) else None
        judgement = self._workers.test(
            JudgeNewcomer(
                newcomer=str(self._generations.path(generation)),
                policy=wanted.policy,
                options=wanted.config,
                incumbent=str(self._generations.path(incumbent)) if incumbent else None,
                incumbent_options=self._generations.read(incumbent).config if incumbent else {},
                anchor=str(self._anchor_folder(anchor)) if anchor else None,
            )
        )
        evidence: dict[str, Any] = {"judgement": plain(judgement)}
        if judgement.passed:
            return Outcome(event="done", evidence=evidence)
        reason = judgement.reason or Reason(code="golden-mismatch", message="testing refused it without a reason")
        reason = msgspec.structs.replace(reason, permanent=True)
        return Outcome(event="broke", permanent=True, reason=reason, evidence=evidence)


def plain(value: Any) -> Any:
    """Return built-in types that canonical JSON can carry: NaN and infinities become null."""
    return msgspec.json.decode(msgspec.json.encode(value))


def needs_of(journal: Journal, outcome: Outcome) -> Needs:
    """Return what the step after this one takes: a download its disk, a test and a trial their memory."""
    choice = outcome.choice or journal.choice
    if choice is None or journal.offer is None or journal.offer.index is None:
        return Needs()
    variants = (each for each in journal.offer.index.variants if each.variant == choice.variant)
    memory = next((each.requirements.memory_bytes for each in variants), 0)
    if journal.state != "offered":
        return Needs(memory=memory)
    return Needs(disk=0 if outcome.is_here else 2 * choice.bundle.length)


def anchor_of(journal: Journal) -> TargetFile | None:
    """Return the anchor set that the model's signed policy names."""
    return journal.offer.anchor if journal.offer else None


def anchor_name(anchor: TargetFile) -> str:
    """Return the name of an unpacked anchor set in the staging folder."""
    return f"anchor-{anchor.sha256}"


def _wanted(journal: Journal) -> DesiredModel:
    if journal.wanted is None:
        raise DeploymentError("store-corrupt", f"the journal of {journal.model!r} does not say what is wanted")
    return journal.wanted


def _choice(journal: Journal) -> Choice:
    if journal.choice is None:
        raise DeploymentError("store-corrupt", f"the journal of {journal.model!r} does not say what was chosen")
    return journal.choice


def _reason(error: EdgeError) -> Reason:
    return Reason(code=error.code, message=error.message, hint=error.hint)


def _not_offered(journal: Journal, offer: Offer) -> Outcome:
    reason = offer.error or Reason(code="http-failed", message=f"the repository was not read for {journal.model!r} yet")
    return Outcome(event="broke", permanent=reason.permanent, reason=reason)


def _quarantine_reason(failed: Quarantined, variant: VariantEntry) -> Reason:
    error = DeploymentError(
        "generation-quarantined",
        f"variant {variant.variant} of {failed.release} failed here at {failed.at}: {failed.reason.message}",
    )
    return msgspec.structs.replace(_reason(error), permanent=True)
