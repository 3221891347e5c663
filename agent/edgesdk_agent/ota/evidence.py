"""What apps say of the generations that they run, put together: for the trial, and as intervals for telemetry.

Counters are cumulative per session and generation, so the latest datagram of each is the whole truth; a lost one costs
nothing. A session that loads a generation again starts again from zero.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field

import msgspec

from edgesdk.errors import EdgeError
from edgesdk.protocol.evidence import Counters, Evidence
from edgesdk.protocol.messages import Reason
from edgesdk.telemetry.sketches import DDSketch
from edgesdk_agent.ota.intervals import Piece, difference

MAX_STREAMS = 512
LOADING_LIMIT_S = 60.0
MISFIT = "contract-major"
"""Why an app does not load a release that may be sound: it asks for another major version of the contract."""
MAX_MISFITS = 16


class SavedStream(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One session's figures about the generation on trial, as the journal keeps them."""

    app: str
    pid: int
    seq: int
    calls: int = 0
    bad: int = 0
    slow: int = 0
    answered_by_good: int = 0
    loading: bool = False
    loaded: bool = False


@dataclass(slots=True)
class _Stream:
    """What is known of one session and generation.

    `base` holds the figures of earlier lives of the session and of datagrams before the agent's last start.
    """

    app: str
    pid: int
    seq: int = -1
    latest: Counters = field(default_factory=Counters)
    base: SavedStream | None = None
    loading_since: float | None = None
    loaded: bool = False
    origin: tuple[str, str, str] = ("", "", "")

    def tally(self) -> SavedStream:
        """Return the figures of all lives."""
        now, base = self.latest, self.base or SavedStream(app=self.app, pid=self.pid, seq=0)
        return SavedStream(
            app=self.app,
            pid=self.pid,
            seq=max(self.seq, 0),
            calls=base.calls + now.calls,
            bad=base.bad + min(sum(now.errors.values()) + now.nan, now.calls),
            slow=base.slow + now.slow,
            answered_by_good=base.answered_by_good + now.answered_by_good,
            loading=self.loading_since is not None,
            loaded=self.loaded,
        )


@dataclass(frozen=True, slots=True)
class Heard:
    """What all apps together said of one generation; `misfits` ask for another contract: their words by app."""

    calls: int
    bad: int
    slow: int
    answered_by_good: int
    crashes: dict[str, int]
    load_failed: Reason | None
    misfits: dict[str, str]
    apps: tuple[str, ...]


_Key = tuple[str, str, str]  # model, generation, session


class EvidenceBook:
    """Keeps the latest of every session; safe to use from several threads.

    Args:
        monotonic: Seconds.
        alive: Whether a process is still there.
    """

    def __init__(self, monotonic: Callable[[], float], alive: Callable[[int], bool] | None = None) -> None:
        self._monotonic = monotonic
        self._alive = alive or process_alive
        self._lock = threading.Lock()
        self._streams: dict[_Key, _Stream] = {}
        self._reported: dict[_Key, Counters] = {}
        self._load_failed: dict[tuple[str, str], Reason] = {}
        self._misfits: dict[tuple[str, str], dict[str, str]] = {}
        self._pieces: list[Piece] = []

    def take(self, said: Evidence) -> None:
        """Take in one datagram; one that is older than what is known is ignored."""
        with self._lock:
            stream = self._stream(said)
            if said.seq <= stream.seq or said.pid != stream.pid:  # a session never leaves its process
                return
            stream.seq = said.seq
            stream.origin = (said.backend, said.provider, said.sdk)
            if said.kind == "loading":
                self._restart(stream, said)
                stream.loading_since, stream.loaded = self._monotonic(), False
                return
            stream.loading_since = None
            if said.kind == "load-failed":
                self._note_failure(said)
                return
            stream.loaded = True
            if said.counters.calls < stream.latest.calls:
                self._restart(stream, said)
            if said.kind != "loaded":
                stream.latest = said.counters

    def heard(self, model: str, generation: str) -> Heard:
        """Return what was said of a generation since it was last forgotten."""
        with self._lock:
            now = self._monotonic()
            streams = self._of(model, generation)
            tallies = [stream.tally() for stream in streams.values()]
            crashes: dict[str, int] = {}
            for stream in streams.values():
                if self._crashed(stream, now):
                    crashes[stream.app] = crashes.get(stream.app, 0) + 1
            return Heard(
                calls=sum(tally.calls for tally in tallies),
                bad=sum(tally.bad for tally in tallies),
                slow=sum(tally.slow for tally in tallies),
                answered_by_good=sum(tally.answered_by_good for tally in tallies),
                crashes=crashes,
                load_failed=self._load_failed.get((model, generation)),
                misfits=dict(self._misfits.get((model, generation), {})),
                apps=tuple(sorted({tally.app for tally in tallies if tally.loaded or tally.calls})),
            )

    def confidence(self, model: str, generation: str) -> DDSketch:
        """Return how confident a generation's answers were, over the sessions that are known.

        What is no sketch of ours is left out.
        """
        merged = DDSketch()
        with self._lock:
            said = [stream.latest.confidence for stream in self._of(model, generation).values()]
        for sketch in said:
            with suppress(EdgeError):
                merged.merge(DDSketch.from_dict(sketch or {}))
        return merged

    def save(self, model: str, generation: str) -> dict[str, SavedStream]:
        """Return what the journal is to keep of a generation on trial, by session."""
        with self._lock:
            return {session: stream.tally() for session, stream in self._of(model, generation).items()}

    def restore(self, model: str, generation: str, saved: dict[str, SavedStream], *, same_boot: bool) -> None:
        """Take over what the journal kept. After a reboot an app that was loading is not held to have crashed."""
        with self._lock:
            now = self._monotonic()
            for session, tally in saved.items():
                waiting = now if tally.loading and same_boot else None
                # The counters of a session that still runs come again, from its start: `base` gives way to them.
                stream = _Stream(tally.app, tally.pid, -1, base=tally, loading_since=waiting, loaded=tally.loaded)
                self._streams[model, generation, session] = stream

    def forget(self, model: str, generation: str) -> None:
        """Begin anew with a generation: a new trial of it."""
        with self._lock:
            for session in self._of(model, generation):
                self._retire((model, generation, session))
            self._load_failed.pop((model, generation), None)
            self._misfits.pop((model, generation), None)

    def interval(self) -> list[Piece]:
        """Return what happened since the last call, by session; sessions that said nothing new are left out."""
        with self._lock:
            pieces, self._pieces = self._pieces, []
            for key, stream in self._streams.items():
                pieces += self._report(key, stream)
            return pieces

    def reported(self) -> bytes:
        """Return what was reported of every session so far, to be stored with the interval that `interval` gave."""
        with self._lock:
            return msgspec.json.encode([(key, counters) for key, counters in self._reported.items()])

    def continue_from(self, reported: bytes) -> None:
        """Take over `reported` of an earlier run, so that no session's past is reported twice.

        Raises:
            msgspec.DecodeError: If it is not what `reported` gave; then the past is reported once more.
        """
        with self._lock:
            self._reported = dict(msgspec.json.decode(reported, type=list[tuple[_Key, Counters]])[-MAX_STREAMS:])

    def _note_failure(self, said: Evidence) -> None:
        reason = _reason(said.reason)
        if reason.code != MISFIT:
            self._load_failed[said.model, said.generation] = reason
            return
        misfits = self._misfits.setdefault((said.model, said.generation), {})
        if said.app in misfits or len(misfits) < MAX_MISFITS:
            misfits[said.app] = reason.message

    def _stream(self, said: Evidence) -> _Stream:
        key = (said.model, said.generation, said.session)
        if key not in self._streams:
            while len(self._streams) >= MAX_STREAMS:
                self._retire(min(self._streams, key=self._age))
            self._streams[key] = _Stream(said.app, said.pid)
        stream = self._streams[key]
        if stream.seq < 0 and stream.base is not None and said.kind != "loading":
            stream.base = None
        return stream

    def _age(self, key: _Key) -> tuple[bool, int]:
        """Order for eviction: sessions whose process is gone first."""
        stream = self._streams[key]
        return self._alive(stream.pid), stream.seq

    def _of(self, model: str, generation: str) -> dict[str, _Stream]:
        return {key[2]: stream for key, stream in self._streams.items() if key[:2] == (model, generation)}

    def _crashed(self, stream: _Stream, now: float) -> bool:
        since = stream.loading_since
        return since is not None and (not self._alive(stream.pid) or now - since > LOADING_LIMIT_S)

    def _restart(self, stream: _Stream, said: Evidence) -> None:
        self._pieces += self._report((said.model, said.generation, said.session), stream)
        stream.base = stream.tally()
        stream.latest = Counters()
        self._reported.pop((said.model, said.generation, said.session), None)

    def _retire(self, key: _Key) -> None:
        self._pieces += self._report(key, self._streams.pop(key))
        self._reported.pop(key, None)

    def _report(self, key: _Key, stream: _Stream) -> Iterable[Piece]:
        before = self._reported.get(key, Counters())
        if stream.latest == before:
            return ()
        if stream.latest.calls < before.calls:  # it was loaded again while nobody listened
            before = Counters()
        self._reported[key] = stream.latest
        return (Piece(key[0], key[1], stream.app, difference(stream.latest, before), stream.origin),)


def process_alive(pid: int) -> bool:
    """Return whether a process exists (it may belong to another user)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _reason(said: dict[str, str] | None) -> Reason:
    said = said or {}
    return Reason(code=said.get("code", "artifact-unloadable"), message=said.get("message", ""))
