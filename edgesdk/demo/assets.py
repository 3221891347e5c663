"""Where the demo's models and scripts lie: in the checkout, or inside the installed package."""

from __future__ import annotations

from pathlib import Path

import edgesdk
from edgesdk.errors import ConfigError


def wearable() -> Path:
    """Return the folder of the wearable example.

    Raises:
        ConfigError: ``dependency-missing`` where neither a checkout nor the packaged copy is found.
    """
    package = Path(edgesdk.__file__).resolve().parent
    for folder in (package.parent / "examples" / "wearable", package / "demo" / "wearable"):
        if (folder / "dataset.py").is_file():
            return folder
    raise ConfigError(
        "dependency-missing",
        "the wearable example is not installed with this edgesdk",
        hint="Run the demo from a clone of the repository, or install the wheel.",
    )
