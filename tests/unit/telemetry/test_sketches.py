import contextlib
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.errors import ContractError, LinkError
from edgesdk.telemetry.sketches import DDSketch

FINITE = st.floats(-1e12, 1e12, allow_nan=False).map(lambda x: 0.0 if abs(x) < 1e-6 else x)
MANY = st.lists(FINITE, min_size=1, max_size=200)
QUANTILES = st.sampled_from([0.0, 0.01, 0.25, 0.5, 0.9, 0.99, 1.0])


def sketch_of(values, **options):
    sketch = DDSketch(**options)
    for value in values:
        sketch.add(value)
    return sketch


def exact(values, q):
    return sorted(values)[math.floor(q * (len(values) - 1))]


@given(MANY, QUANTILES, st.sampled_from([0.001, 0.01, 0.05]))
def test_every_quantile_is_within_the_relative_accuracy(values, q, accuracy):
    """For values of any sign the answer is within the accuracy of the exact quantile of the same rank."""
    sketch = sketch_of(values, accuracy=accuracy, max_bins=100_000)
    true = exact(values, q)
    assert abs(sketch.quantile(q) - true) <= abs(true) * accuracy * (1 + 1e-9)


@given(MANY, MANY, QUANTILES)
def test_merging_equals_one_sketch_of_everything(left, right, q):
    """A fleet's quantile is the fleet's quantile: merged sketches answer as one over all values."""
    merged = sketch_of(left)
    merged.merge(sketch_of(right))
    whole = sketch_of(left + right)
    assert merged.quantile(q) == whole.quantile(q)
    assert (merged.count, merged.min, merged.max) == (whole.count, whole.min, whole.max)
    assert merged.to_dict()["positive"] == whole.to_dict()["positive"]


@given(MANY, QUANTILES)
def test_json_keeps_everything(values, q):
    """Through JSON and back the sketch answers the same and says the same."""
    sketch = sketch_of(values)
    again = DDSketch.from_dict(json.loads(json.dumps(sketch.to_dict())))
    assert again.to_dict() == sketch.to_dict()
    assert again.quantile(q) == sketch.quantile(q)


@given(st.lists(st.floats(1e-9, 1e9), min_size=50, max_size=200))
def test_memory_is_bounded_and_high_quantiles_stay_accurate(values):
    """With few bins the lowest are folded: no more bins than allowed, no count lost, the maximum exact."""
    sketch = sketch_of(values, max_bins=20)
    data = sketch.to_dict()
    assert len(data["positive"]) <= 20
    assert sketch.count == len(values) == sum(count for _, count in data["positive"])
    assert abs(sketch.quantile(1.0) - max(values)) <= 0.01 * max(values)


def test_a_latency_range_fits_without_folding():
    """From 10 µs to a minute in milliseconds, the default keeps 1 % at every quantile."""
    values = [0.01 * 1.01**n for n in range(1570)]
    sketch = sketch_of(values)
    assert values[-1] > 60_000
    for q in (0.0, 0.01, 0.5, 0.99):
        assert abs(sketch.quantile(q) - exact(values, q)) <= 0.0101 * exact(values, q)


def test_zeros_and_counts():
    """Zeros are exact; a count is that many values."""
    sketch = DDSketch()
    sketch.add(0.0, count=3)
    sketch.add(10.0)
    assert (sketch.quantile(0.5), sketch.count, sketch.sum) == (0.0, 4, 10.0)
    assert DDSketch().quantile(0.5) is None


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_a_number_is_refused(value):
    """NaN and infinities raise `input-nan` and change nothing."""
    sketch = DDSketch()
    with pytest.raises(ContractError) as caught:
        sketch.add(value)
    assert caught.value.code == "input-nan"
    assert sketch.count == 0


def test_extreme_floats_stay_finite():
    """The largest and smallest floats are answered with numbers."""
    sketch = sketch_of([1.7e308, 5e-324, -1.7e308, 1e-299])
    assert all(math.isfinite(sketch.quantile(q / 10)) for q in range(11))


def test_sketches_of_different_accuracy_do_not_merge():
    """Merging them would be a lie about the accuracy."""
    with pytest.raises(ContractError):
        DDSketch(accuracy=0.01).merge(DDSketch(accuracy=0.02))


GOOD = sketch_of([1.0, 2.0, -3.0, 0.0]).to_dict()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(GOOD)), JSON)
def test_a_foreign_sketch_is_read_or_refused_never_a_crash(key, value):
    """Any field replaced by anything gives a sketch or `message-invalid`."""
    with contextlib.suppress(LinkError):
        DDSketch.from_dict({**GOOD, key: value}).quantile(0.5)


@pytest.mark.parametrize(
    "change",
    [
        {"encoding": "ddsketch/2"}, {"count": 9}, {"positive": [[0, -1]]}, {"positive": [[0, 1]] * 2000}, {"sum": None},
        {"positive": [[1.5, 1]]}, {"max": math.inf}, {"accuracy": 0},
    ],
)  # fmt: skip
def test_an_inconsistent_sketch_is_refused(change):
    """Wrong encodings, counts, bins and sums are `message-invalid`."""
    with pytest.raises(LinkError) as caught:
        DDSketch.from_dict({**GOOD, **change})
    assert caught.value.code == "message-invalid"
