"""The whole behaviour of a deployment on a device, as one table (pure).

Read a row aloud: "a model that is *testing*, when the work *broke* and that is *permanent*: *quarantine* it, and it has
*failed*." Rows are tried from top to bottom; the first whose guard holds counts.

How a row is walked (`edgesdk_agent.ota.updater`), so that a crash at any point is survived:

1. If the action writes slots, the move (event and reason) is journalled before it is made.
2. The action is done; every action may be done twice.
3. The next state, its statement and a quarantine are journalled in one transaction; only then is the state entered,
   that is, its work begun. So after a crash the journal names the work that may have been begun.

`docs/deployment-states.md` is rendered from this file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from edgesdk.protocol.messages import State

Event = Literal[
    "asked",
    "removed",
    "superseded",
    "fits",
    "unfit",
    "done",
    "broke",
    "retry",
    "accepted",
    "against",
]
Guard = Literal["is good", "quarantined", "not now", "is here", "permanent", "transient", "always"]
Action = Literal["nothing", "begin trial", "commit", "roll back", "withdraw", "quarantine", "remove"]

STATES: tuple[State, ...] = get_args(State)
EVENTS: tuple[Event, ...] = get_args(Event)
ACTIONS: tuple[Action, ...] = get_args(Action)

MEANING: dict[Event, str] = {
    "asked": "a desired document wants another release, configuration or policy, or wants it again",
    "removed": "a desired document wants no release of this model",
    "superseded": "a newer desired document wants something else while work is under way",
    "fits": "a variant of the release fits this device",
    "unfit": "no variant fits; the reason says what is missing",
    "done": "the state's work is done",
    "broke": "the state's work failed, transiently or for good",
    "retry": "the back-off after a transient failure is over",
    "accepted": "there is enough live evidence, and none against the release",
    "against": "live evidence is against the release",
}

DOES: dict[Action, str] = {
    "nothing": "",
    "begin trial": "slots: trial := this generation; serve := trial",
    "commit": "slots: previous := good; good := trial; trial := null; serve := good",
    "roll back": "slots: serve := good (or none); trial := null; and quarantine",
    "withdraw": "slots: serve := good (or none); trial := null",
    "quarantine": "this generation is not tried again here unless forced",
    "remove": "slots: all null; serve := none",
}

WORK: dict[State, str] = {
    "idle": "",
    "offered": "choose the variant that fits; nothing is downloaded before",
    "refused": "",
    "downloading": "fetch the one bundle (resumable), verify it against signed metadata, unpack it",
    "verified": "make it a generation: durable, read-only",
    "staged": "fetch and verify the anchor set, if the model's policy names one",
    "testing": "golden sets in a child process; the good generation is a judge",
    "trial": "apps are served by it; live evidence is gathered",
    "committed": "",
    "failed": "wait for the back-off or a maintenance window, if the failure is transient",
    "rolled_back": "",
}

IN_PROGRESS: frozenset[State] = frozenset({"offered", "downloading", "verified", "staged", "testing", "trial"})
EXTERNAL: frozenset[Event] = frozenset({"asked", "removed", "superseded", "retry"})
"""Events that do not follow from the work of a state: a cycle without one of them would spin."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What guards look at.

    Attributes:
        is_good: The generation asked for is the good one already.
        quarantined: It failed here before, and the operator did not ask to try it again.
        not_now: A maintenance window, heat, memory or disk says that the next step must wait.
        is_here: Its bytes are in the store, as this generation or under another configuration.
        permanent: Doing the failed work again would not help.
    """

    is_good: bool = False
    quarantined: bool = False
    is_here: bool = False
    permanent: bool = False
    not_now: bool = False

    def holds(self, guard: Guard) -> bool:
        """Return whether a guard holds."""
        return {
            "is good": self.is_good,
            "quarantined": self.quarantined,
            "not now": self.not_now,
            "is here": self.is_here,
            "permanent": self.permanent,
            "transient": not self.permanent,
            "always": True,
        }[guard]


@dataclass(frozen=True, slots=True)
class Row:
    """One transition."""

    state: State
    event: Event
    guard: Guard
    action: Action
    next: State


# fmt: off
TABLE: tuple[Row, ...] = (
    #    state          event         guard          action         next
    Row("idle",         "asked",      "always",      "nothing",     "offered"),

    Row("offered",      "fits",       "is good",     "nothing",     "committed"),
    Row("offered",      "fits",       "quarantined", "nothing",     "failed"),
    Row("offered",      "fits",       "not now",     "nothing",     "failed"),
    Row("offered",      "fits",       "is here",     "nothing",     "verified"),
    Row("offered",      "fits",       "always",      "nothing",     "downloading"),
    Row("offered",      "unfit",      "always",      "nothing",     "refused"),
    Row("offered",      "broke",      "always",      "nothing",     "failed"),
    Row("offered",      "superseded", "always",      "nothing",     "failed"),

    Row("downloading",  "done",       "always",      "nothing",     "verified"),
    Row("downloading",  "broke",      "always",      "nothing",     "failed"),
    Row("downloading",  "superseded", "always",      "nothing",     "failed"),

    Row("verified",     "done",       "always",      "nothing",     "staged"),
    Row("verified",     "broke",      "always",      "nothing",     "failed"),
    Row("verified",     "superseded", "always",      "nothing",     "failed"),

    Row("staged",       "done",       "not now",     "nothing",     "failed"),
    Row("staged",       "done",       "always",      "nothing",     "testing"),
    Row("staged",       "broke",      "always",      "nothing",     "failed"),
    Row("staged",       "superseded", "always",      "nothing",     "failed"),

    Row("testing",      "done",       "not now",     "nothing",     "failed"),
    Row("testing",      "done",       "always",      "begin trial", "trial"),
    Row("testing",      "broke",      "permanent",   "quarantine",  "failed"),
    Row("testing",      "broke",      "transient",   "nothing",     "failed"),
    Row("testing",      "superseded", "always",      "nothing",     "failed"),

    Row("trial",        "accepted",   "always",      "commit",      "committed"),
    Row("trial",        "against",    "always",      "roll back",   "rolled_back"),
    Row("trial",        "superseded", "always",      "withdraw",    "rolled_back"),
    Row("trial",        "broke",      "always",      "withdraw",    "failed"),

    Row("failed",       "retry",      "transient",   "nothing",     "offered"),
    Row("failed",       "asked",      "always",      "nothing",     "offered"),
    Row("failed",       "removed",    "always",      "remove",      "idle"),

    Row("refused",      "asked",      "always",      "nothing",     "offered"),
    Row("refused",      "removed",    "always",      "remove",      "idle"),

    Row("committed",    "asked",      "always",      "nothing",     "offered"),
    Row("committed",    "removed",    "always",      "remove",      "idle"),

    Row("rolled_back",  "asked",      "always",      "nothing",     "offered"),
    Row("rolled_back",  "removed",    "always",      "remove",      "idle"),
)
# fmt: on


def transition(state: State, event: Event, facts: Facts) -> Row:
    """Return the row for an event in a state.

    Raises:
        LookupError: If the table has none: the event cannot happen there.
    """
    for row in TABLE:
        if row.state == state and row.event == event and facts.holds(row.guard):
            return row
    raise LookupError(f"the deployment table has no row for {event!r} in state {state!r} with {facts}")
