"""The update client's decisions, without network."""

from datetime import UTC, datetime, timedelta

import pytest
from tuf.ngclient._internal.trusted_metadata_set import TrustedMetadataSet

from edgesdk.errors import TrustError
from edgesdk.protocol.messages import MinTuf
from edgesdk.trust.client import Versions, check_not_frozen

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


def test_python_tuf_still_judges_by_its_reference_time(client_at):
    """The one private thing we use of python-tuf: it exists, and the system's clock plays no part in expiry."""
    assert "reference_time" in TrustedMetadataSet.__init__.__code__.co_names
    for moment in (datetime(1970, 1, 1, tzinfo=UTC), NOW, NOW + timedelta(hours=23)):
        assert client_at(moment).refresh() == Versions(root=1, timestamp=1)
    for moment in (NOW + timedelta(hours=25), datetime(2038, 1, 19, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)):
        with pytest.raises(TrustError, match="tuf-expired"):
            client_at(moment).refresh()


@pytest.mark.parametrize(
    ("root", "timestamp", "fresh"), [(2, 5, True), (3, 6, True), (1, 5, False), (2, 4, False), (1, 9, False)]
)
def test_metadata_below_what_the_hub_knows_is_frozen(root, timestamp, fresh):
    """Both versions must reach the minimum, exactly or above; one that is far ahead does not excuse the other."""
    versions = Versions(root=root, timestamp=timestamp)
    if fresh:
        check_not_frozen(versions, MinTuf(root=2, timestamp=5))
    else:
        with pytest.raises(TrustError, match="tuf-frozen"):
            check_not_frozen(versions, MinTuf(root=2, timestamp=5))


def test_what_was_verified_is_kept_private_and_durable(client_at, tmp_path):
    """The state folder is the agent's own, and holds what offline use needs."""
    client_at(NOW).refresh()
    metadata = tmp_path / "client" / "metadata"
    assert metadata.stat().st_mode & 0o777 == 0o700
    assert {"timestamp.json", "snapshot.json", "targets.json"} <= {path.name for path in metadata.iterdir()}


def test_asking_for_a_target_refreshes_first(client_at):
    """Nobody can look at targets that were not verified."""
    with pytest.raises(TrustError, match="tuf-target-missing"):
        client_at(NOW).target("models/digits/policy.json")
