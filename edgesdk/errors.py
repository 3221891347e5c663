"""Every error that edgesdk raises on purpose: one tree, stable codes, documented exit codes.

    EdgeError
    ├── ContractError    the caller's input does not fit the model's contract        exit 3
    ├── ReleaseError     the model, bundle or release is wrong                       exit 4
    ├── TrustError       signature, expiry, replay, downgrade, unknown key           exit 5
    ├── TargetError      it does not fit this device or target                       exit 6
    ├── DeploymentError  this device (or this disk) could not                        exit 7
    ├── LinkError        network, broker or server did not do its part               exit 8
    └── ConfigError      configuration, command line or environment is wrong         exit 2

Every leaf is a *code*, registered once in `edgesdk.error_codes` with its cause and its cure; `docs/errors.md` is
rendered from that table. A message says what is wrong and where ("expected X, got Y"); the hint says what to do.
"""

from __future__ import annotations

from typing import ClassVar

from edgesdk.error_codes import CODES, CodeInfo

__all__ = [
    "CODES",
    "FAMILIES",
    "CodeInfo",
    "ConfigError",
    "ContractError",
    "DeploymentError",
    "EdgeError",
    "EdgeWarning",
    "LinkError",
    "ReleaseError",
    "TargetError",
    "TrustError",
    "error_from_dict",
]


class EdgeWarning(UserWarning):
    """Something works now but should be changed."""


class EdgeError(Exception):
    """Base of all errors of edgesdk.

    Args:
        code: A stable code of `CODES`, for example ``"bundle-truncated"``.
        message: What is wrong and where, in one sentence.
        hint: What to do about it; the code's general cure when left out.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, code: str, message: str, *, hint: str | None = None) -> None:
        info = CODES.get(code)
        if info is None or info.family != type(self).__name__:
            msg = f"{type(self).__name__} has no registered code {code!r}; add it to edgesdk.error_codes"
            raise AssertionError(msg)
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint if hint is not None else info.cure

    def __str__(self) -> str:
        return f"{self.message} [{self.code}]"

    def to_dict(self) -> dict[str, str]:
        """Return ``{"code", "message", "hint"}`` as printed by ``--json`` and carried in statements."""
        return {"code": self.code, "message": self.message, "hint": self.hint}

    def __reduce__(self) -> tuple[object, ...]:
        return (_rebuild, (type(self), self.code, self.message, self.hint))


def _rebuild(family: type[EdgeError], code: str, message: str, hint: str) -> EdgeError:
    return family(code, message, hint=hint)


class ContractError(EdgeError):
    """The caller's input does not fit the model's contract."""

    exit_code = 3


class ReleaseError(EdgeError):
    """The model, the bundle or the release is wrong."""

    exit_code = 4


class TrustError(EdgeError):
    """A signature, an expiry, a serial or a key is not to be trusted."""

    exit_code = 5


class TargetError(EdgeError):
    """The release does not fit this device or this target."""

    exit_code = 6


class DeploymentError(EdgeError):
    """This device, its disk or its runtime could not do it."""

    exit_code = 7


class LinkError(EdgeError):
    """The network, the broker or a server did not do its part."""

    exit_code = 8


class ConfigError(EdgeError):
    """The configuration, the command line or the environment is wrong."""

    exit_code = 2


FAMILIES: dict[str, type[EdgeError]] = {
    family.__name__: family
    for family in (ContractError, ReleaseError, TrustError, TargetError, DeploymentError, LinkError, ConfigError)
}


def error_from_dict(data: dict[str, str]) -> EdgeError:
    """Rebuild the error that a child process reported with `EdgeError.to_dict`.

    Raises:
        AssertionError: If the code is not registered (the two processes are of different versions).
    """
    family = FAMILIES[CODES[data["code"]].family]
    return family(data["code"], data["message"], hint=data.get("hint"))
