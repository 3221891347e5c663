"""What the resident process may not import by way of these rooms."""

from __future__ import annotations

import subprocess
import sys


def test_updater_imports_nothing_heavy() -> None:
    """Neither numpy nor cryptography nor TUF nor a runtime nor asyncio comes with the updater."""
    heavy = "numpy cryptography tuf securesystemslib onnxruntime tflite_runtime ai_edge_litert requests urllib3 asyncio"
    code = f"import sys, edgesdk_agent.ota.updater; print(*[m for m in '{heavy}'.split() if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
