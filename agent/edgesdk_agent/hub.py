"""Short talks with the hub over HTTP(S): enrolment, new keys, and what this enrolment is worth."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request

from edgesdk.errors import CODES, EdgeError, LinkError, error_from_dict
from edgesdk_agent.identity import CA, Identity
from edgesdk_agent.paths import Paths

TIMEOUT_S = 30.0
GLANCE_S = 3.0
MAX_ANSWER = 1024 * 1024


def http(url: str, context: ssl.SSLContext | None, *, body: bytes | None = None, timeout: float = TIMEOUT_S) -> bytes:
    """Ask the hub and return its answer.

    Raises:
        LinkError: ``hub-unreachable``, ``hub-refused`` or ``message-too-large``.
        EdgeError: What the hub named.
    """
    request = urllib.request.Request(url, data=body, headers={"Content-Type": "application/json"})  # noqa: S310 - http(s) by the token's pattern
    try:
        with urllib.request.urlopen(request, timeout=timeout, context=context) as response:  # noqa: S310 - as above
            data: bytes = response.read(MAX_ANSWER + 1)
    except urllib.error.HTTPError as error:
        with error:
            raise refusal(error.code, error.read(MAX_ANSWER)) from None
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise LinkError("hub-unreachable", f"{url} cannot be reached: {reason}") from error
    if len(data) > MAX_ANSWER:
        raise LinkError("message-too-large", f"{url} answered more than {MAX_ANSWER} bytes")
    return data


def refusal(status: int, body: bytes) -> Exception:
    """Return the error that the hub named, if it is one of ours."""
    try:
        said = json.loads(body)["error"]
        if said["code"] in CODES:
            return error_from_dict({key: str(said[key]) for key in ("code", "message", "hint")})
    except (ValueError, KeyError, TypeError):
        pass
    return LinkError("hub-refused", f"the hub answered {status}")


def fleet_context(identity: Identity, paths: Paths) -> ssl.SSLContext | None:
    """Return a context that trusts the fleet's authority only; None for plain HTTP."""
    return ssl.create_default_context(cafile=str(paths.keys / CA)) if identity.hub.startswith("https://") else None


def standing(identity: Identity, paths: Paths) -> str:
    """Return what the hub says this enrolment is worth: enrolled, revoked or unknown; "" if it cannot be asked now."""
    try:
        url = f"{identity.hub}/api/v1/enrolments/{identity.enrolment}"
        found = json.loads(http(url, fleet_context(identity, paths), timeout=GLANCE_S))["standing"]
    except (EdgeError, OSError, ValueError, KeyError, TypeError):
        return ""
    return found if found in {"enrolled", "revoked", "unknown"} else ""
