"""Whether a result can be written where it is wanted: found out before the work, not after it."""

from __future__ import annotations

import tempfile
from pathlib import Path

from edgesdk.errors import ConfigError


def check_writable(out: Path) -> None:
    """Refuse a path that nothing can be written to; nothing is left there.

    Raises:
        ConfigError: ``folder-unwritable`` with the reason.
    """
    folder = next(each for each in out.absolute().parents if each.exists())
    try:
        with tempfile.TemporaryFile(dir=folder):  # the only sure answer: modes say little of disks and containers
            return
    except OSError as error:
        message = f"{out} could not be written: {folder}: {error.strerror}"
        hint = "Give another --out; nothing was done yet."
        raise ConfigError("folder-unwritable", message, hint=hint) from error
