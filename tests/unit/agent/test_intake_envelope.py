"""The cheap look at an envelope before a worker is spent on it."""

import base64
import json

import pytest
from edgesdk_agent.intake import read_envelope
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.errors import LinkError
from edgesdk.protocol.messages import COMMAND_TYPE, DESIRED_TYPE
from edgesdk.protocol.topics import MAX_PAYLOAD


def envelope(payload: object, kind: str = DESIRED_TYPE) -> bytes:
    body = base64.b64encode(json.dumps(payload).encode()).decode()
    return json.dumps({"payload": body, "payloadType": kind, "signatures": [{"keyid": "a", "sig": "b"}]}).encode()


def test_hints_are_read_and_the_envelope_kept() -> None:
    """An envelope keeps its three fields for the worker; the hints are what it claims."""
    found, hints = read_envelope(envelope({"fleet": "lab", "device": "dev-1", "more": 1}), DESIRED_TYPE)
    assert set(found) == {"payload", "payloadType", "signatures"}
    assert (hints.fleet, hints.device, hints.run) == ("lab", "dev-1", None)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"x" * (MAX_PAYLOAD + 1), "message-too-large"),
        (b"[" * 60_000, "message-invalid"),
        (b"{}", "message-invalid"),
        (envelope({"fleet": "lab"}), "message-invalid"),
        (envelope({"fleet": "lab", "device": "d"}, COMMAND_TYPE), "message-invalid"),
        (envelope({"fleet": "lab", "device": "d"}).replace(b'{"keyid": "a", "sig": "b"}', b""), "message-invalid"),
        (b'{"payload": "***", "payloadType": "x", "signatures": []}', "message-invalid"),
    ],
)
def test_what_is_no_envelope_costs_no_worker(data: bytes, code: str) -> None:
    """Too large, too deep, incomplete, of another kind, unsigned: refused at once."""
    with pytest.raises(LinkError) as caught:
        read_envelope(data, DESIRED_TYPE)
    assert caught.value.code == code


@given(st.binary(max_size=300))
def test_any_bytes_are_an_envelope_or_a_link_error(data: bytes) -> None:
    """Nothing that a broker may deliver raises anything else."""
    try:
        read_envelope(data, DESIRED_TYPE)
    except LinkError as error:
        assert error.code == "message-invalid"
