"""A repository on disk, read without network."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface

from edgesdk.trust.client import UpdateClient
from edgesdk.trust.repository import Options, first_root, init_repository

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


class DirectoryFetcher(FetcherInterface):
    """Reads what a server would serve."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = self.folder / urlsplit(url).path.lstrip("/")
        if not path.exists():
            raise DownloadHTTPError(f"no {path.name}", 404)
        return iter([path.read_bytes()])


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    init_repository(tmp_path / "repo", tmp_path / "keys", options=Options(now=lambda: NOW))
    return tmp_path / "repo"


@pytest.fixture
def client_at(tmp_path: Path, repository: Path) -> Callable[[datetime], UpdateClient]:
    def make(now: datetime) -> UpdateClient:
        return UpdateClient(
            tmp_path / "client",
            "http://repository.test",
            trusted_root=first_root(repository),
            now=lambda: now,
            fetcher=DirectoryFetcher(repository),
        )

    return make
