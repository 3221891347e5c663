"""Foreign errors become ours at one seam: what python-tuf raises, by whose fault it is.

The repository's fault is a `TrustError`, the network's a `LinkError`, this disk's a `DeploymentError`.
"""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator

from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    SlowRetrievalError,
    UnsignedMetadataError,
)

from edgesdk.errors import DeploymentError, EdgeError, LinkError, TrustError

# The first class that fits decides, so subclasses stand before their bases.
_REPOSITORY: tuple[tuple[type[RepositoryError], str], ...] = (
    (ExpiredMetadataError, "tuf-expired"),
    (BadVersionNumberError, "tuf-rollback"),
    (UnsignedMetadataError, "signature-invalid"),
    (RepositoryError, "tuf-metadata"),
)
_DOWNLOAD: tuple[tuple[type[DownloadError], str], ...] = (
    (DownloadLengthMismatchError, "download-length"),
    (SlowRetrievalError, "http-slow"),
    (DownloadHTTPError, "http-status"),
    (DownloadError, "http-failed"),
)


def map_error(error: RepositoryError | DownloadError | OSError, where: str, *, target: bool = False) -> EdgeError:
    """Return our error for one of python-tuf; `where` names the repository, target or file."""
    said = str(error) or (str(error.__cause__) if error.__cause__ else type(error).__name__)
    if target and isinstance(error, LengthOrHashMismatchError):
        return TrustError("tuf-target-mismatch", f"{where}: {said}")
    if isinstance(error, RepositoryError):
        return TrustError(next(code for kind, code in _REPOSITORY if isinstance(error, kind)), f"{where}: {said}")
    if isinstance(error, DownloadError):
        if error.__cause__ is not None and str(error.__cause__) not in said:
            said = f"{said}: {error.__cause__}"
        return LinkError(next(code for kind, code in _DOWNLOAD if isinstance(error, kind)), f"{where}: {said}")
    full = error.errno in {errno.ENOSPC, errno.EDQUOT}
    return DeploymentError("disk-full" if full else "store-corrupt", f"{where}: {said}")


@contextlib.contextmanager
def tuf_errors(where: str, *, target: bool = False) -> Iterator[None]:
    """Map what python-tuf raises inside the block; `target` says that it handles a target, not metadata.

    Raises:
        TrustError: ``tuf-expired``, ``tuf-rollback``, ``signature-invalid``, ``tuf-target-mismatch`` (of a target),
            ``tuf-metadata``.
        LinkError: ``download-length``, ``http-slow``, ``http-status``, ``http-failed``.
        DeploymentError: ``disk-full``, ``store-corrupt``.
    """
    try:
        yield
    except (RepositoryError, DownloadError, OSError) as error:
        raise map_error(error, where, target=target) from error
