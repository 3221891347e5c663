"""A tensor of a model: its name, type, dimensions, quantization and, of a constant, its values."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """How the numbers of a tensor stand for reals: ``real = scale * (number - zero_point)``.

    Attributes:
        scales: One, or one for each index along `axis`.
        zero_points: As many.
        axis: The quantized dimension; None: one scale for the tensor.
    """

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int | None = None


@dataclass(frozen=True, kw_only=True)
class Tensor:
    """A value between nodes, or a constant.

    Attributes:
        name: As in the file.
        dtype: ``int8``, ``float32``, ``bool``, ``int4``, ``string`` …; ``unknown`` where the file does not say.
        shape: Dimensions, None for one that is not fixed; None for an unknown rank.
        quantization: None for a tensor without.
        load: Reads the constant's values, or None where they lie in a file that is not there; None for a value that
            only exists at run time.
        variable: State that lives from call to call.
    """

    name: str
    dtype: str
    shape: tuple[int | None, ...] | None
    quantization: Quantization | None = None
    load: Callable[[], NDArray[Any] | None] | None = None
    variable: bool = False

    @property
    def constant(self) -> bool:
        """Whether its values are in the file."""
        return self.load is not None

    @property
    def values(self) -> NDArray[Any] | None:
        """The constant's values, or None."""
        return None if self.load is None else self.load()

    @property
    def static(self) -> bool:
        """Whether every dimension is fixed."""
        return self.shape is not None and None not in self.shape

    @property
    def dims(self) -> tuple[int, ...]:
        """Dimensions with 1 for each that is not fixed; empty for an unknown rank."""
        return tuple(1 if size is None else size for size in self.shape or ())

    @property
    def elements(self) -> int:
        """How many numbers it holds, counting 1 for a dimension that is not fixed."""
        return math.prod(self.dims)
