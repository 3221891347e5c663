"""Run the examples that need no device: data sets, a conversion, the app on a store of its own. CI calls it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from edgesdk.testing import serve_bundle

WEARABLE = Path(__file__).resolve().parent / "wearable"


def run(*command: str | Path, **environment: str) -> str:
    print("$", *(str(word) for word in command), flush=True)
    done = subprocess.run(
        [str(word) for word in command],
        env={**os.environ, **environment},
        text=True,
        check=True,
        stdout=subprocess.PIPE,
    )
    return done.stdout


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        out = Path(name)
        run(sys.executable, WEARABLE / "dataset.py", out)
        run(
            sys.executable, "-m", "edgesdk", "convert", WEARABLE / "models" / "v2.tflite",
            "--name", "wearable", "--release", "2.0.0", "--target", "linux-x86_64-cpu",
            "--contract", WEARABLE / "contract.toml", "--calibration", out / "calibration.npz",
            "--evaluation", out / "evaluation.npz", "--truth", out / "truth.npz", "-o", out / "release",
        )  # fmt: skip
        [bundle] = (out / "release").glob("*.edge")
        serve_bundle(bundle, out / "store")
        answers = run(sys.executable, WEARABLE / "app.py", out / "replay.npz", EDGESDK_STORE=str(out / "store"))
        lines = answers.splitlines()
        print(f"the app answered {len(lines)} times, for example: {lines[0]}")
        if not lines or not all("from release 2.0.0" in line for line in lines):
            sys.exit("the app did not answer from release 2.0.0")


if __name__ == "__main__":
    main()
