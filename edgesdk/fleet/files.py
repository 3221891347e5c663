"""The repository over HTTP: static files with ETag, Range and If-Range; metadata is always asked for anew.

Targets carry their hash in their names, so they never change and may be kept for ever. Metadata is replaced by
rename: it is read whole from one open file, so that no answer mixes two versions.
"""

from __future__ import annotations

import os
from pathlib import Path

from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse, Response
from starlette.staticfiles import NotModifiedResponse, StaticFiles
from starlette.types import Scope

from edgesdk.canonical import sha256_hex

MAX_METADATA = 16 * 1024 * 1024
FOREVER = "public, max-age=31536000, immutable"
ALWAYS = "no-cache"
HASH_CHARACTERS = 64
PathLike = str | os.PathLike[str]


class RepositoryFiles(StaticFiles):
    """Serves ``metadata/*.json`` and ``targets/**/HASH.name`` of a repository, and nothing else in its folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__(directory=folder, check_dir=False)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Answer one request; names that no client needs (temporary files, folders, keys) are not found."""
        parts = path.split("/")
        if parts[0] not in {"metadata", "targets"} or any(part.startswith(".") for part in parts):
            raise HTTPException(status_code=404)
        return await super().get_response(path, scope)

    def file_response(
        self, full_path: PathLike, stat_result: os.stat_result, scope: Scope, status_code: int = 200
    ) -> Response:
        """Answer with a file, or with 304 where the client has it."""
        path = Path(full_path)
        digest = path.name.partition(".")[0]
        if len(digest) == HASH_CHARACTERS:
            headers = {"etag": f'"{digest}"', "cache-control": FOREVER}
            response: Response = FileResponse(
                path,
                status_code=status_code,
                headers=headers,
                stat_result=stat_result,
                media_type="application/octet-stream",
            )
        elif stat_result.st_size <= MAX_METADATA and path.suffix == ".json":
            data = path.read_bytes()
            headers = {"etag": f'"{sha256_hex(data)}"', "cache-control": ALWAYS}
            response = Response(data, status_code=status_code, headers=headers, media_type="application/json")
        else:
            raise HTTPException(status_code=404)
        request = Headers(scope=scope)
        if "if-none-match" in request and self.is_not_modified(response.headers, request):
            return NotModifiedResponse(response.headers)
        return response
