"""Row fingerprints: exact while small, honest estimates when not."""

from __future__ import annotations

import numpy as np
from edgesdk_converters.calibration.fingerprints import Fingerprints, row_hashes
from hypothesis import given
from hypothesis import strategies as st


def of(rows: list[int], capacity: int = 1000) -> Fingerprints:
    found = Fingerprints(capacity)
    found.add(row_hashes([np.array(rows, np.float32)[:, None]]))
    return found


@given(first=st.lists(st.integers(0, 50), min_size=1), second=st.lists(st.integers(0, 50), min_size=1))
def test_below_the_capacity_everything_is_exact(first, second):
    """Different rows, repeated rows and shared rows are those of plain sets."""
    a, b = of(first), of(second)
    assert a.distinct == len(set(first))
    assert a.repeated_share == 1 - len(set(first)) / len(first)
    assert a.shared_with(b) == sum(row in set(second) for row in first) / len(first)


def test_beyond_the_capacity_shares_are_estimated_in_bounded_memory():
    """Of 20,000 different rows 256 to 512 are kept, and say about how many there are and how many are shared."""
    a, b = of(list(range(20_000)), 256), of(list(range(15_000, 35_000)), 256)
    assert len(a._counts) <= 512
    assert abs(a.distinct / 20_000 - 1) < 0.25
    assert abs(a.shared_with(b) - 0.25) < 0.15


def test_equal_values_are_equal_rows_whatever_their_dtype_and_sign_of_zero():
    """-0.0 is 0.0, and 8-bit integers are the same floats."""
    plain = row_hashes([np.array([[0.0, 3.0]], np.float32)])
    assert row_hashes([np.array([[-0.0, 3.0]], np.float32)]) == plain
    assert row_hashes([np.array([[0, 3]], np.uint8).astype(np.float32)]) == plain
