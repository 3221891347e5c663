"""Small data with the structure of real data: smooth signals and pictures whose classes and channels differ."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pytest
from edgesdk_converters.calibration.doctor import examine
from edgesdk_converters.calibration.findings import Diagnosis
from edgesdk_converters.calibration.statistics import SetStatistics, summarise

from edgesdk.contract import Contract, Normalisation, TensorSpec

CLASSES = 4
COUNT, JUDGED = 160, 600


@dataclass(frozen=True)
class World:
    """Data of one kind: the contract, rows that may calibrate and rows that judge, both of one population."""

    contract: Contract
    x: np.ndarray
    y: np.ndarray
    judged: np.ndarray
    judged_y: np.ndarray

    def statistics(self, x: np.ndarray, y: np.ndarray | None = None) -> SetStatistics:
        return summarise(self.contract, {"x": x}, y)

    @cached_property
    def evaluation(self) -> SetStatistics:
        return self.statistics(self.judged, self.judged_y)

    def examine(self, x: np.ndarray, y: np.ndarray | None = None, *, alone: bool = False) -> Diagnosis:
        """Examine calibration rows beside the judging rows, or alone."""
        return examine(self.statistics(x, y), self.contract, None if alone else self.evaluation)

    def refused(self, x: np.ndarray, y: np.ndarray | None = None, *, alone: bool = False) -> set[str]:
        """Return the codes of the refusals."""
        return {finding.code.removeprefix("calibration-") for finding in self.examine(x, y, alone=alone).refusals}


def make(spec: TensorSpec, rows: tuple[np.ndarray, np.ndarray]) -> World:
    x, y = rows
    contract = Contract(
        version="1.0",
        task="classification",
        labels=tuple("abcd"),
        inputs=(spec,),
        outputs=(TensorSpec(name="scores", shape=(1, CLASSES)),),
    )
    return World(contract, x[:COUNT], y[:COUNT], x[COUNT:], y[COUNT:])


def signals(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Waves of 32 steps in 3 channels of different size and offset; the class is the frequency."""
    y = rng.integers(0, CLASSES, count)
    time = np.arange(32)[None, :, None]
    phase, size = rng.uniform(0, 1.5, (count, 1, 3)), rng.uniform(0.5, 1.5, (count, 1, 1))
    wave = size * np.sin(0.15 * (1 + y[:, None, None]) * time + phase) + 0.1 * rng.normal(size=(count, 32, 3))
    return (wave * [4, 1, 0.3] + [2, -1, 0.5]).astype(np.float32), y


def pictures(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Blobs of 12 x 12 pixels in three colours, reddish above and never blue; the class is the place."""
    y = rng.integers(0, CLASSES, count)
    rows, columns = np.mgrid[0:12, 0:12]
    top, left = 3 + 2 * (y // 2) + rng.normal(0, 0.7, count), 2 + 6 * (y % 2) + rng.normal(0, 0.7, count)
    near = (rows[None] - top[:, None, None]) ** 2 + (columns[None] - left[:, None, None]) ** 2
    blob = np.exp(-near / 8) * rng.uniform(0.6, 1, (count, 1, 1))
    colour = np.array([0.9, 0.5, 0.2]) + rng.normal(0, 0.05, (count, 3))
    shade = 20 * (1 - rows / 12)[None, :, :, None]
    image = 200 * blob[..., None] * colour[:, None, None] + shade + rng.normal(0, 3, (count, 12, 12, 3))
    return np.clip(np.rint(image), 0, 255).astype(np.float32), y


@pytest.fixture(scope="session")
def waves() -> World:
    """Signals that the runtime normalises."""
    normalisation = Normalisation(mean=(2.0, -1.0, 0.5), std=(3.0, 0.75, 0.22))
    spec = TensorSpec(name="x", shape=(1, 32, 3), layout="NTC", range=(-20.0, 20.0), normalisation=normalisation)
    return make(spec, signals(np.random.default_rng(5), COUNT + JUDGED))


@pytest.fixture(scope="session")
def images() -> World:
    """Pictures of 8 bits that the runtime normalises."""
    normalisation = Normalisation(mean=(35.0, 25.0, 15.0), std=(45.0, 27.0, 14.0))
    spec = TensorSpec(
        name="x",
        shape=(1, 12, 12, 3),
        layout="NHWC",
        colour="RGB",
        range=(0.0, 255.0),
        normalisation=normalisation,
    )
    return make(spec, pictures(np.random.default_rng(6), COUNT + JUDGED))


@pytest.fixture(scope="session", params=["waves", "images"])
def world(request: pytest.FixtureRequest) -> World:
    """Each kind of data."""
    return request.getfixturevalue(request.param)
