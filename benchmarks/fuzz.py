"""Feed mutated inputs to every parser of foreign bytes; only the errors that it documents may come out.

`python benchmarks/fuzz.py --executions 1000000` prints how many ran by parser, how many were accepted, the slowest one,
and each finding with the input that shows it (repeat it with the seed and number that are printed).
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from fuzzing.mutate import mutate_bytes, mutate_json
from fuzzing.targets import Target, targets

JSON_SHARE = 0.7
SHOWN = 400


@dataclass
class Tally:
    """What came of one target."""

    executions: int = 0
    accepted: int = 0
    slowest_ms: float = 0.0
    findings: dict[str, bytes] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--executions", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="only parsers whose name holds this text")
    options = parser.parse_args()
    began = time.monotonic()
    tallies = fuzz(options.executions, options.seed, options.only)
    print("| parser | executions | accepted | kinds of refusal | slowest ms | findings |\n|---|---|---|---|---|---|")
    for name, tally in tallies.items():
        facts = (tally.executions, tally.accepted, len(tally.refused), f"{tally.slowest_ms:.0f}", len(tally.findings))
        print(f"| {name} | {' | '.join(map(str, facts))} |")
    total = sum(tally.executions for tally in tallies.values())
    findings = [(name, *each) for name, tally in tallies.items() for each in tally.findings.items()]
    print(f"\n{total} executions, {len(findings)} findings, {time.monotonic() - began:.0f} s, seed {options.seed}.")
    for name, what, data in findings:
        print(f"\n{name}: {what}\n  {data[:SHOWN]!r}{' …' if len(data) > SHOWN else ''}")
    return 1 if findings else 0


def fuzz(executions: int, seed: int, only: str = "") -> dict[str, Tally]:
    """Run so many executions over all targets, by their weights."""
    chosen = [target for target in targets() if only in target.name]
    weights = sum(target.weight for target in chosen)
    return {
        target.name: _fuzz(target, -(-executions * target.weight // weights), random.Random(f"{seed}-{target.name}"))
        for target in chosen
    }


def _fuzz(target: Target, executions: int, rng: random.Random) -> Tally:
    tally = Tally()
    for seed in target.seeds:
        target.run(seed)  # a seed that is refused would make the rest pointless
    for _ in range(executions):
        seed = rng.choice(target.seeds)
        if target.json and rng.random() < JSON_SHARE:
            data = mutate_json(seed, rng)
        else:
            data = mutate_bytes(seed, rng, target.seeds)
        _execute(target, data, tally)
    return tally


def _execute(target: Target, data: bytes, tally: Tally) -> None:
    tally.executions += 1
    began = time.perf_counter()
    try:
        target.run(data)
        tally.accepted += 1
    except target.allowed as error:
        tally.refused[getattr(error, "code", "refused")] += 1
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        where = traceback.extract_tb(error.__traceback__)[-1]
        tally.findings.setdefault(f"{type(error).__name__} in {where.name}:{where.lineno}", data)
    tally.slowest_ms = max(tally.slowest_ms, (time.perf_counter() - began) * 1e3)


if __name__ == "__main__":
    sys.exit(main())
