"""Sketches of what devices measure, and the subscriber's side of telemetry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgesdk.telemetry.sequence import Gap
    from edgesdk.telemetry.subscriber import Subscription, subscribe

__all__ = ["Gap", "Subscription", "subscribe"]


def __getattr__(name: str) -> Any:
    """Import the subscriber on first use: the agent takes the sketches only and must stay small."""
    if name == "Gap":
        from edgesdk.telemetry.sequence import Gap  # noqa: PLC0415 - see above

        return Gap
    if name in __all__:
        from edgesdk.telemetry import subscriber  # noqa: PLC0415 - see above

        return getattr(subscriber, name)
    msg = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(msg)
