"""What `edge convert --help` costs, and that it says what there is."""

from __future__ import annotations

import subprocess
import sys

from edgesdk_converters.cli import EXAMPLE, RECIPES_HELP
from edgesdk_converters.recipes import RECIPES

HEAVY = ("numpy", "tensorflow", "keras", "onnx", "onnxruntime", "ai_edge_litert", "litert_quantizer", "cryptography")


def test_help_imports_nothing_heavy():
    """`edge convert --help` answers without importing numpy, TensorFlow, onnx or a runtime."""
    code = (
        "import sys\n"
        "from edgesdk.cli.main import edge, run\n"
        "status = run(edge, ['convert', '--help'], name='edge')\n"
        f"print([name for name in {HEAVY} if name in sys.modules], file=sys.stderr)\n"
        "sys.exit(status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "--calibration" in done.stdout


def test_help_names_every_recipe_and_shows_a_command():
    """Recipes are listed by name, none is forgotten; the lines of the example fit a terminal of 80 columns."""
    assert set(RECIPES) <= set(RECIPES_HELP.replace("(default)", "").replace(" ", "").split(","))
    assert max(map(len, EXAMPLE)) < 79
