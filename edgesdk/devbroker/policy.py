"""Who may do what, as the shipped Mosquitto configuration has it (`edgesdk.fleet.mosquitto`); pure.

Three roles by user name: ``hub``, ``subscriber`` (each also with a suffix such as ``subscriber.dashboard``, for several
processes of one role), and everybody else is the device whose id is the client id.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from edgesdk.protocol.topics import ALL, ROOT

Action = Literal["publish", "receive"]
Acl = Callable[[str, str | None, Action, str], bool]
"""``acl(client_id, username, action, topic)`` says whether it is allowed."""

HUB = "hub"
SUBSCRIBER = "subscriber"
_LEVELS = 6
_FOR_SUBSCRIBERS = frozenset({"telemetry", "event"})


def role_of(username: str | None) -> str:
    """Return ``hub``, ``subscriber`` or ``device``."""
    role = (username or "").split(".", 1)[0]
    return role if role in {HUB, SUBSCRIBER} else "device"


def edge_acl(client_id: str, username: str | None, action: Action, topic: str) -> bool:
    """Allow what `docs/protocol.md` gives to the role; topics of another layout are nobody's."""
    levels = topic.split("/", _LEVELS - 1)
    if len(levels) < _LEVELS or "/".join(levels[:2]) != ROOT:
        return False
    device, direction, channel = levels[3:]
    match role_of(username):
        case "hub":
            return direction == ("down" if action == "publish" else "up")
        case "subscriber":
            return action == "receive" and direction == "up" and channel in _FOR_SUBSCRIBERS
        case _ if action == "publish":
            return direction == "up" and device == client_id
        case _:
            return direction == "down" and device in {client_id, ALL}


def allow_all(_client_id: str, _username: str | None, _action: Action, _topic: str) -> bool:
    """Allow everything: for tests of the broker itself."""
    return True
