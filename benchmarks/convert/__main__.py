"""``python benchmarks/convert``: convert real models, ours beside other tools' defaults, and print what each is worth.

Results go to a file of JSON lines as they come, and a run that was stopped goes on there. Everything fetched and made
is kept in the cache. Olive joins where ``OLIVE_PYTHON`` names a Python that has ``olive-ai``.
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from convert import table, zoo
from convert.run import ROW_S, Bench, Results, selected

TARGETS = table.TARGETS
FORMATS = ("tflite", "onnx")


def main() -> int:
    """Do what the command line says; 1 if a case could not be made."""
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that children are ended too
    arguments.cache.mkdir(parents=True, exist_ok=True)
    results = Results(arguments.out or arguments.cache / "results.jsonl")
    bench, failed = Bench(arguments.cache.resolve(), results, _say, arguments.row_seconds), 0
    for case in selected(arguments.cases) if not arguments.no_run else ():
        for target in arguments.targets or TARGETS:
            try:
                bench.run(case, target, tuple(arguments.formats or FORMATS))
            except Exception as error:  # noqa: BLE001 - one place must not end the run
                _say(f"{case.name} {target}: {type(error).__name__}: {error}")
                failed = 1
    rows = list(results.rows.values())
    print(table.text(rows))
    if arguments.render:
        arguments.render.write_text(table.page(rows, zoo.cases()))
    return failed


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python benchmarks/convert", description=__doc__)
    parser.add_argument("--cases", nargs="+", choices=list(zoo.cases()), help="only these")
    parser.add_argument("--targets", nargs="+", help=f"hardware profiles ({', '.join(TARGETS)})")
    parser.add_argument("--formats", nargs="+", choices=FORMATS, help="of the artifacts (both)")
    parser.add_argument(
        "--row-seconds", type=float, default=ROW_S, help="one tool on one case and target (%(default)g)"
    )
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "edgesdk-benchmark", metavar="FOLDER")
    parser.add_argument("--out", type=Path, metavar="FILE", help="results, JSON lines (results.jsonl in the cache)")
    parser.add_argument("--no-run", action="store_true", help="only print and render what the results file holds")
    parser.add_argument("--render", type=Path, metavar="FILE", help="for example docs/conversion-benchmark.md")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
