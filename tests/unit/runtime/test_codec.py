"""The pure way of an array into an artifact and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.contract import Binding, Normalisation, TensorSpec
from edgesdk.errors import ContractError
from edgesdk.runtime.codec import check_input, decoder, encoder, not_finite, zeros
from edgesdk.runtime.ort import saturates


def spec(**facts: Any) -> TensorSpec:
    return TensorSpec(**{"name": "x", "shape": (2, 3), **facts})


def binding(**facts: Any) -> Binding:
    return Binding(**{"tensor": "x", "artifact_name": "x", "index": 0, "dtype": "float32", "shape": (2, 3), **facts})


@given(st.floats(1e-3, 10), st.integers(-128, 127), st.lists(st.floats(-1000, 1000, width=32), min_size=6, max_size=6))
def test_quantized_values_come_back_within_half_a_step(scale: float, zero_point: int, values: list[float]) -> None:
    """Inside the representable range the error is at most half a step; outside it saturates."""
    bound = binding(dtype="int8", scale=scale, zero_point=zero_point)
    array = np.array(values, np.float32).reshape(2, 3)
    low, high = (-128 - zero_point) * scale, (127 - zero_point) * scale
    raw = encoder(None, bound)(array)
    back = decoder(None, bound)(raw)
    assert raw.dtype == np.int8
    assert back.dtype == np.float32
    np.testing.assert_allclose(back, np.clip(array, low, high), atol=scale * 0.501 + 1e-4)


def test_quantization_rounds_half_to_even() -> None:
    """As ONNX QuantizeLinear defines it."""
    raw = encoder(None, binding(dtype="uint8", scale=1.0, zero_point=10, shape=(4,)))(np.float32([0.5, 1.5, -0.5, 999]))
    assert raw.tolist() == [10, 12, 10, 255]


@pytest.mark.parametrize("shape", [(), (1,), (2, 3)])
def test_an_input_keeps_its_rank(shape: tuple[int, ...]) -> None:
    """A scalar (a sampling rate, a threshold) stays one, as the artifact declares it."""
    raw = encoder(spec(shape=shape), binding(shape=shape))(np.ones(shape, np.float64).T)
    assert (raw.shape, raw.dtype, raw.flags.c_contiguous) == (shape[::-1], np.float32, True)


@pytest.mark.parametrize(("layout", "axis"), [(None, -1), ("NC", 1), ("CN", 0)])
def test_normalisation_follows_the_channel_axis(layout: str | None, axis: int) -> None:
    """Along C of the layout, else along the last axis."""
    count = (2, 3)[axis]
    norm = Normalisation(mean=tuple(range(count)), std=(2.0,) * count)
    found = encoder(spec(layout=layout, normalisation=norm), binding())(np.ones((2, 3), np.float32))
    expected = (1 - np.arange(count)) / 2
    np.testing.assert_allclose(
        np.moveaxis(found, axis, -1), np.broadcast_to(expected, np.moveaxis(found, axis, -1).shape)
    )


@pytest.mark.parametrize("layout", [None, "NC", "CN"])
def test_one_number_normalises_every_channel(layout: str | None) -> None:
    """A mean and a deviation for all channels give what the same number for each does."""
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    norm = Normalisation(mean=(127.5,), std=(2.0,))
    found = encoder(spec(layout=layout, normalisation=norm), binding())(values)
    np.testing.assert_array_equal(found, (values - 127.5) / 2)


@pytest.mark.parametrize(
    ("dtype", "value", "ok"),
    [
        ("float32", [[1, 2, 3], [4, 5, 6]], True),
        ("float32", np.ones((2, 3)), True),
        ("float32", np.ones((2, 3), bool), True),
        ("float32", np.ones((2, 3), complex), False),
        ("uint8", [[0, 1, 255], [0, 0, 0]], True),
        ("uint8", [[0, 1, 256], [0, 0, 0]], False),
        ("uint8", [[0, -1, 2], [0, 0, 0]], False),
        ("int8", np.ones((2, 3)), False),
        ("int64", np.ones((2, 3), np.uint8), True),
        ("bool", np.ones((2, 3), bool), True),
        ("bool", np.ones((2, 3), int), False),
        ("string", [["a", "b", "c"], ["d", "e", "f"]], True),
        ("string", np.ones((2, 3)), False),
    ],
)
def test_dtypes_convert_only_without_loss(dtype: Any, value: Any, *, ok: bool) -> None:
    """Integers convert when their values fit; nothing is cut, wrapped or invented."""
    if ok:
        found = check_input(spec(dtype=dtype), value, {})
        assert found.tolist() == np.asarray(value).tolist()
        return
    with pytest.raises(ContractError, match="'x': expected dtype") as caught:
        check_input(spec(dtype=dtype), value, {})
    assert caught.value.code == "input-dtype"


def test_symbols_have_one_value_within_a_call() -> None:
    """A symbol is bound by the first input that has it; the message shows the value."""
    symbols: dict[str, int] = {}
    check_input(spec(name="a", shape=("batch", 3)), np.zeros((5, 3)), symbols)
    check_input(spec(name="b", shape=("batch",)), np.zeros(5), symbols)
    with pytest.raises(ContractError, match=r"'c': expected shape \[batch=5\], got \[4\]"):
        check_input(spec(name="c", shape=("batch",)), np.zeros(4), symbols)


@given(st.sampled_from([np.nan, np.inf, -np.inf]), st.integers(0, 5))
def test_one_bad_value_anywhere_is_found(bad: float, at: int) -> None:
    """NaN and infinities are found wherever they are."""
    array = np.zeros(6, np.float32)
    array[at] = bad
    with pytest.raises(ContractError, match="1 of 6 values") as caught:
        check_input(spec(), array.reshape(2, 3), {})
    assert caught.value.code == "input-nan"
    assert not_finite({"a": np.zeros(2, np.float32), "b": array, "c": np.zeros(2, np.int8)}) == ["b"]


def test_states_are_reset_to_zeros() -> None:
    """A state that an app leaves out has the sizes of the call and the contract's dtype."""
    found = zeros(spec(shape=("batch", 4), dtype="float16"), {"batch": 2})
    assert (found.shape, found.dtype, found.any()) == ((2, 4), np.float16, np.False_)


@pytest.mark.parametrize(
    ("architecture", "flags", "expected"),
    [
        ("x86_64", "flags : fpu avx2", True),
        ("x86_64", "flags : avx2 avx512_vnni fma", False),
        ("x86_64", "flags : avx2 avx_vnni", False),
        ("aarch64", "Features : asimd", False),
        ("x86_64", "", True),
    ],
)
def test_which_processors_saturate(architecture: str, flags: str, *, expected: bool) -> None:
    """Only x86 without VNNI does; where nothing is known, the exact way is taken."""
    assert saturates(architecture, flags) is expected
