"""What `edge prune --help` costs, and that the three commands are there."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("numpy", "tensorflow", "keras", "onnx", "onnxruntime", "ai_edge_litert", "cryptography")


@pytest.mark.parametrize(("command", "word"), [("prune", "--amount"), ("shrink", "--data"), ("distill", "STUDENT")])
def test_help_imports_nothing_heavy(command, word):
    """The commands are found by their entry points and answer --help without numpy or TensorFlow."""
    code = (
        "import sys\n"
        "from edgesdk.cli.main import edge, run\n"
        f"status = run(edge, ['{command}', '--help'], name='edge')\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)\n"
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert word in done.stdout
