"""Follows a model's slots on a thread of its own: loads what is to serve, swaps, frees, reports.

A swap is the assignment of one reference. A call takes the current view, puts a token into it and looks again: if the
view was replaced in between, it takes the new one. The watcher closes a generation only after the view that held it was
replaced and holds no token, so a call never meets a closed session and never waits for a swap.
"""

from __future__ import annotations

import logging
import os
import threading
import weakref
from pathlib import Path
from time import monotonic, sleep
from typing import Literal

from edgesdk.app.loaded import Loaded, load_generation
from edgesdk.app.reporter import Reporter
from edgesdk.app.view import View
from edgesdk.errors import ContractError, DeploymentError, EdgeError, ReleaseError
from edgesdk.generation import Slots, read_slots

POLL_S = 0.25
REPORT_S = 1.0
CLOSE_S = 2.0
MAX_PREPARED = 64

logger = logging.getLogger(__name__)
_alive: weakref.WeakSet[Follower] = weakref.WeakSet()


class Follower:
    """Keeps `view` what the slots say.

    Args:
        store: The store's folder.
        model: The model's name.
        contract: The major version that the app asks for; None: any.
        reporter: Sends evidence.
    """

    def __init__(self, store: Path, model: str, contract: int | None, reporter: Reporter) -> None:
        self._store, self._model, self._contract = store, model, contract
        self._reporter = reporter
        self.view: View | None = None
        self._retired: list[View] = []
        self._loaded: dict[str, Loaded] = {}
        self._failed: dict[str, EdgeError] = {}
        self._unreadable: EdgeError | None = None
        self._seq = -1
        self._reported_at = 0.0
        self._unreported: set[str] = set()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, wait_s: float) -> None:
        """Look at the slots now, wait up to `wait_s` seconds until something serves, then follow on a thread.

        Raises:
            EdgeError: Why nothing serves.
        """
        deadline = monotonic() + wait_s
        self.look()
        while self.view is None and (left := deadline - monotonic()) > 0:
            self._stopping.wait(min(left, POLL_S))
            self.look()
        if self.view is None:
            error = self.error()
            self.stop()
            raise error
        _alive.add(self)
        self._run()

    def enter(self) -> View:
        """Return the current view with a token in it; the caller pops the token from `View.calls` when done.

        Raises:
            EdgeError: ``model-none-served``, or why what is to serve could not be loaded.
        """
        while (view := self.view) is not None:
            view.calls.append(None)
            if view is self.view:
                return view
            view.calls.pop()
        raise self.error()

    def error(self) -> EdgeError:
        """Return why nothing serves."""
        if (error := self._unreadable or next(iter(self._failed.values()), None)) is not None:
            return type(error)(error.code, error.message, hint=error.hint)
        inner = self._store / "store"
        hint = f"The store is {inner}: the folder given is the agent's." if (inner / "models").is_dir() else None
        message = f"no generation of {self._model!r} is served in {self._store}"
        return ContractError("model-none-served", message, hint=hint)

    def look(self) -> None:
        """Do one round: read the slots, load and swap if they changed, free what is idle, report."""
        try:
            slots = read_slots(self._store, self._model)
            if slots is not None:
                self._follow(slots)
        except (EdgeError, OSError) as error:
            if self._unreadable is None:
                logger.warning("the slots of %s cannot be read: %s", self._model, error)
            self._unreadable = _as_edge_error(error)
        else:
            self._unreadable = None
        self._free()
        self._report(everything=False)

    def stop(self) -> None:
        """End the thread, wait for calls under way (`CLOSE_S` at most), send the last counters, free everything."""
        self._stopping.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
        self._swap(None)
        deadline = monotonic() + CLOSE_S
        while any(view.calls for view in self._retired) and monotonic() < deadline:
            sleep(CLOSE_S / 1000)
        self._report(everything=True)
        self._free()
        self._reporter.close()

    def reborn(self) -> None:
        """Go on in the child after a fork, as a session of its own; the thread stayed with the parent."""
        self._stopping = threading.Event()
        self._reporter.renew()
        self._retired.clear()  # calls under way stayed with the parent, too; what they hold is not freed
        for loaded in self._loaded.values():
            loaded.renew()
            self._say("loaded", loaded)
        if self.view is not None:
            self.view.calls.clear()
        self._run()

    def _run(self) -> None:
        self._thread = threading.Thread(target=self._watch, name=f"edgesdk-{self._model}", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stopping.wait(POLL_S):
            try:
                self.look()
            except Exception:
                logger.exception("following %s failed; it is tried again", self._model)

    def _follow(self, slots: Slots) -> None:
        if slots.seq != self._seq:
            self._failed.clear()
            self._seq = slots.seq
        found = self._view_of(slots)
        current = self.view
        if found is not None and (current is None or found.members != current.members or found.slot != current.slot):
            self._swap(found)
        elif found is None and slots.serving is None:
            self._swap(None)

    def _view_of(self, slots: Slots) -> View | None:
        """Return the view that the slots ask for, as far as it can be loaded."""
        serving = self._load(slots.serving)
        if slots.serve == "trial":
            good = self._load(slots.good)
            if serving is not None:
                return View(serving, "trial", good)
            return None if good is None else View(good, "good")
        return None if serving is None else View(serving, "good")

    def _load(self, generation: str | None) -> Loaded | None:
        """Return the generation, loaded now if it was not; None if it cannot be (tried once per slots)."""
        if generation is None or generation in self._failed:
            return None
        if (loaded := self._loaded.get(generation)) is not None:
            return loaded
        self._reporter.send("loading", generation)
        try:
            loaded = load_generation(self._store, generation, self._contract, width=self._width())
        except Exception as error:  # noqa: BLE001 - whatever a runtime throws: the app goes on with what it has
            reason = _as_edge_error(error)
            self._failed[generation] = reason
            self._reporter.send("load-failed", generation, reason=reason.to_dict())
            logger.warning("generation %s of %s cannot be loaded: %s", generation[:12], self._model, error)
            return None
        self._loaded[generation] = loaded
        self._say("loaded", loaded)
        return loaded

    def _width(self) -> int:
        """Return for how many calls at once the app was seen to need room."""
        return 1 if self.view is None else min(self.view.serving.session.width, MAX_PREPARED)

    def _swap(self, view: View | None) -> None:
        before, self.view = self.view, view
        if before is not None:
            self._retired.append(before)

    def _free(self) -> None:
        """Close what no view needs any more, once the calls that may use it have ended."""
        self._retired = [view for view in self._retired if view.calls]
        views = [*self._retired, *([] if self.view is None else [self.view])]
        needed = {loaded.generation for view in views for loaded in view.members}
        for generation in [name for name in self._loaded if name not in needed]:
            loaded = self._loaded.pop(generation)
            loaded.ledger.fold()
            self._say("closed", loaded)
            self._unreported.discard(generation)
            loaded.close()

    def _report(self, *, everything: bool) -> None:
        """Send the counters that changed, at most every `REPORT_S`."""
        for generation, loaded in self._loaded.items():
            if loaded.ledger.fold():
                self._unreported.add(generation)
        if not everything and monotonic() - self._reported_at < REPORT_S:
            return
        for generation in sorted(self._unreported & set(self._loaded)):
            self._say("counters", self._loaded[generation])
            self._reported_at = monotonic()
        self._unreported.clear()

    def _say(self, kind: Literal["loaded", "counters", "closed"], loaded: Loaded) -> None:
        self._reporter.send(
            kind,
            loaded.generation,
            counters=loaded.ledger.counters(),
            backend=loaded.session.backend,
            provider=loaded.session.provider,
        )


def _as_edge_error(error: Exception) -> EdgeError:
    """Give what is not ours a code by whose fault it is: the model's size, this device's files, the artifact."""
    if isinstance(error, EdgeError):
        return error
    message = f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError):
        return ReleaseError("memory-budget", f"the generation does not fit into this process: {message}")
    if isinstance(error, OSError):
        return DeploymentError("store-corrupt", message)
    return ReleaseError("artifact-unloadable", message)


def _after_fork() -> None:
    for follower in list(_alive):
        follower.reborn()


os.register_at_fork(after_in_child=_after_fork)
