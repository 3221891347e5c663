"""Where the demo's models and scripts lie: in the checkout that this edgesdk was installed from."""

from __future__ import annotations

from pathlib import Path

import edgesdk
from edgesdk.errors import ConfigError


def wearable() -> Path:
    """Return the folder of the wearable example.

    Raises:
        ConfigError: ``dependency-missing`` where edgesdk does not run from a checkout: wheels stay small for devices.
    """
    folder = Path(edgesdk.__file__).resolve().parent.parent / "examples" / "wearable"
    if not (folder / "dataset.py").is_file():
        raise ConfigError(
            "dependency-missing",
            "the demo's models are not part of the installed package",
            hint="Run the demo from a clone of the repository: pip install uv && uv run --extra demo edge demo",
        )
    return folder
