"""The back-off between transient failures."""

from __future__ import annotations

import random

from edgesdk_agent.ota.backoff import Backoff
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(deadline=None)
@given(st.integers(1, 10_000), st.integers(0, 2**32))
def test_it_grows_is_bounded_and_jitters(attempts: int, seed: int) -> None:
    """The wait lies in the upper half of a span that doubles up to its limit, however often it failed."""
    backoff = Backoff(random.Random(seed).random, first_seconds=2, max_seconds=600)
    span = min(2 * 2 ** min(attempts - 1, 20), 600)
    assert span / 2 <= backoff.wait(attempts) <= span


def test_a_start_without_failures_is_spread() -> None:
    """After a restart devices do not all begin at once."""
    assert 0 <= Backoff(lambda: 0.25).wait(0) <= 2
