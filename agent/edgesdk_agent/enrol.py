"""Enrolment: from a token to an identity. Nothing of the old identity is touched before the new one is checked."""

from __future__ import annotations

import os
import shutil
import ssl

import msgspec

from edgesdk.clock import Clock, rfc3339
from edgesdk.errors import ConfigError, LinkError, TrustError
from edgesdk.trust.ca import fingerprint
from edgesdk.trust.enrolment import EnrolResponse, Token, check_response, make_request, parse_token
from edgesdk_agent.hub import http
from edgesdk_agent.identity import CA, CERTIFICATE, IDENTITY_SCHEMA, TRUSTED_ROOT, Identity
from edgesdk_agent.lock import only_agent
from edgesdk_agent.paths import Paths
from edgesdk_agent.store.atomic import fsync_folder, write_atomic
from edgesdk_agent.store.state import StateDb

PRIVATE = 0o600


def enrol(paths: Paths, token_text: str, *, name: str, force: bool, clock: Clock) -> Identity:
    """Enrol this device and keep its identity.

    The keys are made in `state/keys.new`; an interrupted enrolment finds them there again. They take the place of the
    old ones only when the hub's answer has been checked against the token.

    Args:
        paths: The agent's folders; made when missing.
        token_text: From `edge fleet token`.
        name: What the operator will see beside the device id.
        force: Replace an identity that is there.
        clock: For the time stamp in the identity.

    Raises:
        ConfigError: ``file-exists`` if this device is enrolled already.
        DeploymentError: ``agent-running``.
        TrustError: ``token-invalid``, ``ca-mismatch``, …
        LinkError: ``hub-unreachable`` or ``hub-refused``.
    """
    token = parse_token(token_text)
    paths.make()
    with only_agent(paths.lock):
        if paths.device.exists() and not force:
            raise ConfigError(
                "file-exists",
                f"this device is enrolled already ({paths.device})",
                hint="Pass --force to give it a new identity.",
            )
        fresh = paths.state / "keys.new"
        fresh.mkdir(mode=0o700, exist_ok=True)
        request = make_request(token, fresh, name)
        context = _trusted_context(token)
        answer = http(f"{token.hub}/api/v1/enroll", context, body=msgspec.json.encode(request))
        try:
            response = msgspec.json.decode(answer, type=EnrolResponse)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise LinkError("message-invalid", f"the hub's answer is no enrolment: {error}") from error
        check_response(token, response, fresh)
        identity = Identity(
            schema=IDENTITY_SCHEMA,
            device=response.device,
            fleet=response.fleet,
            enrolment=response.enrolment,
            hub=token.hub,
            broker=response.broker_url,
            repository=response.repository_url,
            name=name,
            enrolled_at=rfc3339(clock.now()),
        )
        _switch(paths, identity, response)
        give_to_owner(paths)
        return identity


def _switch(paths: Paths, identity: Identity, response: EnrolResponse) -> None:
    """Put the new identity into the place of the old one; `device.json` is removed first and written last."""
    fresh = paths.state / "keys.new"
    for file, text in (
        (CERTIFICATE, response.certificate_pem),
        (CA, response.ca_pem),
        (TRUSTED_ROOT, response.root_json),
    ):
        write_atomic(fresh / file, text.encode(), mode=PRIVATE)
    paths.device.unlink(missing_ok=True)
    fsync_folder(paths.state)
    state = StateDb(paths.state_db)
    try:
        state.begin_enrolment()
    finally:
        state.close()
    shutil.rmtree(paths.tuf, ignore_errors=True)
    shutil.rmtree(paths.keys)
    fresh.rename(paths.keys)
    fsync_folder(paths.state)
    paths.make()
    write_atomic(paths.device, msgspec.json.format(msgspec.json.encode(identity)), mode=PRIVATE)


def give_to_owner(paths: Paths) -> None:
    """Give what root wrote to the owner of the folder: a second enrolment with sudo must not lock the agent out."""
    owner = paths.root.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    for path in (paths.state, paths.store, *paths.state.rglob("*"), *paths.store.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def _trusted_context(token: Token) -> ssl.SSLContext | None:
    """Return a context that trusts the hub's authority only, after comparing it with the token; None for plain HTTP.

    The authority is fetched over a connection that is not trusted: the fingerprint in the token decides.

    Raises:
        TrustError: ``ca-mismatch``.
    """
    if not token.hub.startswith("https://"):
        return None
    if token.ca_sha256 is None:
        raise TrustError("ca-mismatch", f"the token names no authority for {token.hub}")
    unverified = ssl.create_default_context()
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    pem = http(f"{token.hub}/api/v1/ca", unverified)
    if fingerprint(pem) != token.ca_sha256:
        raise TrustError("ca-mismatch", "the hub's certificate authority is not the one that the token pins")
    return ssl.create_default_context(cadata=pem.decode("ascii"))
