"""Error rates and power of the accuracy gate, by simulation: `python benchmarks/gate.py > docs/statistics.md`.

Seeded; takes about ten minutes. Everything here is drawn from the model in which the tests are stated: independent
samples. `--quick` draws a tenth; `--classes` prints the section of F1, precision and recall alone.
"""

from __future__ import annotations

import argparse
import functools
import math
from collections.abc import Iterator
from typing import Any

import gate_classes
import numpy as np
from edgesdk_converters.evaluate import scores
from edgesdk_converters.evaluate.compare import Question, compare
from edgesdk_converters.evaluate.looks import looks
from gate_classes import share

from edgesdk.stats import binomial_at_least, clopper_pearson, paired_loss_test

ALPHA = 0.01
judge = functools.cache(paired_loss_test)
Random = np.random.Generator


def draw(random: Random, n: int, psi: float, loss: float, runs: int) -> Iterator[tuple[int, int]]:
    """Yield (wins, losses) of `runs` sets of `n` samples, a share `psi` of them discordant."""
    chances = [(psi - loss) / 2, (psi + loss) / 2, 1 - psi]
    for wins, losses, _same in random.multinomial(n, chances, runs):
        yield int(wins), int(losses)


def error_rates(random: Random, runs: int) -> None:
    """Print how often an artifact at the very limit is refused, and passed."""
    print("| samples | limit | discordant | refused | passed |\n| ---: | ---: | ---: | ---: | ---: |")
    for n, margin, psi in (
        (250, 0.02, 0.02),
        (250, 0.02, 0.1),
        (1000, 0.01, 0.02),
        (1000, 0.02, 0.05),
        (3000, 0.01, 0.03),
    ):
        verdicts = [judge(*table, n, margin, ALPHA) for table in draw(random, n, psi, margin, runs)]
        refused, passed = (sum(getattr(v, side) for v in verdicts) for side in ("shows_loss", "shows_no_loss"))
        print(f"| {n} | {margin:.0%} | {psi:.0%} | {refused / runs:.2%} | {passed / runs:.2%} |")


@functools.cache
def conditional_passes(wins: int, losses: int, n: int, margin: float) -> bool:
    """The test that stood here before: conditional on the discordant samples."""
    gamma = ALPHA / 10
    psi = clopper_pearson(wins + losses, n, 2 * gamma)[1]
    if psi < margin:
        return True
    share = 0.5 - margin / (2 * psi)
    return binomial_at_least(wins, wins + losses, max(0.0, share)) + gamma <= ALPHA


def power(random: Random, runs: int) -> None:
    """Print how many samples it takes to pass an artifact that lost nothing, nine times of ten."""
    print("| limit | discordant | samples | by the conditional test |\n| ---: | ---: | ---: | ---: |")
    for margin in (0.01, 0.02):
        for psi in (0.0, 0.01, 0.02, 0.05):
            found = [needed(random, margin, psi, runs, test) for test in (passes, conditional_passes)]
            print(f"| {margin:.0%} | {psi:.1%} | {found[0]:,} | {found[1]:,} |")


def passes(wins: int, losses: int, n: int, margin: float) -> bool:
    """The gate's test."""
    return judge(wins, losses, n, margin, ALPHA).shows_no_loss


def needed(random: Random, margin: float, psi: float, runs: int, test: Any) -> int:
    """Return the least size, in steps of a tenth, at which nine of ten are passed."""
    n = math.ceil(max(0.9 * math.log(1 / ALPHA) / margin, 0.7 * psi * (2.33 + 1.28) ** 2 / margin**2))
    while sum(test(*table, n, margin) for table in draw(random, n, psi, 0.0, runs)) < 0.9 * runs:
        n = math.ceil(n * 1.1)
    return n


def instalments(random: Random, runs: int) -> None:
    """Print what early stopping takes and what it costs, for 4,000 samples and a limit of one point."""
    n, margin, taken = 4000, 0.01, looks(4000)
    print(
        "| the artifact | refused | passed | undecided | samples seen on average |\n| --- | ---: | ---: | ---: | ---: |"
    )
    for words, psi, loss in (
        ("answers the same", 0.0, 0.0),
        ("as good, 2 % discordant", 0.02, 0.0),
        ("as good, 5 % discordant", 0.05, 0.0),
        ("half a point worse", 0.02, 0.005),
        ("at the limit", 0.02, 0.01),
        ("two points worse", 0.04, 0.02),
        ("five points worse", 0.08, 0.05),
        ("thirty points worse", 0.35, 0.3),
    ):
        ends = [one_set(random, n, margin, psi, loss, taken) for _ in range(runs)]
        counts = [sum(end == outcome for end, _seen in ends) / runs for outcome in ("refused", "passed", "undecided")]
        seen = sum(seen for _end, seen in ends) / runs
        print(f"| {words} | {counts[0]:.2%} | {counts[1]:.2%} | {counts[2]:.2%} | {seen:,.0f} |")


def one_set(random: Random, n: int, margin: float, psi: float, loss: float, taken: Any) -> tuple[str, int]:  # noqa: PLR0917
    """Look at one set as the gate does."""
    drawn = random.random(n)
    wins, losses = np.cumsum(drawn < (psi - loss) / 2), np.cumsum((drawn >= (psi - loss) / 2) & (drawn < psi))
    for look in taken:
        at = look.samples - 1
        verdict = judge(int(wins[at]), int(losses[at]), look.samples, margin, ALPHA * look.share)
        if verdict.shows_loss:
            return "refused", look.samples
        if verdict.shows_no_loss:
            return "passed", look.samples
    return "undecided", n


def approximate(random: Random, runs: int) -> None:
    """Print how often metrics that are no share of samples are judged wrongly at the very limit, at alpha 5 %."""
    alpha, margin = 0.05, 0.02
    print("| metric | by | samples | refused | passed |\n| --- | --- | ---: | ---: | ---: |")
    for name, make, method in (("MAE", errors, "t"), ("RMSE", roots, "bootstrap")):
        for n in (100, 400) if method == "t" else (200, 400):
            refused = passed = 0
            for _ in range(runs):
                source, artifact, greater = make(random, n, margin)
                found = compare(source, artifact, n, Question(greater=greater, margin=margin, alpha=alpha))
                refused, passed = refused + (found.p_above <= alpha), passed + (found.p_below <= alpha)
            print(f"| {name} | {method} | {n} | {share(refused, runs)} | {share(passed, runs)} |")


def errors(random: Random, n: int, margin: float) -> tuple[scores.Scored, scores.Scored, bool]:
    """Skewed absolute errors; the artifact's mean is larger by the limit."""
    source = random.exponential(1, n)
    more = random.exponential(0.1, n) - 0.1 + margin
    return scores.mean_of(source), scores.mean_of(source + more), False


def roots(random: Random, n: int, margin: float) -> tuple[scores.Scored, scores.Scored, bool]:
    """Errors of deviation 1, and of 1 + the limit, that are nearly the same."""
    truth = np.zeros((n, 1))
    source = random.normal(0, 1, (n, 1))
    added = math.sqrt((1 + margin) ** 2 - 1)
    return (
        scores.root_of_squares(source, truth),
        scores.root_of_squares(source + random.normal(0, added, (n, 1)), truth),
        False,
    )


HEAD = """# The accuracy gate in numbers

Simulated by `benchmarks/gate.py`, seeded: {runs:,} draws a line ({few} for approximate methods). What is tested and why
it is exact is told in `edgesdk/stats.py`, the decisions in `docs/adr/0012-one-exact-test.md`. Samples are independent
here. Where yours are not (neighbouring windows of one recording), the rates do not hold: give one window of each
stretch.
"""


def main() -> None:
    """Print the page, or its last section."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--classes", action="store_true")
    options = parser.parse_args()
    runs, few = (200, 15) if options.quick else (2000, 150)
    if not options.classes:
        page(runs, few)
    gate_classes.section(runs // 2)


def page(runs: int, few: int) -> None:
    """Print everything before the section of figures of classes."""
    random = np.random.default_rng(20_260_104)
    print(HEAD.format(runs=runs, few=few))
    print("## At the very limit, alpha 1 %\n\nAn artifact that loses exactly what is allowed, judged at once.\n")
    error_rates(random, runs)
    print(
        "\n## What it takes to pass\n\nSamples with which an artifact that lost nothing passes nine times of ten, "
        "alpha 1 %. *Discordant*: of float and\nartifact, only one is right.\n"
    )
    power(random, runs // 10)
    print(
        "\n## In instalments (`--stop-early`)\n\n4,000 samples, a limit of one point, alpha 1 % over all looks; "
        f"looks at {', '.join(format(look.samples, ',') for look in looks(4000))} samples.\n"
    )
    instalments(random, runs // 5)
    print(
        "\n## Approximate methods at the very limit, alpha 5 %\n\nMetrics that are no share of samples. Nominal is "
        "5 %; the gate asks at 1 %.\nIn brackets: what so few draws leave open (exact, 95 %).\n"
    )
    approximate(random, few)


if __name__ == "__main__":
    main()
