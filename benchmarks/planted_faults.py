"""Deploy twelve correctly signed releases with one planted fault each, and good ones, to a real device.

`python benchmarks/planted_faults.py --good 100` prints the table of `docs/planted-faults.md`: how each fault ended on
the device and why. Repository, trust worker, testing worker, updater, store, evidence socket and an app with
`edgesdk.Model` are the product's own; only the desired document is handed over instead of being sent.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
from planted.device import Device, Ending
from planted.graphs import EXAMPLE
from planted.releases import FAULTS, Factory, Labelled, Recipe, good_recipe


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--good", type=int, default=100, help="good releases to deploy after the first")
    parser.add_argument("--only", default="", help="only the faults that hold this text")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wrong = run(Path(folder), options.good, options.only)
    return 1 if wrong else 0


def run(folder: Path, good: int, only: str) -> int:
    """Print both tables; return how many endings were not as they should be."""
    factory, recordings = prepare(folder)
    began = time.monotonic()
    with Device(folder / "device", recordings) as device:
        first = deploy(device, factory, "1.0.0", good_recipe(0))
        print(f"| good release 1.0.0 (v2, no incumbent) | {_shown(first)} |", flush=True)
        print("\n| fault | golden set | ended | reason | what the device said | s |\n|---|---|---|---|---|---|")
        wrong = sum(show_fault(device, factory, number, recipe) for number, recipe in chosen(only))
        ends: Counter[str] = Counter()
        times = []
        for seed in range(1, good + 1):
            ending = deploy(device, factory, f"3.{seed}.0", good_recipe(seed))
            ends[_shown(ending)] += 1
            times.append(ending.seconds)
            if ending.state != "committed":
                print(f"good release 3.{seed}.0: {_shown(ending)}: {ending.message}", flush=True)
    print("\n| good releases | ended |\n|---|---|")
    for shown, count in ends.most_common():
        print(f"| {count} of {good} | {shown} |")
    if times:
        print(f"\nA good release took {np.median(times):.1f} s (median) from offer to commit.")
    print(f"{time.monotonic() - began:.0f} s in all.")
    return wrong + good - ends["committed"]


def prepare(folder: Path) -> tuple[Factory, Path]:
    """Write the example's data; return what makes releases, and the recordings for the app."""
    data = folder / "data"
    subprocess.run([sys.executable, EXAMPLE / "dataset.py", data], check=True, stdout=subprocess.DEVNULL)
    calibration = Labelled.read(data / "calibration.npz").windows
    return Factory(folder / "releases", Labelled.read(data / "truth.npz"), calibration), data / "replay.npz"


def chosen(only: str) -> list[tuple[int, Recipe]]:
    return [(number, recipe) for number, recipe in enumerate(FAULTS, start=1) if only in recipe.fault]


def deploy(device: Device, factory: Factory, version: str, recipe: Recipe) -> Ending:
    """Make, sign, publish and deploy one release."""
    device.publish(factory.release(version, recipe))
    return device.deploy(version)


def show_fault(device: Device, factory: Factory, number: int, recipe: Recipe) -> bool:
    """Deploy one fault and print its row; return whether it ended otherwise than it should."""
    ending = deploy(device, factory, f"2.{number}.0", recipe)
    wrong = (ending.state, ending.code) != recipe.expected
    mark = f" **(expected {' '.join(recipe.expected)})**" if wrong else ""
    state, said = ending.state.replace("_", " "), ending.message.replace("|", "\\|")
    print(
        f"| {recipe.fault} | {recipe.golden} | {state} | `{ending.code}`{mark} | {said} | {ending.seconds:.1f} |",
        flush=True,
    )
    return wrong


def _shown(ending: Ending) -> str:
    return f"{ending.state} {ending.code}".strip()


if __name__ == "__main__":
    sys.exit(main())
