from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.errors import LinkError
from edgesdk.protocol import evidence, messages
from edgesdk.protocol.topics import MAX_PAYLOAD

KINDS = [
    messages.Desired,
    messages.Command,
    messages.Presence,
    messages.Statement,
    messages.Record,
    messages.Event,
    messages.StateReport,
    messages.Reply,
]
DESIRED = {
    "fleet": "f",
    "device": "d",
    "serial": 1,
    "issued_at": "2026-01-01T00:00:00Z",
    "min_tuf": {"root": 1, "timestamp": 1},
}


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.binary(max_size=200) | st.text().map(str.encode) | st.just(b"[" * 5000))
def test_garbage_is_one_typed_error(kind: type[msgspec.Struct], data: bytes) -> None:
    """No bytes make a decoder raise anything but `LinkError`."""
    try:
        messages.decode(data, kind)
    except LinkError as error:
        assert error.code in {"message-invalid", "message-too-large"}


def test_a_desired_with_an_unknown_field_is_refused() -> None:
    """A signed document that says more than we understand is not obeyed in part."""
    assert messages.decode(json.dumps(DESIRED).encode(), messages.Desired).serial == 1
    with pytest.raises(LinkError, match="surprise"):
        messages.decode(json.dumps({**DESIRED, "surprise": 1}).encode(), messages.Desired)


def test_a_newer_device_is_understood() -> None:
    """What devices send up may hold fields that this version does not know."""
    data = {"device": "d", "fleet": "f", "online": True, "run": "r", "ts": "t", "from_the_future": 1}
    assert messages.decode(json.dumps(data).encode(), messages.Presence).online


@pytest.mark.parametrize("serial", [0, -1, 2**63])
def test_a_serial_out_of_range_is_refused(serial: int) -> None:
    """Serials are positive and fit 63 bits."""
    with pytest.raises(LinkError, match="serial"):
        messages.decode(json.dumps({**DESIRED, "serial": serial}).encode(), messages.Desired)


@pytest.mark.parametrize("model", ["../etc", "A", "", "a" * 65, "a/b"])
def test_a_model_name_cannot_be_a_path(model: str) -> None:
    """Names from the network never leave their folder."""
    data = {**DESIRED, "models": {model: {"release": "1.0.0", "deployment": "x"}}}
    with pytest.raises(LinkError):
        messages.decode(json.dumps(data).encode(), messages.Desired)


def test_a_payload_beyond_the_limit_is_refused_both_ways() -> None:
    """Neither are 128 KB exceeded when sending nor parsed when received."""
    with pytest.raises(LinkError, match="bytes"):
        messages.decode(b" " * (MAX_PAYLOAD + 1), messages.Presence)
    big = messages.Reply(device="d", fleet="f", id="i", ok=True, ts="t", result={"x": "y" * MAX_PAYLOAD})
    with pytest.raises(LinkError, match="bytes"):
        messages.encode(big)


def _evidence(classes: dict[str, int]) -> evidence.Evidence:
    return evidence.Evidence(
        v=1,
        kind="counters",
        app="a",
        pid=1,
        session="s" * 8,
        seq=3,
        model="m",
        generation="a" * 64,
        counters=evidence.Counters(calls=5, classes=classes),
    )


def test_evidence_that_is_too_large_keeps_its_counters() -> None:
    """Sketches are dropped before counts are."""
    data = evidence.encode_evidence(_evidence({f"class-{i:060}": i for i in range(2000)}))
    found = evidence.decode_evidence(data)
    assert len(data) <= evidence.MAX_DATAGRAM
    assert found.counters.calls == 5
    assert found.counters.classes == {}


@given(st.binary(max_size=200))
def test_a_forged_datagram_is_one_typed_error(data: bytes) -> None:
    """A local program cannot crash the agent with a datagram."""
    try:
        evidence.decode_evidence(data)
    except LinkError as error:
        assert error.code in {"message-invalid", "message-too-large"}
