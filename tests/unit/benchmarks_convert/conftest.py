"""The benchmark is no installed package: its folder is put on the path, as running it does."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))
