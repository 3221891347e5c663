"""What an import must not bring along: a device's supervisor and a command pay only for what they use."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = (
    "numpy",
    "tflite_runtime",
    "ai_edge_litert",
    "onnxruntime",
    "tensorflow",
    "onnx",
    "cryptography",
    "tuf",
    "typer",
)


@pytest.mark.parametrize(
    "module",
    [
        "edgesdk",
        "edgesdk.bundle",
        "edgesdk.bundle.archive",
        "edgesdk.bundle.release",
        "edgesdk.generation",
        "edgesdk.protocol.evidence",
        "edgesdk.runtime",
        "edgesdk.targets.matching",
        "edgesdk.targets.profiles",
    ],
)
def test_light_modules_stay_light(module: str) -> None:
    """Importing it loads neither numpy nor a runtime nor cryptography; naming what is installed loads none either."""
    code = f"import sys, {module}, edgesdk.runtime; edgesdk.runtime.installed(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(HEAVY).isdisjoint(done.stdout.split())


def test_the_model_loads_only_the_runtime_that_it_uses() -> None:
    """`edgesdk.Model` needs numpy; a runtime comes with the first artifact."""
    code = "import sys; from edgesdk import Model; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "numpy" in done.stdout.split()
    assert set(HEAVY[1:]).isdisjoint(done.stdout.split())
