"""Contract files, as the converters read them."""

from __future__ import annotations

import pytest
from edgesdk_converters.request import read_contract

from edgesdk.errors import ConfigError

SOUND = """
version = "1.0"
task = "classification"
labels = ["a", "b"]
[[inputs]]
name = "x"
shape = [1, 2]
[[outputs]]
name = "y"
shape = [1, 2]
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('["a", "b"]', '["a"]', r"1 labels, but 'y' ends with \(2,\)"),
        ('version = "1.0"', "", "version"),
        ("shape = [1, 2]", "colour_order = 3", "colour_order|shape"),
        ("version", "version version", "no contract"),
    ],
)
def test_a_contract_that_contradicts_itself_is_refused_before_any_work(tmp_path, old, new, words):
    """A wrong field, missing field, bad TOML, or labels that do not fit the output are `config-invalid`."""
    path = tmp_path / "contract.toml"
    path.write_text(SOUND)
    assert read_contract(path).labels == ("a", "b")
    path.write_text(SOUND.replace(old, new))
    with pytest.raises(ConfigError, match=words) as caught:
        read_contract(path)
    assert caught.value.code == "config-invalid"
