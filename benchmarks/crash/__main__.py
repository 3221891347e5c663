"""``python benchmarks/crash``: explore, and render the table. See README.md."""

from __future__ import annotations

import argparse
import random
import sys
import time
from itertools import islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from crash import table
from crash.explore import Results, explore
from crash.mutants import MUTANTS
from crash.plan import close_pairs, pairs, singles
from crash.pool import pool
from crash.scenarios import SCENARIOS


def main() -> int:
    """Do what the command line says; 1 if anything is broken."""
    arguments = _parser().parse_args()
    names = arguments.scenario or list(SCENARIOS)
    results = Results(arguments.results)
    with pool(arguments.jobs, arguments.mutant or "") as workers:
        recordings = {name: workers.record(name) for name in names}
        histories = list(pairs(recordings, arguments.pairs, arguments.seed))
        histories += islice(close_pairs(recordings, arguments.seed), 0, None, arguments.every)
        for name, recording in recordings.items():
            print(f"{name}: {len(recording.durable)} durable calls", flush=True)
            histories += islice(singles(name, recording), arguments.seed % arguments.every, None, arguments.every)
        random.Random(arguments.seed).shuffle(histories)
        planned = {history.key for history in histories}
        deadline = time.monotonic() + arguments.minutes * 60 if arguments.minutes else None
        broken = len(explore(workers, histories, results, deadline=deadline, say=_say))
    lived = [result for key, result in results.all.items() if key in planned]
    print(f"{len(lived)} of {len(planned)} histories, {broken} of those lived now are broken")
    if arguments.render:
        arguments.render.write_text(table.render(lived, planned=len(planned)))
    return 1 if broken else 0


def _say(what: str) -> None:
    print(what, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python benchmarks/crash", description=__doc__)
    parser.add_argument("--scenario", action="append", choices=list(SCENARIOS), help="only this one (repeatable)")
    parser.add_argument("--every", type=int, default=1, metavar="K", help="live every K-th single fault only")
    parser.add_argument("--pairs", type=int, default=1500, metavar="N", help="pairs of faults to draw (1500)")
    parser.add_argument("--minutes", type=float, default=0, help="stop after so long; the results file goes on later")
    parser.add_argument("--seed", type=int, default=1, help="for the pairs, and which every K-th (1)")
    parser.add_argument("--jobs", type=int, default=2, help="worker processes (2)")
    parser.add_argument("--results", type=Path, metavar="FILE", help="keep results here and go on where it ends")
    parser.add_argument("--render", type=Path, metavar="FILE", help="write the table of all results, for example "
                        "docs/crash-table.md")  # fmt: skip
    parser.add_argument("--mutant", choices=list(MUTANTS), help="break the agent on purpose")
    return parser


if __name__ == "__main__":
    sys.exit(main())
