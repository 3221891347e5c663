"""edgesdk: take a trained model to a fleet of edge devices and keep it healthy there.

The names below are the public ones of the app SDK; they are imported when first used, so that a command or the device's
supervisor does not pay for numpy or a runtime that it does not need.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgesdk.errors import (
        ConfigError,
        ContractError,
        DeploymentError,
        EdgeError,
        LinkError,
        ReleaseError,
        TargetError,
        TrustError,
    )
    from edgesdk.model import Model, Prediction

_HOME = {
    "Model": "edgesdk.model",
    "Prediction": "edgesdk.model",
    "ConfigError": "edgesdk.errors",
    "ContractError": "edgesdk.errors",
    "DeploymentError": "edgesdk.errors",
    "EdgeError": "edgesdk.errors",
    "LinkError": "edgesdk.errors",
    "ReleaseError": "edgesdk.errors",
    "TargetError": "edgesdk.errors",
    "TrustError": "edgesdk.errors",
}

__all__ = [
    "ConfigError",
    "ContractError",
    "DeploymentError",
    "EdgeError",
    "LinkError",
    "Model",
    "Prediction",
    "ReleaseError",
    "TargetError",
    "TrustError",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        msg = f"module 'edgesdk' has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(import_module(home), name)
