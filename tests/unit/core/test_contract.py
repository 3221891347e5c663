from __future__ import annotations

import msgspec
import pytest

from edgesdk.contract import Contract, TensorSpec, load_contract_toml, same_major, tensor

TOML = """
version = "1.2"
task = "classification"
labels = ["a", "b"]
[[inputs]]
name = "imu"
shape = ["batch", 128, 6]
layout = "NTC"
range = [-10.0, 10.0]
normalisation = { mean = [0.0], std = [1.0] }
[[outputs]]
name = "scores"
shape = ["batch", 2]
"""


def test_a_contract_is_read_from_toml() -> None:
    """What a person writes is what apps are promised."""
    contract = load_contract_toml(TOML)
    assert contract.major == 1
    assert contract.inputs[0].shape == ("batch", 128, 6)
    assert contract.inputs[0].range == (-10.0, 10.0)


def test_a_misspelt_field_is_refused_by_name() -> None:
    """A typo in a contract never becomes a silent default."""
    with pytest.raises(msgspec.ValidationError, match="lables"):
        load_contract_toml(TOML.replace("labels", "lables"))


@pytest.mark.parametrize("shape", [[0], [-1], ["Batch!"], [1.5]])
def test_a_shape_holds_positive_sizes_or_symbols(shape: list[object]) -> None:
    """A nonsensical dimension is refused where it is written."""
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"name": "x", "shape": shape}, TensorSpec)


def test_apps_ask_for_a_major() -> None:
    """Minor versions are compatible; no question means any."""
    contract: Contract = load_contract_toml(TOML)
    assert same_major(1, contract)
    assert same_major(None, contract)
    assert not same_major(2, contract)
    assert tensor(contract.inputs, "imu") is contract.inputs[0]
    assert tensor(contract.inputs, "other") is None
