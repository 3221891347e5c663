"""Error rates and power of the gate's bounds for F1, precision and recall, by simulation: a section of `gate.py`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from edgesdk_converters.evaluate.classwise import ClassFigure, Figure
from edgesdk_converters.evaluate.reweighted import DRAWS as REAL_DRAWS
from edgesdk_converters.evaluate.reweighted import Reweighted, reweigh
from numpy.typing import NDArray

from edgesdk.stats import clopper_pearson

SEED = 20_261_124
DRAWS = 2000
ALPHAS = (0.05, 0.01)
EVEN, RARE, RARER = (0.5, 0.5), (0.9, 0.1), (0.97, 0.03)
TEN = (0.1,) * 10
STEEP = (0.4, 0.25, 0.15, 0.1, 0.05, 0.03, 0.02)
THIRTY, SIXTY = (1 / 30,) * 30, (1 / 60,) * 60


@dataclass(frozen=True, kw_only=True)
class Line:
    """What is drawn from.

    Attributes:
        what: The classes, for readers.
        shares: Their sizes.
        samples: Of one draw.
        limit: The loss of the figure that is allowed.
        right: Of every class, what the source has right; its errors spread evenly over the other classes.
        won: Of the samples that the source has wrong, how many the artifact has right.
        only: The one class in which the artifact loses; None: in all alike.
    """

    what: str
    shares: tuple[float, ...]
    samples: int
    limit: float = 0.02
    right: float = 0.9
    won: float = 0.0
    only: int | None = None
    figure: Figure = "f1"
    weighted: bool = False

    def name(self) -> str:
        """Return the figure as the command line names it."""
        return f"{self.figure}{'-weighted' if self.weighted else ''}"


AT_LIMIT = (
    *(Line(what="two of one size", shares=EVEN, samples=n) for n in (200, 400, 1000, 2000)),
    Line(what="two of one size", shares=EVEN, samples=50, limit=0.1),
    *(Line(what=f"two of one size, {right:.0%} right", shares=EVEN, samples=400, right=right) for right in (0.6, 0.99)),
    *(Line(what="two of one size, gains too", shares=EVEN, samples=n, won=0.3) for n in (200, 400, 2000)),
    *(Line(what="90 % and 10 %", shares=RARE, samples=n) for n in (200, 400, 2000)),
    Line(what="90 % and 10 %, lost in the rare", shares=RARE, samples=400, only=1, limit=0.05),
    Line(what="97 % and 3 %, lost in the rare", shares=RARER, samples=200, only=1, limit=0.1),
    Line(what="97 % and 3 %, gains too", shares=RARER, samples=1000, won=0.3, limit=0.05),
    *(Line(what="ten of one size", shares=TEN, samples=n) for n in (200, 1000)),
    *(Line(what="seven, 40 % to 2 %", shares=STEEP, samples=n) for n in (200, 400, 2000)),
    *(Line(what="seven, lost in the rarest", shares=STEEP, samples=n, only=6, limit=0.05) for n in (400, 1000)),
    *(Line(what=f"thirty of one size, {r:.0%} right", shares=THIRTY, samples=900, right=r) for r in (0.9, 0.6)),
    Line(what="sixty of one size", shares=SIXTY, samples=3600),
    Line(what="seven, 40 % to 2 %", shares=STEEP, samples=400, weighted=True),
    Line(what="90 % and 10 %", shares=RARE, samples=400, figure="precision", limit=0.05),
    Line(what="90 % and 10 %", shares=RARE, samples=400, figure="recall", limit=0.05),
)
AS_GOOD = (
    *(Line(what="two of one size", shares=EVEN, samples=n) for n in (400, 1000, 2000)),
    *(Line(what="90 % and 10 %", shares=RARE, samples=n) for n in (1000, 2000, 4000)),
    *(Line(what="ten of one size", shares=TEN, samples=n) for n in (400, 1000, 2000)),
)
INTRODUCTION = """
## F1, precision and recall at the very limit

Bounds from reweighted samples and one that was not seen (`evaluate/reweighted.py`). For means such bounds hold; these
figures are no means, hence this table. {runs:,} draws a line, each judged by {draws:,} weights (the gate takes
{all:,}). Unless told, the source has 90 % of every class right. The artifact loses what makes the limit; *gains too*:
it has 30 % of the source's errors right. In brackets: what the draws leave open (exact, 95 %). With fewer samples than
the square of the number of classes the gate decides nothing: such figures are biased there by more than their spread.
"""
Kinds = NDArray[np.int64]
Random = np.random.Generator


def population(line: Line, lost: float, won: float) -> tuple[Kinds, NDArray[np.float64]]:
    """Return the kinds of samples, int64 [3, kinds] (truth, source's answer, artifact's), and how frequent each is."""
    found: dict[tuple[int, int, int], float] = {}
    classes = range(len(line.shares))
    other = 1 / (len(line.shares) - 1)
    for truth, size in enumerate(line.shares):
        losing = lost if line.only in {None, truth} else 0.0
        found[truth, truth, truth] = size * line.right * (1 - losing)
        for wrong in classes:
            if wrong != truth:
                found[truth, truth, wrong] = size * line.right * losing * other
                found[truth, wrong, wrong] = size * (1 - line.right) * (1 - won) * other
                found[truth, wrong, truth] = size * (1 - line.right) * won * other
    kept = {kind: share for kind, share in found.items() if share > 0}
    return np.array(list(kept)).T, np.array(list(kept.values()))


def figures(line: Line, kinds: Kinds) -> tuple[ClassFigure, ClassFigure]:
    """Return the figures of source and artifact."""
    words: dict[str, Any] = {"classes": len(line.shares), "figure": line.figure, "weighted": line.weighted}
    return tuple(ClassFigure(truth=kinds[0], answers=kinds[i], **words) for i in (1, 2))  # type: ignore[return-value]


def losing(line: Line, limit: float) -> float:
    """Return which share of the source's right answers an artifact loses that loses exactly `limit`."""
    low, high = 0.0, 1.0
    for _ in range(50):
        lost = (low + high) / 2
        kinds, shares = population(line, lost, line.won)
        source, artifact = (float(each.of(shares[np.newaxis])[0]) for each in figures(line, kinds))
        low, high = (lost, high) if source - artifact < limit else (low, lost)
    return high


def drawn(random: Random, line: Line, lost: float, runs: int) -> Iterator[Reweighted]:
    """Yield what the gate makes of `runs` sets of samples."""
    kinds, shares = population(line, lost, line.won)
    for counts in random.multinomial(line.samples, shares / shares.sum(), runs):
        yield reweigh(*figures(line, np.repeat(kinds, counts, axis=1)), draws=DRAWS)


def at_the_limit(random: Random, runs: int) -> None:
    """Print how often an artifact at the very limit is refused, and passed."""
    heads = [f"{word} at {alpha:.0%}" for alpha in ALPHAS for word in ("refused", "passed")]
    print(f"| figure | classes | samples | limit | {' | '.join(heads)} |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for line in AT_LIMIT:
        p_values = np.array([each.p_values(line.limit) for each in drawn(random, line, losing(line, line.limit), runs)])
        counts = [int(np.sum(p_values[:, side] <= alpha)) for alpha in ALPHAS for side in (0, 1)]
        rates = " | ".join(share(count, runs) for count in counts)
        print(f"| {line.name()} | {line.what} | {line.samples:,} | {line.limit:.0%} | {rates} |", flush=True)


def as_good(random: Random, runs: int) -> None:
    """Print how often an artifact that lost nothing passes."""
    print("| classes | samples | none discordant | 1 % | 2 % |\n| --- | ---: | ---: | ---: | ---: |")
    for line in AS_GOOD:
        rates = []
        for discordant in (0.0, 0.01, 0.02):
            # Won and lost: half of the discordant samples each.
            each = Line(what="", shares=line.shares, samples=line.samples, won=discordant / 2 / (1 - line.right))
            lost = losing(each, 0.0) if discordant else 0.0
            verdicts = [found.p_values(line.limit)[1] <= ALPHAS[1] for found in drawn(random, each, lost, runs)]
            rates.append(f"{sum(verdicts) / runs:.0%}")
        print(f"| {line.what} | {line.samples:,} | {' | '.join(rates)} |", flush=True)


def share(count: int, runs: int) -> str:
    """Return a share of draws with its exact 95 % interval."""
    low, high = clopper_pearson(count, runs)
    return f"{count / runs:.1%} ({low:.1%} to {high:.1%})"


def section(runs: int) -> None:
    """Print the section."""
    random = np.random.default_rng(SEED)
    print(INTRODUCTION.format(runs=runs, draws=DRAWS, all=REAL_DRAWS))
    at_the_limit(random, runs)
    print(
        "\nHow often an artifact passes that lost nothing: F1, limit 2 %, alpha 1 %. *Discordant*: as many answers are "
        "won as lost.\n"
    )
    as_good(random, runs // 5)
