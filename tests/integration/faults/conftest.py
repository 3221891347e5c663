"""Fixtures of the planted faults: the benchmark's device, with a good release committed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import planted_faults
from planted.device import Device, Ending
from planted.releases import Recipe, good_recipe

Deploy = Callable[[str, Recipe], Ending]


@pytest.fixture(scope="module")
def deploy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deploy]:
    """Make, sign, publish and deploy a release to a device that runs v2; an app calls it all the time."""
    folder = tmp_path_factory.mktemp("planted")
    factory, recordings = planted_faults.prepare(folder)
    with Device(folder / "device", recordings) as device:
        assert planted_faults.deploy(device, factory, "1.0.0", good_recipe(0)).state == "committed"
        yield lambda version, recipe: planted_faults.deploy(device, factory, version, recipe)
