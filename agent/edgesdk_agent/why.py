"""What `edge-agent why` says: why this device has or has not an update, and what to do next (pure).

`explain` takes facts and makes sentences of them in a fixed order: what is served, what is asked for and how far it is,
what holds it up, what the device itself lacks. `Explanation.next` is the one thing to do; "" when nothing is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from edgesdk.errors import CODES
from edgesdk.protocol.messages import Reason, State
from edgesdk_agent.ota.status import ModelStatus
from edgesdk_agent.store.records import Quarantined

SHORT = 12
IMPORTED = "import"
"""The deployment that statements name when local policy, not the hub, chose a release."""
LOW_DISK_BYTES = 64 << 20
WAITS_FOR = frozenset({"download-budget", "maintenance-window", "memory-low", "too-hot"})
PUT_OUT = {
    "revoked": "The hub has revoked this device",
    "unknown": "The hub does not know this device's enrolment any more",
}
ENROL = "Ask the operator for a token (`edge fleet token`), then: edge-agent enroll TOKEN --force."
START = "Start the agent: `systemctl start edge-agent`, or `edge-agent run`."
AGAIN = "Ask again in a few seconds."
DEPLOY = "Deploy a release with `edge fleet deploy`."
SET_CLOCK = "Set this device's clock, or give it a time source: TLS judges certificates by it, and it is not proven."
OF_THE_CLOCK = ("certificate is not yet valid", "certificate has expired")
CONNECT = "Nothing, if the device is meant to be offline; else check its network and the broker's address."

UNDER_WAY: dict[State, str] = {
    "offered": "It is choosing the variant that fits this device.",
    "downloading": "Its bundle is being downloaded; what has arrived is kept across cuts and restarts.",
    "verified": "Its bundle is verified and is being made a generation.",
    "staged": "Its bundle is in the store; its tests are being prepared.",
    "testing": "Its golden sets are being run in a child process; no app sees it before it passes.",
    "committed": "It passed its tests and its trial here, and was committed.",
}


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known on the device about one model.

    Attributes:
        running: The agent runs; otherwise `status` is what it said last.
        starting: It was started just now and has said nothing yet.
        serial: Of the desired document in force; 0: none was accepted yet.
        problem: Why the newest desired document is not in force, ending in its ``[code]``; "" if it is.
        status: What the updater says of the model; None if no desired document ever named it.
        serving: The generation that the slots file serves; None: none.
        quarantined: The quarantine of the generation that is asked for.
        disk_free: Bytes that the agent may still write; None: not known.
        standing: What the hub says this enrolment is worth: enrolled, revoked or unknown; "": it was not asked.
    """

    model: str
    running: bool = True
    starting: bool = False
    online: bool = True
    serial: int = 0
    problem: str = ""
    clock: Literal["proven", "unproven"] = "proven"
    status: ModelStatus | None = None
    slot: Literal["good", "trial", "none"] = "none"
    serving: str | None = None
    quarantined: Quarantined | None = None
    disk_free: int | None = None
    standing: str = ""


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """The answer.

    Attributes:
        updated: The device runs what it was asked to run, for good.
        because: Code of the reason; "" if nothing went wrong.
        text: The paragraph.
        next: What to do next; "" if nothing.
    """

    model: str
    updated: bool
    because: str
    text: str
    next: str


def explain(facts: Facts) -> Explanation:
    """Say why a model has or has not an update here."""
    status = facts.status
    reason = status.reason if status else None
    if facts.starting:
        sentences = [_served(facts), "The agent is just starting and has not said yet how it stands."]
        return Explanation(model=facts.model, updated=False, because="", text=" ".join(sentences), next=AGAIN)
    sentences = [_served(facts), _asked(facts), *_progress(facts), *_surroundings(facts)]
    return Explanation(
        model=facts.model,
        updated=status is not None and status.state == "committed",
        because=reason.code if reason else "",
        text=" ".join(sentences),
        next=_next(facts),
    )


def without_models(*, running: bool, online: bool, standing: str, problem: str) -> str:
    """Say, for people, how a device stands on which no model is known; the arguments are as in `Facts`."""
    text = "No model was deployed here yet."
    if problem:
        text += f" The newest desired document is not in force: {problem}."
    if standing in PUT_OUT:
        todo = ENROL
    elif not running:
        todo = START
    else:
        todo = _cure(_code(problem)) or (DEPLOY if online else CONNECT)
    return f"{text}\nNext: {todo}"


# ---- sentences ------------------------------------------------------------------------------------------------------


def _served(facts: Facts) -> str:
    if facts.serving is None:
        return f"This device serves no release of {facts.model}."
    release = _release_of(facts)
    words = "on trial" if facts.slot == "trial" else "as good"
    return f"This device serves {facts.model}{release} {words} (generation {facts.serving[:SHORT]})."


def _release_of(facts: Facts) -> str:
    status = facts.status
    if status is None:
        return ""
    release = status.release if facts.slot == "trial" else status.good_release
    return f" {release}" if release else ""


def _asked(facts: Facts) -> str:
    status = facts.status
    if status is None or status.serial == 0:
        return "No desired document that this device accepted names it."
    if status.release is None:
        return f"The fleet wants no release of it here (desired {status.serial})."
    if status.deployment == IMPORTED:
        return f"A file that was imported here brought release {status.release}, and local policy lets it be deployed."
    if status.serial < facts.serial:
        return (
            f"The fleet asked for release {status.release} (deployment {status.deployment}, desired {status.serial});"
            f" its newest document ({facts.serial}) does not name {facts.model}, or is still to be taken up."
        )
    return f"The fleet asks for release {status.release} (deployment {status.deployment}, desired {status.serial})."


def _progress(facts: Facts) -> Iterator[str]:
    status = facts.status
    if status is None:
        return
    if status.state in UNDER_WAY:
        yield UNDER_WAY[status.state]
    match status.state:
        case "trial":
            yield from _trial(status)
        case "committed":
            yield from _thin(status.reason)
        case "refused" | "rolled_back" | "failed":
            yield _ended(status)
        case _:
            pass
    if facts.quarantined is not None:
        yield f"That generation is quarantined here since {facts.quarantined.at}: it is not tried again unless forced."
    if status.paused and status.state != "committed":
        yield "The fleet has paused deployments; a trial is not committed meanwhile."


def _ended(status: ModelStatus) -> str:
    because = _because(status.reason)
    if status.state == "refused":
        return f"It does not fit this device, so nothing was downloaded: {because}."
    if status.state == "rolled_back":
        return f"It was rolled back from its trial: {because}."
    if status.reason is None or status.reason.permanent:
        return f"It failed, and trying again would not help: {because}."
    if status.reason.code in WAITS_FOR:
        return f"It waits: {because}. {_retry(status)}"
    return f"It failed for now: {because}. {_retry(status)}"


def _trial(status: ModelStatus) -> Iterator[str]:
    seen = status.trial_evidence
    yield f"It is on trial: {_figures(seen)}."
    if status.policy is not None:
        policy = status.policy
        yield (
            f"It is committed after {policy.min_calls} calls and {policy.min_seconds:g} s of service with at most"
            f" {policy.max_bad_rate:.3%} bad ones; the deadline is {policy.max_seconds:g} s, then the policy says"
            f" {policy.on_thin_evidence}."
        )
    for app, words in seen.get("misfits", {}).items():
        yield f"The app {app!r} is not served by it: {words} [contract-major]."
    if status.reason is not None:
        yield f"It is held beyond its deadline: {_because(status.reason)}."


def _figures(seen: dict[str, Any]) -> str:
    calls, bad, slow = seen.get("calls", 0), seen.get("bad", 0), seen.get("slow", 0)
    apps = ", ".join(seen.get("apps", ())) or "no app yet"
    served = seen.get("served_seconds", 0)
    return f"{calls} calls so far, {bad} bad and {slow} slow, in {served:g} s of service by {apps}"


def _thin(reason: Reason | None) -> Iterator[str]:
    if reason is not None:
        yield f"The evidence was thin: {_because(reason)}."


def _retry(status: ModelStatus) -> str:
    when = "at its next chance" if status.retry_in_s is None else f"in about {status.retry_in_s:.0f} s"
    times = f"{status.attempts} time{'' if status.attempts == 1 else 's'}"
    return f"It was tried {times} and is tried again {when}."


def _surroundings(facts: Facts) -> Iterator[str]:
    if facts.standing in PUT_OUT:
        yield f"{PUT_OUT[facts.standing]}: nothing that it says counts, and it gets no releases."
    if not facts.running:
        yield "The agent does not run, so this is what it said last."
    elif not facts.online:
        yield "The broker cannot be reached, so newer wishes of the fleet are not known."
    if facts.problem:
        yield f"The newest desired document is not in force: {facts.problem}."
    if facts.clock == "unproven":
        yield "The clock is not proven; expiry is judged at the last time that somebody trusted has signed."
    if facts.disk_free is not None and facts.disk_free < LOW_DISK_BYTES:
        yield f"Only {facts.disk_free / 2**20:.0f} MiB of disk are free."


def _because(reason: Reason | None) -> str:
    if reason is None:
        return "no reason was kept"
    return f"{reason.message.rstrip('.')} [{reason.code}]" if reason.message else f"[{reason.code}]"


# ---- what to do next ------------------------------------------------------------------------------------------------


def _next(facts: Facts) -> str:
    """Return the one thing to do: what the device lacks first, then the reason's cure."""
    status = facts.status
    if first := _lacks(facts):
        return first
    if status is not None and status.paused and status.state != "committed":
        return "Resume deployments at the hub."
    if status is None or (status.state == "idle" and status.release is not None):
        return _problem_cure(facts) or f"Deploy a release: `edge fleet deploy {facts.model} RELEASE`."
    if status.state == "trial" and not status.trial_evidence.get("apps"):
        heard = "Its user must be in the agent's group (edge-agent), or it is not heard."
        return f"Start an app that uses edgesdk.Model({facts.model!r}): a trial needs live evidence. {heard}"
    if status.reason is not None and status.state not in {"committed", "trial"}:
        return status.reason.hint or _cure(status.reason.code)
    return _problem_cure(facts) or ("" if facts.online else CONNECT)


def _lacks(facts: Facts) -> str:
    """Return what must be done at the device itself before anything else can help; "" if nothing."""
    if facts.standing in PUT_OUT:
        return ENROL
    if not facts.running:
        return START
    reason = facts.status.reason if facts.status else None
    troubles = f"{facts.problem} {reason.message if reason else ''}"
    return SET_CLOCK if facts.clock == "unproven" and any(words in troubles for words in OF_THE_CLOCK) else ""


def _problem_cure(facts: Facts) -> str:
    return _cure(_code(facts.problem)) or ("" if facts.online else CONNECT)


def _code(problem: str) -> str:
    return problem.rpartition("[")[2].rstrip("]")


def _cure(code: str) -> str:
    info = CODES.get(code)
    return info.cure if info else ""
