"""The trust worker: verifies desired documents, commands, bundles and imported files, and signs statements.

It alone imports TUF. python -m edgesdk_agent.workers.trust   one request of `workers.messages.TrustRequest` on stdin
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import msgspec

from edgesdk.bundle.archive import Bundle, open_bundle
from edgesdk.errors import DeploymentError, ReleaseError, TrustError
from edgesdk.protocol.messages import STATEMENT_TYPE
from edgesdk.trust.dsse import sign_document
from edgesdk.trust.keys import load_signer
from edgesdk_agent.workers.child import serve
from edgesdk_agent.workers.documents import verify_command, verify_desired
from edgesdk_agent.workers.importing import verify_import
from edgesdk_agent.workers.messages import (
    Sign,
    Signed,
    TrustRequest,
    VerifiedBundle,
    VerifyBundle,
    VerifyCommand,
    VerifyDesired,
    VerifyImport,
)


def verify_bundle(request: VerifyBundle) -> VerifiedBundle:
    """Verify a downloaded bundle and unpack it; see `VerifyBundle`."""
    path, destination = Path(request.path), Path(request.destination)
    size = path.stat().st_size
    if size != request.length:
        raise TrustError("tuf-target-mismatch", f"{path.name} has {size} bytes, expected {request.length}")
    with path.open("rb") as file:  # before it is parsed: what a power cut tore is no bad release
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != request.sha256:
        raise TrustError("tuf-target-mismatch", f"{path.name} has SHA-256 {found}, expected {request.sha256}")
    with open_bundle(path) as bundle:
        bundle.verify()
        _check_names(bundle, request)
        _extract(bundle, destination)
        manifest = bundle.manifest
        return VerifiedBundle(
            release=manifest.release,
            variant=manifest.variant,
            contract_version=manifest.contract.version,
            unpacked_bytes=sum(entry.size for entry in manifest.files),
        )


def sign(request: Sign) -> Signed:
    """Sign statements with the device's statement key."""
    signer = load_signer(Path(request.key), None)
    return Signed(envelopes=tuple(sign_document(STATEMENT_TYPE, item, signer) for item in request.statements))


def _check_names(bundle: Bundle, request: VerifyBundle) -> None:
    manifest = bundle.manifest
    expected = (request.model, request.release or manifest.release, request.variant or manifest.variant)
    found = (manifest.model, manifest.release, manifest.variant)
    if found != expected:
        raise ReleaseError("manifest-invalid", f"the bundle is {' '.join(found)}, expected {' '.join(expected)}")


def _extract(bundle: Bundle, destination: Path) -> None:
    try:
        bundle.extract(destination)
    except BaseException as error:
        shutil.rmtree(destination, ignore_errors=True)
        if isinstance(error, OSError):
            raise DeploymentError("disk-full", f"the bundle could not be unpacked: {error}") from error
        raise


def handle(request: TrustRequest) -> msgspec.Struct:
    """Do what the request asks."""
    match request:
        case VerifyDesired():
            return verify_desired(request)
        case VerifyCommand():
            return verify_command(request)
        case VerifyBundle():
            return verify_bundle(request)
        case VerifyImport():
            return verify_import(request)
        case Sign():
            return sign(request)


if __name__ == "__main__":
    serve(TrustRequest, handle)
