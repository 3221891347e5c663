from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.canonical import canonical_json, sha256_hex

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(JSON)
def test_canonical_json_is_json_and_a_fixed_point(value: object) -> None:
    """Decoding and encoding again gives the same bytes, so a hash over them means one value."""
    data = canonical_json(value)
    assert canonical_json(json.loads(data)) == data


@given(st.dictionaries(st.text(), st.integers(), max_size=6))
def test_key_order_does_not_matter(value: dict[str, int]) -> None:
    """Two dictionaries that are equal have one encoding."""
    assert canonical_json(value) == canonical_json(dict(reversed(value.items())))


def test_nan_has_no_canonical_form() -> None:
    """NaN would make a hash that nobody else can reproduce."""
    with pytest.raises(ValueError, match=r"(?i)nan|compliant"):
        canonical_json({"x": float("nan")})


def test_sha256_is_the_standard_one() -> None:
    """The digest of the empty string, from FIPS 180-4."""
    assert sha256_hex(b"").startswith("e3b0c44298fc1c14")
