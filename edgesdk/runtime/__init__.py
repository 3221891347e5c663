"""One way to run an artifact: backends behind one seam.

`installed` costs nothing; `Session` and `open_session` import numpy, and the runtime when a session is opened.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edgesdk.runtime.packages import installed

if TYPE_CHECKING:
    from edgesdk.runtime.backend import RawTensor
    from edgesdk.runtime.session import Session, Timings, bindings_in_order, describe_artifact, open_session

_HOME = {
    "RawTensor": "edgesdk.runtime.backend",
    "Session": "edgesdk.runtime.session",
    "Timings": "edgesdk.runtime.session",
    "bindings_in_order": "edgesdk.runtime.session",
    "describe_artifact": "edgesdk.runtime.session",
    "open_session": "edgesdk.runtime.session",
}

__all__ = ["RawTensor", "Session", "Timings", "bindings_in_order", "describe_artifact", "installed", "open_session"]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        msg = f"module 'edgesdk.runtime' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(home), name)
