"""Channels that stand or fall together."""

from __future__ import annotations

import numpy as np
from edgesdk_converters.compress.slots import Channels
from hypothesis import given
from hypothesis import strategies as st


def test_tied_channels_have_one_root_and_one_reason():
    """Ties reach through others; a pin holds for all that are tied, with the first reason."""
    channels = Channels()
    first, second, third = channels.new(3), channels.new(3), channels.new(3)
    channels.tie(first, second)
    channels.tie(second[:1], third[:1])
    channels.pin(third[:2], "an output")
    channels.pin(first, "later")
    assert channels.roots(first).tolist() == channels.roots(second).tolist()
    assert channels.roots(third)[0] == channels.roots(first)[0]
    assert channels.roots(third)[1] != channels.roots(first)[1]
    assert set(channels.pinned()) == set(channels.roots(np.concatenate([first, third[:2]])).tolist())


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30))
def test_roots_are_the_classes_of_the_ties(pairs):
    """Two channels have one root exactly if ties connect them."""
    channels = Channels()
    every = channels.new(10)
    groups = [{number} for number in range(10)]
    for a, b in pairs:
        channels.tie(every[a : a + 1], every[b : b + 1])
        joined = groups[a] | groups[b]
        for member in joined:
            groups[member] = joined
    roots = channels.roots(every)
    for a in range(10):
        for b in range(10):
            assert (roots[a] == roots[b]) == (b in groups[a])
