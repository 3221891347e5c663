"""What devices ask of the hub beside enrolment: new keys, and what their enrolment is worth. Open without a token."""

from __future__ import annotations

import msgspec
from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from edgesdk.errors import ConfigError
from edgesdk.fleet.api_paths import PREFIX
from edgesdk.fleet.registry import Registry
from edgesdk.fleet.rotations import rotate, standing
from edgesdk.trust.ca import Authority
from edgesdk.trust.rotation import RotationRequest


def keys_router(registry: Registry, authority: Authority, *, fleet: str) -> APIRouter:
    """Return the routes; a request proves itself by the device's statement key."""
    router = APIRouter(prefix=PREFIX, tags=["devices"])

    @router.post("/rotate")
    async def rotate_keys(request: Request) -> Response:
        """Certify a device's new keys; the key in force and the new ones have signed the request."""
        try:
            asked = msgspec.json.decode(await request.body(), type=RotationRequest)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ConfigError("argument-invalid", f"the body is no valid RotationRequest: {error}") from error
        answer = await run_in_threadpool(rotate, registry, authority, asked, fleet=fleet)
        return Response(msgspec.json.encode(answer), media_type="application/json")

    @router.get("/enrolments/{enrolment}")
    def one(enrolment: str) -> dict[str, str]:
        """Say what an enrolment is worth; its id is known to its device and to operators."""
        return {"standing": standing(registry, enrolment)}

    return router
