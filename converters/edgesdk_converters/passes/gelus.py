"""Where a GELU was written out in small operators. Pure: of names, for ONNX files and for graphs that are linted.

GELU(x) is x Φ(x) = x/2 (1 + erf(x/√2)), or about x/2 (1 + tanh(√(2/π) (x + 0.044715 x³))) (Hendrycks and Gimpel,
https://arxiv.org/abs/1606.08415). Exporters write the products and sums in any order; so what an error function or a
hyperbolic tangent is of, and what it is multiplied by, is compared as a polynomial of x.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

Polynomial = dict[int, float]
"""Coefficients by power; of one value."""
HALF: Polynomial = {1: 0.5}
CUBIC = 0.044715
INNER: dict[str, Polynomial] = {
    "Erf": {1: math.sqrt(0.5)},
    "Tanh": {1: math.sqrt(2 / math.pi), 3: math.sqrt(2 / math.pi) * CUBIC},
}
"""What the functions are of, in a GELU of x."""
TOLERANCE = 1e-3
"""Exporters write constants with three digits and more."""
MOST_STEPS = 8
"""From the function back to x: x³ and two constants are seven products and sums at most."""


@dataclass(frozen=True, kw_only=True)
class Op:
    """An operator of ONNX, by the names of what it reads and of its first output."""

    kind: str
    inputs: Sequence[str]
    output: str


@dataclass(frozen=True, kw_only=True)
class Gelu:
    """A GELU that was found.

    Attributes:
        source: What it is of.
        output: What it gives.
        function: ``Erf``, or ``Tanh`` for the approximation.
    """

    source: str
    output: str
    function: str


def find_gelus(
    ops: Sequence[Op], numbers: Mapping[str, float], shapes: Mapping[str, Sequence[object] | None]
) -> list[Gelu]:
    """Return the GELUs of a graph.

    Args:
        ops: All that it computes.
        numbers: Constants of one element, by name.
        shapes: Of values, by name, as far as they are known; a GELU keeps the shape of its input.
    """
    finder = _Finder(ops, numbers)
    found = (gelu for op in ops if op.kind in INNER for gelu in finder.about(op))
    return [gelu for gelu in found if shapes.get(gelu.source) and shapes[gelu.source] == shapes.get(gelu.output)]


class _Finder:
    def __init__(self, ops: Iterable[Op], numbers: Mapping[str, float]) -> None:
        self._numbers = numbers
        self._makers: dict[str, Op] = {}
        self._readers: dict[str, list[Op]] = {}
        for op in ops:
            self._makers[op.output] = op
            for name in op.inputs:
                self._readers.setdefault(name, []).append(op)

    def about(self, function: Op) -> Iterator[Gelu]:
        """Yield the GELU that this Erf or Tanh belongs to."""
        inner = function.inputs[0]
        for source in self._sources(inner):
            if _same(self._polynomial(inner, source), INNER[function.kind]):
                for output in self._gated(function.output, source):
                    yield Gelu(source=source, output=output, function=function.kind)
                return

    def _sources(self, name: str, steps: int = MOST_STEPS) -> Iterator[str]:
        """Yield what a value may be a polynomial of, itself last."""
        op = self._makers.get(name)
        if op is not None and steps and op.kind in {"Add", "Sub", "Mul", "Div", "Pow"}:
            for each in dict.fromkeys(op.inputs):  # once, where both are the same
                if each not in self._numbers:
                    yield from self._sources(each, steps - 1)
        yield name

    def _polynomial(self, name: str, source: str, steps: int = MOST_STEPS) -> Polynomial | None:
        """Return as which polynomial of `source` a value is computed; None if as none."""
        if name == source:
            return {1: 1.0}
        if name in self._numbers:
            return {0: self._numbers[name]}
        op = self._makers.get(name)
        if op is None or not steps or op.kind not in _COMPUTED:
            return None
        left, right = (self._polynomial(each, source, steps - 1) for each in op.inputs)
        return None if left is None or right is None else _COMPUTED[op.kind](left, right)

    def _gated(self, function: str, source: str) -> Iterator[str]:
        """Yield the value that is ``source / 2 * (1 + function)``."""
        for adds in self._readers.get(function, []):
            others = [name for name in adds.inputs if name != function]
            if adds.kind == "Add" and [self._numbers.get(name) for name in others] == [1.0]:
                yield from self._products(adds.output, source, {0: 1.0})

    def _products(self, gate: str, source: str, so_far: Polynomial, steps: int = 2) -> Iterator[str]:
        """Yield what a gate becomes when it is multiplied by half of `source`, in one or more steps."""
        for op in self._readers.get(gate, []):
            others = [name for name in op.inputs if name != gate]
            if op.kind != "Mul" or len(others) != 1 or not steps:
                continue
            factor = self._polynomial(others[0], source)
            product = None if factor is None else _times(so_far, factor)
            if _same(product, HALF):
                yield op.output
            elif product is not None:
                yield from self._products(op.output, source, product, steps - 1)


def _plus(left: Polynomial, right: Polynomial) -> Polynomial | None:
    return {power: left.get(power, 0.0) + right.get(power, 0.0) for power in {*left, *right}}


def _minus(left: Polynomial, right: Polynomial) -> Polynomial | None:
    return _plus(left, {power: -value for power, value in right.items()})


def _times(left: Polynomial, right: Polynomial) -> Polynomial | None:
    made: Polynomial = {}
    for one, first in left.items():
        for other, second in right.items():
            made[one + other] = made.get(one + other, 0.0) + first * second
    return made


def _divided(left: Polynomial, right: Polynomial) -> Polynomial | None:
    by = right.get(0, 0.0) if list(right) == [0] else 0.0
    return {power: value / by for power, value in left.items()} if by else None


def _raised(left: Polynomial, right: Polynomial) -> Polynomial | None:
    power = right.get(0, 0.0) if list(right) == [0] else 0.0
    return {int(power): 1.0} if left == {1: 1.0} and power.is_integer() and power > 0 else None


_COMPUTED = {"Add": _plus, "Sub": _minus, "Mul": _times, "Div": _divided, "Pow": _raised}


def _same(found: Polynomial | None, expected: Polynomial) -> bool:
    """Say whether a polynomial is another, to the digits that exporters write."""
    return found is not None and all(
        math.isclose(found.get(power, 0.0), expected.get(power, 0.0), rel_tol=TOLERANCE, abs_tol=1e-9)
        for power in {*found, *expected}
    )
