"""MQTT topics, version 1: `edge/v1/{fleet}/{device}/{up|down}/{channel}` (pure).

Five slashes keep AWS IoT Core's limit of seven. Devices need no wildcard.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

ROOT = "edge/v1"
ALL = "_all"
LEVELS = 6
MAX_PAYLOAD = 128 * 1024
NAME = re.compile(r"[a-z0-9-]{1,64}")

Up = Literal["presence", "state", "telemetry", "event", "reply"]
Down = Literal["desired", "cmd"]
UP: tuple[Up, ...] = ("presence", "state", "telemetry", "event", "reply")
DOWN: tuple[Down, ...] = ("desired", "cmd")


@dataclass(frozen=True, slots=True)
class Topic:
    """One parsed topic."""

    fleet: str
    device: str
    direction: Literal["up", "down"]
    channel: str


def up(fleet: str, device: str, channel: Up) -> str:
    """Return the topic on which a device speaks."""
    return f"{ROOT}/{fleet}/{device}/up/{channel}"


def down(fleet: str, device: str, channel: Down) -> str:
    """Return the topic on which a device (or `ALL`) is spoken to."""
    return f"{ROOT}/{fleet}/{device}/down/{channel}"


def every_up(channel: Up, *, fleet: str = "+", device: str = "+", group: str | None = None) -> str:
    """Return the filter for a channel of all devices; `group` makes it a shared subscription."""
    topic = f"{ROOT}/{fleet}/{device}/up/{channel}"
    return f"$share/{group}/{topic}" if group else topic


def parse(topic: str) -> Topic | None:
    """Parse a topic; None when it is not one of ours (unknown channels and bad names included)."""
    parts = topic.split("/")
    if len(parts) != LEVELS or "/".join(parts[:2]) != ROOT:
        return None
    fleet, device, direction, channel = parts[2:]
    if not NAME.fullmatch(fleet) or not (NAME.fullmatch(device) or (device == ALL and direction == "down")):
        return None
    if direction == "up" and channel in UP:
        return Topic(fleet, device, "up", channel)
    if direction == "down" and channel in DOWN:
        return Topic(fleet, device, "down", channel)
    return None
