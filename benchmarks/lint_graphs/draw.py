"""What the families draw from: dtypes, shapes and quantization, most of them ordinary, some at a limit or beyond."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from lint_graphs.build import Builder

T = TypeVar("T")
ORDINARY = ("int8",) * 12 + ("uint8",) * 3 + ("int16",) * 3
ANY = ORDINARY + ("int32",) * 2 + ("float32", "float32", "int64", "bool")


class Draw:
    """A random source with a graph that is being built."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.build = Builder()

    def one(self, choices: Sequence[T]) -> T:
        return choices[int(self.rng.integers(len(choices)))]

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def int(self, low: int, high: int) -> int:
        """Return a number of ``low … high``, both included."""
        return int(self.rng.integers(low, high + 1))

    def dtype(self, choices: Sequence[str] = ANY) -> str:
        return self.one(choices)

    def scale(self) -> float:
        return float(np.float32(self.rng.uniform(0.002, 0.3)))

    def quantization(self, dtype: str) -> dict[str, Any]:
        """Draw the quantization of an activation; now and then one that is missing, per axis or out of range."""
        if dtype in {"float32", "bool", "int64"}:
            return {"scale": None}
        points = {"int8": (-128, 127), "uint8": (0, 255)}.get(dtype, (0, 0))
        odd = self.rng.random()
        if odd < 0.015:
            return {"scale": None}
        if odd < 0.03 and dtype in {"int8", "uint8", "int16", "int32"}:
            return {"scale": self.scale(), "zero_point": self.one([-200, 300, 7, 40000])}
        return {"scale": self.scale(), "zero_point": self.int(*points)}

    def shape(self, rank: int | None = None, *, batch: int | None = None, limit: int = 24) -> tuple[int, ...]:
        rank = rank if rank is not None else self.one([4, 4, 4, 4, 3, 2, 2, 1, 5, 6])
        sizes = [self.int(1, limit if index > rank - 4 else 3) for index in range(rank)]
        if rank >= 2:
            sizes[0] = batch if batch is not None else self.one([1, 1, 1, 1, 2, 3])
        return tuple(sizes)

    def input(self, shape: Sequence[int], dtype: str, **words: Any) -> int:
        words = words or self.quantization(dtype)
        if self.chance(0.02) and len(shape) > 1:
            signature = list(shape)
            signature[0 if self.chance(0.5) else self.int(1, len(shape) - 1)] = -1
            words["signature"] = signature
        return self.build.input(shape, dtype, **words)

    def output(self, shape: Sequence[int], dtype: str, **words: Any) -> int:
        return self.build.tensor(shape, dtype, **(words or self.quantization(dtype)))

    def constant(self, shape: Sequence[int], dtype: str, **words: Any) -> int:
        low, high = {"int8": (-127, 127), "uint8": (0, 255), "int16": (-999, 999)}.get(dtype, (0, 1))
        data = self.rng.integers(low, high + 1, shape)
        return self.build.tensor(shape, dtype, data=data, **(words or self.quantization(dtype)))

    def finish(self, outputs: Sequence[int]) -> bytes:
        return self.build.bytes(outputs)


def same(size: int, stride: int) -> int:
    return -(-size // stride)


def valid(size: int, kernel: int, stride: int, dilation: int = 1) -> int:
    return (size - ((kernel - 1) * dilation + 1)) // stride + 1
