from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.protocol import topics

NAMES = st.from_regex(topics.NAME, fullmatch=True)


@given(NAMES, NAMES, st.sampled_from(topics.UP))
def test_what_is_built_is_parsed(fleet: str, device: str, channel: topics.Up) -> None:
    """A topic that we build is one that we read."""
    found = topics.parse(topics.up(fleet, device, channel))
    assert found == topics.Topic(fleet, device, "up", channel)


@pytest.mark.parametrize(
    "topic",
    [
        "edge/v1/f/d/up",
        "edge/v2/f/d/up/state",
        "edge/v1/f/d/up/desired",
        "edge/v1/F/d/up/state",
        "edge/v1/f/_all/up/state",
        "edge/v1/f/d/up/state/x",
        "/edge/v1/f/d/up/state",
        "edge/v1/f/+/up/state",
        "",
    ],
)
def test_a_foreign_topic_is_none(topic: str) -> None:
    """Unknown channels, bad names and wrong depths are not ours."""
    assert topics.parse(topic) is None


def test_only_commands_go_to_all() -> None:
    """`_all` is an address of commands, never a sender."""
    assert topics.parse(topics.down("f", topics.ALL, "cmd")) is not None


def test_a_topic_keeps_the_level_limit_of_aws_iot_core() -> None:
    """At most seven slashes."""
    assert topics.up("f", "d", "telemetry").count("/") <= 7
    assert topics.every_up("telemetry", group="g") == "$share/g/edge/v1/+/+/up/telemetry"
