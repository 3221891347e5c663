"""New keys for an enrolled device: made beside the old ones, certified by the hub, then moved into their place.

The old keys stay until the new certificate lies, checked and durable, in `state/keys.next`: from then on the change is
decided, and whoever comes next (this command, or the agent when it starts) finishes it. Files are moved one by one, the
certificate last; doing it twice does no harm.
"""

from __future__ import annotations

import logging
import shutil

import msgspec

from edgesdk.clock import SystemClock
from edgesdk.errors import LinkError
from edgesdk_agent.hub import fleet_context, http
from edgesdk_agent.identity import CA, CERTIFICATE, MOVED_KEYS, load_identity
from edgesdk_agent.lock import only_agent
from edgesdk_agent.paths import Paths
from edgesdk_agent.store.atomic import fsync_folder, write_atomic
from edgesdk_agent.store.state import StateDb

log = logging.getLogger(__name__)

NUMBER = "rotation"


def rotate(paths: Paths) -> str:
    """Change the keys; returns the new statement key's public half (hexadecimal). The agent must not run meanwhile.

    Raises:
        DeploymentError: ``not-enrolled``, ``agent-running``.
        TrustError: ``device-unknown`` (revoked), ``possession``, ``rotation-replayed``, ``ca-mismatch``.
        LinkError: ``hub-unreachable``, ``hub-refused``, ``message-invalid``; the old keys are in force then.
    """
    from edgesdk.trust.rotation import RotationResponse, check_rotated, make_rotation  # noqa: PLC0415 - cryptography
    from edgesdk_agent.enrol import give_to_owner  # noqa: PLC0415 - as above: the agent itself stays lean

    identity = load_identity(paths)
    with only_agent(paths.lock):
        finish_rotation(paths)
        paths.next_keys.mkdir(mode=0o700, exist_ok=True)
        request = make_rotation(
            paths.keys,
            paths.next_keys,
            device=identity.device,
            fleet=identity.fleet,
            enrolment=identity.enrolment,
            number=_next_number(paths),
        )
        answer = http(
            f"{identity.hub}/api/v1/rotate", fleet_context(identity, paths), body=msgspec.json.encode(request)
        )
        try:
            response = msgspec.json.decode(answer, type=RotationResponse)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise LinkError("message-invalid", f"the hub's answer is no rotation: {error}") from error
        ca_pem = (paths.keys / CA).read_text(encoding="ascii")
        check_rotated(response, paths.next_keys, device=identity.device, ca_pem=ca_pem)
        fsync_folder(paths.next_keys)
        write_atomic(paths.next_keys / CERTIFICATE, response.certificate_pem.encode(), mode=0o600)
        finish_rotation(paths)
        give_to_owner(paths)
        return request.statement_public


def finish_rotation(paths: Paths) -> bool:
    """Put certified keys into place if there are any; return whether there were. Call it with the agent's lock."""
    if not (paths.next_keys / CERTIFICATE).exists():
        return False
    state = StateDb(paths.state_db)
    try:
        state.forget_envelopes()
    finally:
        state.close()
    for name in MOVED_KEYS:
        if (paths.next_keys / name).exists():
            (paths.next_keys / name).replace(paths.keys / name)
            fsync_folder(paths.keys)
    shutil.rmtree(paths.next_keys)
    fsync_folder(paths.state)
    log.info("new keys are in place")
    return True


def _next_number(paths: Paths) -> int:
    """Return a number above every one that this enrolment used, also when `state.db` was lost: it is also the time."""
    state = StateDb(paths.state_db)
    try:
        number = max(int(state.get(NUMBER) or 0) + 1, int(SystemClock().now().timestamp() * 1000))
        state.set(NUMBER, str(number))
    finally:
        state.close()
    return number
