"""Bindings of artifact tensors to the contract."""

from __future__ import annotations

import pytest
from edgesdk_converters.data.binding import bind

from edgesdk.contract import Contract, TensorSpec
from edgesdk.errors import ConfigError
from edgesdk.runtime.backend import RawTensor

CONTRACT = Contract(
    version="1.0",
    task="other",
    inputs=(TensorSpec(name="a", shape=(1, 2)), TensorSpec(name="b", shape=(1, 2))),
    outputs=(TensorSpec(name="y", shape=("batch", 3)),),
)
OUTPUTS = [RawTensor("out:0", 0, "int8", (1, 3), 0.5, 3)]


def inputs(*pairs: tuple[str, tuple[int, ...]]) -> list[RawTensor]:
    return [RawTensor(name, index, "float32", shape) for index, (name, shape) in enumerate(pairs)]


@pytest.mark.parametrize(
    ("artifact", "expected"), [(("b", "a"), ["b", "a"]), (("in0", "in1"), ["a", "b"]), (("a", "in1"), ["a", "b"])]
)
def test_names_decide_and_else_positions(artifact, expected):
    """Tensors are matched by name if all names agree, else by position."""
    bindings = bind(CONTRACT, inputs(*((name, (1, 2)) for name in artifact)), OUTPUTS)
    assert [binding.tensor for binding in bindings.inputs] == expected


def test_quantization_is_carried_over():
    """Scale and zero point of the artifact are in the binding; a symbolic size fits any."""
    [output] = bind(CONTRACT, inputs(("a", (1, 2)), ("b", (1, 2))), OUTPUTS).outputs
    assert (output.dtype, output.scale, output.zero_point) == ("int8", 0.5, 3)


@pytest.mark.parametrize(
    ("artifact", "words"),
    [
        (inputs(("a", (1, 2))), r"2 inputs \(a, b\), the model has 1 \(a\)"),
        (inputs(("a", (1, 2)), ("b", (1, 9))), "'b': the contract expects shape"),
        (inputs(("a", (1, 2)), ("b", (2,))), "'b': the contract expects shape"),
    ],
)
def test_what_does_not_fit_is_refused(artifact, words):
    """Another number of tensors, or another shape, is refused by name."""
    with pytest.raises(ConfigError, match=words) as caught:
        bind(CONTRACT, artifact, OUTPUTS)
    assert caught.value.code == "contract-mismatch"


def test_a_single_number_may_be_carried_as_a_row_of_one():
    """Runtimes are fed it so, and TFLite has it so; an output of one number is none of that."""
    spec = TensorSpec(name="rate", shape=(), dtype="int64")
    contract = Contract(version="1.0", task="other", inputs=(spec,), outputs=(TensorSpec(name="y", shape=()),))
    rate = RawTensor(name="rate", index=0, dtype="int64", shape=(1,))
    output = RawTensor(name="y", index=0, dtype="float32", shape=())
    [binding] = bind(contract, [rate], [output]).inputs
    assert binding.shape == (1,)
    with pytest.raises(ConfigError, match="'y': the contract expects shape"):
        bind(contract, [rate], [RawTensor(name="y", index=0, dtype="float32", shape=(1,))])
