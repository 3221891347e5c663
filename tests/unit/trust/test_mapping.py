"""Every error of python-tuf has one of ours."""

import errno
import inspect

import pytest
from tuf.api import exceptions

from edgesdk.errors import DeploymentError, EdgeError, LinkError, TrustError
from edgesdk.trust.mapping import map_error, tuf_errors


@pytest.mark.parametrize(
    ("error", "family", "code"),
    [
        (exceptions.ExpiredMetadataError("timestamp.json is expired"), TrustError, "tuf-expired"),
        (exceptions.BadVersionNumberError("older"), TrustError, "tuf-rollback"),
        (exceptions.EqualVersionNumberError("same"), TrustError, "tuf-rollback"),
        (exceptions.UnsignedMetadataError("0 of 1"), TrustError, "signature-invalid"),
        (exceptions.LengthOrHashMismatchError("differs"), TrustError, "tuf-metadata"),
        (exceptions.RepositoryError("other"), TrustError, "tuf-metadata"),
        (exceptions.DownloadLengthMismatchError("too long"), LinkError, "download-length"),
        (exceptions.SlowRetrievalError("slow"), LinkError, "http-slow"),
        (exceptions.DownloadHTTPError("status 500", 500), LinkError, "http-status"),
        (exceptions.DownloadError("cut"), LinkError, "http-failed"),
        (OSError(errno.ENOSPC, "No space left on device"), DeploymentError, "disk-full"),
        (OSError(errno.EIO, "Input/output error"), DeploymentError, "store-corrupt"),
    ],
)
def test_each_error_has_its_code(error, family, code):
    """By whose fault it is: the repository, the network, this disk; the place and the words are kept."""
    mapped = map_error(error, "the place")
    assert (type(mapped), mapped.code) == (family, code)
    assert "the place" in mapped.message
    assert str(error) in mapped.message


def test_a_targets_mismatch_has_its_own_code():
    """The same python-tuf error means another thing for a target than for metadata."""
    error = exceptions.LengthOrHashMismatchError("differs")
    assert map_error(error, "t", target=True).code == "tuf-target-mismatch"


def test_no_error_of_python_tuf_is_forgotten():
    """A class that a later version adds is mapped by its base."""
    for _, kind in inspect.getmembers(exceptions, inspect.isclass):
        if issubclass(kind, exceptions.RepositoryError | exceptions.DownloadError):
            made = kind("m", 500) if kind is exceptions.DownloadHTTPError else kind("m")
            assert isinstance(map_error(made, "p"), EdgeError)


def test_the_cause_of_a_failed_download_is_told():
    """python-tuf hides the reason behind `Failed to download`; people need it."""
    error = exceptions.DownloadError("Failed to download x")
    error.__cause__ = ConnectionRefusedError(111, "refused")
    assert "refused" in map_error(error, "p").message


def test_our_own_errors_pass_unchanged():
    """The seam maps foreign errors only."""
    with pytest.raises(TrustError, match="audience"), tuf_errors("p"):
        raise TrustError("audience", "not ours")
