from datetime import UTC, datetime, timedelta

import pytest

from edgesdk.fleet.freshness import ONLINE, due, warnings
from edgesdk.trust.change import Expiry

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
FRESH = {role: timedelta(days=400) for role in ("root", "targets", "snapshot", "timestamp")}


def expires(**spans):
    return {role: NOW + span for role, span in (FRESH | spans).items()}


def test_nothing_is_said_while_there_is_time():
    """No warning without a reason."""
    assert warnings(expires(), NOW) == []


@pytest.mark.parametrize(
    ("spans", "said"),
    [
        ({"timestamp": timedelta(hours=3)}, "timestamp expires in 3 h: edge repo refresh --repo REPO"),
        ({"timestamp": timedelta(minutes=-90)}, "timestamp expired 2 h ago: edge repo refresh --repo REPO"),
        ({"targets": timedelta(days=9)}, "targets expires in 9 d: edge repo refresh --role targets --repo REPO"),
        ({"root": timedelta(days=20)}, "root expires in 20 d: edge repo rotate root --repo REPO"),
    ],
)
def test_a_warning_names_role_time_and_command(spans, said):
    """Each role has its own cure."""
    assert warnings(expires(**spans), NOW) == [f"the repository's {said}"]


def test_one_command_is_named_once():
    """Snapshot and time stamp are renewed together, so they are one line."""
    assert len(warnings(expires(snapshot=timedelta(hours=1), timestamp=timedelta(hours=1)), NOW)) == 1


def test_half_the_lifetime_is_when_online_roles_are_signed_anew():
    """The snapshot, whose signature renews both, goes before the time stamp; root and targets are never due here."""
    fresh = {"snapshot": timedelta(days=7), "timestamp": timedelta(days=1), "root": timedelta(0)}
    assert due(expires(**fresh), NOW, Expiry()) is None
    assert due(expires(**fresh | {"timestamp": timedelta(hours=11)}), NOW, Expiry()) == "timestamp"
    assert due(expires(**fresh | {"snapshot": timedelta(days=3)}), NOW, Expiry()) == "snapshot"
    assert ONLINE == ("snapshot", "timestamp")
