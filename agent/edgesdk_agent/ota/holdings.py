"""What the store holds, as the updater sees it: moves by their names in the table, releases by generation, tidiness."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Literal

from edgesdk.errors import DeploymentError, EdgeError
from edgesdk.generation import Slots
from edgesdk_agent.ota import journal as journals
from edgesdk_agent.ota.download import imported
from edgesdk_agent.ota.journal import Journal
from edgesdk_agent.ota.table import Action
from edgesdk_agent.ota.work import anchor_name, anchor_of
from edgesdk_agent.paths import Paths
from edgesdk_agent.store.disk import Reserve
from edgesdk_agent.store.gc import collect, sweep
from edgesdk_agent.store.generations import GenerationStore
from edgesdk_agent.store.slots import SlotsStore

log = logging.getLogger(__name__)

MOVES: frozenset[Action] = frozenset({"begin trial", "commit", "roll back", "withdraw", "remove"})
"""The actions that write slots."""


class Holdings:
    """Slots, generations and the reserve of one agent."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self.reserve = Reserve(paths.reserve)
        self.slots = SlotsStore(paths.store, self.reserve)
        self.generations = GenerationStore(paths.store)

    def make(self, action: Action, journal: Journal) -> Slots:
        """Make a move of the slots; making it twice is making it once.

        Raises:
            DeploymentError: ``generation-missing``, ``store-corrupt`` or ``disk-full``.
        """
        model, generation = journal.model, journal.generation or ""
        match action:
            case "begin trial":
                return self.slots.begin_trial(model, generation)
            case "commit":
                return self.slots.commit(model, generation)
            case "roll back" | "withdraw":
                return self.slots.roll_back(model)
            case "remove":
                return self.slots.remove(model)
            case _:
                raise LookupError(f"{action!r} does not move slots")

    def is_good(self, journal: Journal) -> bool:
        """Return whether the journal's generation is the good one, and here."""
        return self.slots.read(journal.model).good == journal.generation and self.generations.has(journal.generation)

    def release_of(self, generation: str | None) -> str | None:
        """Return the release that a generation was made of; None if it cannot be read."""
        if generation is None:
            return None
        try:
            return self.generations.read(generation).release
        except DeploymentError:
            return None

    def describe(self, model: str, generation: str) -> tuple[str, Literal["good", "trial", "other"]] | None:
        """Return the release and the slot of a generation; None if it is not here."""
        release = self.release_of(generation)
        if release is None:
            return None
        try:
            slots = self.slots.read(model)
        except DeploymentError:
            return release, "other"
        if generation == slots.trial:
            return release, "trial"
        return release, "good" if generation == slots.good else "other"

    def readable_slots(self, model: str, stated_good: str | None) -> Slots:
        """Return a model's slots; if they cannot be read, restore the good generation that was stated last."""
        try:
            return self.slots.read(model)
        except DeploymentError:
            good = stated_good if self.generations.has(stated_good) else None
            log.exception("%s: the slots are damaged: restoring generation %s", model, good)
            return self.slots.restore(model, good)

    def found(self, model: str, slots: Slots) -> Journal:
        """Return a journal for slots that none is known for."""
        try:
            if slots.trial and slots.serve == "trial":
                return journals.found(self.generations.read(slots.trial), "trial")
            if slots.good:
                return journals.found(self.generations.read(slots.good), "committed")
        except DeploymentError:
            log.exception("%s: a generation that its slots name cannot be read", model)
        return Journal(model=model)

    def tidy(self, known: Iterable[Journal]) -> None:
        """Remove what no slot, no deployment and no app needs; take the reserve again. A failure can wait."""
        try:
            self._tidy(list(known))
        except (OSError, EdgeError):
            log.exception("could not tidy the store")

    def _tidy(self, known: list[Journal]) -> None:
        under_way = [each for each in known if each.in_progress or each.retries]
        keep = {each.generation for each in under_way if each.generation}
        for model in self.slots.models():
            slots = self.slots.read(model)
            keep |= {each for each in (slots.good, slots.previous, slots.trial) if each}
        anchors = [anchor for each in known if (anchor := anchor_of(each)) is not None]
        bundles = {each.choice.bundle.sha256 for each in under_way if each.choice}
        bundles |= {anchor.sha256 for each in under_way if (anchor := anchor_of(each)) is not None}
        bundles |= imported(self._paths.downloads)
        sweep(self._paths.staging, keep=keep | {anchor_name(anchor) for anchor in anchors})
        sweep(self._paths.downloads, keep=bundles | {f"{sha256}.json" for sha256 in bundles})
        collect(self.generations, keep=keep, staging=self._paths.staging)
        self.reserve.take()
