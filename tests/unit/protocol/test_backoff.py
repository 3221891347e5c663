from random import Random

from hypothesis import given
from hypothesis import strategies as st

from edgesdk.protocol.backoff import Backoff


@given(st.integers(0, 2**32), st.integers(0, 200))
def test_delays_grow_to_the_cap_and_stay_within_their_jitter(seed, failures):
    """Delay n lies in [d/2, d] with d = min(cap, base·2ⁿ), also after very many failures; a success starts anew."""
    backoff = Backoff(base=0.5, cap=60, random=Random(seed))
    for number in range(failures):
        full = min(60, 0.5 * 2**number)
        assert full / 2 <= backoff.next() <= full
    backoff.reset()
    assert backoff.next() <= 0.5


def test_two_devices_do_not_wait_alike():
    """Jitter differs between devices, or a fleet would return in one instant."""
    first, second = Backoff(), Backoff()
    assert [first.next() for _ in range(8)] != [second.next() for _ in range(8)]
