"""Faults planted in correctly signed releases end on the device, each for its own reason; good releases never do.

`benchmarks/planted_faults.py` runs all twelve and a hundred good ones; here is one fault of each kind of judge.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from planted.device import Ending
from planted.releases import FAULTS, Recipe, good_recipe

BY_NAME = {recipe.fault.split(" (")[0]: recipe for recipe in FAULTS}


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["threshold", "twice the latency", "memory leak", "NaN on rare inputs"])
def test_a_planted_fault_is_refused_or_rolled_back(fault: str, deploy: Callable[[str, Recipe], Ending]) -> None:
    """The good release's examples, its speed, repeated calls and the live trial: each finds the fault made for it."""
    recipe = BY_NAME[fault]
    ending = deploy(f"2.{list(BY_NAME).index(fault)}.0", recipe)
    assert (ending.state, ending.code) == recipe.expected, ending.message


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_a_good_release_commits(seed: int, deploy: Callable[[str, Recipe], Ending]) -> None:
    """The same harness lets a good model through, after the bad ones too."""
    ending = deploy(f"3.{seed}.0", good_recipe(seed))
    assert ending.state == "committed", ending.message


def test_the_table_names_twelve_faults() -> None:
    """The twelve kinds that the device is held to are all planted."""
    assert len({recipe.fault for recipe in FAULTS}) == 12
