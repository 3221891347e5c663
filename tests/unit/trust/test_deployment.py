"""The deployment keys' document."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.errors import TrustError
from edgesdk.trust.deployment import decode_deployment_keys
from edgesdk.trust.keys import keyid_of

A, B = "aa" * 32, "bb" * 32
GOOD = {
    "schema": "edge.deployment-keys/1",
    "epoch": 1,
    "threshold": 1,
    "keys": [{"keyid": keyid_of(A), "public": A}],
}


def test_a_document_is_read():
    """Exactly the fields of the protocol."""
    found = decode_deployment_keys(json.dumps(GOOD).encode())
    assert (found.epoch, found.threshold, found.keys[0].public_hex) == (1, 1, A)


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "edge.deployment-keys/2"},
        {"epoch": 0},
        {"threshold": 0},
        {"threshold": 2},
        {"threshold": 2, "keys": GOOD["keys"] * 2},
        {"keys": []},
        {"keys": [{"keyid": keyid_of(B), "public": A}]},
        {"extra": 1},
    ],
)
def test_a_wrong_document_is_refused(change):
    """Another schema, no key, a threshold that cannot be met or counts a key twice, a false key id, unknown fields."""
    with pytest.raises(TrustError, match="tuf-metadata"):
        decode_deployment_keys(json.dumps({**GOOD, **change}).encode())


@given(st.binary(max_size=200))
def test_any_bytes_are_refused_with_a_trust_error(data):
    """The parser raises nothing else."""
    with pytest.raises(TrustError):
        decode_deployment_keys(data)
