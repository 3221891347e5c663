"""TUF target `trust/deployment.json`: whose desired documents and commands count.

Named here, deployment keys rotate through TUF like everything but the root. A new `epoch` resets the devices' floor of
serials, so that a stolen key's last word is not for ever.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from edgesdk.errors import TrustError
from edgesdk.trust.keys import PublicKey

DEPLOYMENT_SCHEMA = "edge.deployment-keys/1"


class DeploymentKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The keys, how many of them must sign, and how often they were replaced."""

    schema: str
    epoch: Annotated[int, Meta(ge=1)]
    threshold: Annotated[int, Meta(ge=1)]
    keys: Annotated[tuple[PublicKey, ...], Meta(min_length=1, max_length=32)]


def decode_deployment_keys(data: bytes) -> DeploymentKeys:
    """Decode and validate the target's bytes.

    Raises:
        TrustError: ``tuf-metadata`` if they do not follow the schema, or no signature could ever meet the threshold.
    """
    try:
        found = msgspec.json.decode(data, type=DeploymentKeys)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise TrustError("tuf-metadata", f"the deployment keys do not follow their schema: {error}") from error
    if found.schema != DEPLOYMENT_SCHEMA:
        raise TrustError("tuf-metadata", f"the deployment keys have schema {found.schema[:80]!r}")
    if len({key.keyid for key in found.keys}) < found.threshold:
        raise TrustError("tuf-metadata", f"the deployment keys need {found.threshold} signatures of {len(found.keys)}")
    return found
