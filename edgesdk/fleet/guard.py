"""What stands before every route of the HTTP API: who calls, how much they may send, and how errors are answered."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from sqlalchemy.exc import SQLAlchemyError
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edgesdk.errors import ConfigError, EdgeError, LinkError
from edgesdk.fleet.access import Caller, Role, authenticate
from edgesdk.fleet.registry import Registry

MAX_BODY = 256 * 1024
STATUS = {
    "device-unknown": 404,
    "device-offline": 409,
    "command-busy": 429,
    "command-unanswered": 504,
    "link-offline": 503,
    "rollout-unknown": 404,
    "tuf-target-missing": 404,
    "rollout-conflict": 409,
    "deployment-key-unlisted": 409,
    "repository-swapped": 409,
    "tuf-expired": 409,
    "token-invalid": 403,
    "possession": 403,
    "message-too-large": 413,
}
BAD_REQUEST = 400
_bearer = HTTPBearer(auto_error=False, description="A token of `edge hub init` or `edge fleet api-token`.")


class Refused(Exception):  # noqa: N818 - an answer, not a failure of ours
    """The caller may not do this; answered with `status`."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.error = LinkError("hub-refused", message)


Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


def allow(role: Role) -> Callable[..., Caller]:
    """Return a FastAPI dependency that lets only tokens with this role pass (`app.state.registry` knows them).

    The dependency raises `Refused`: 401 without a known token, 403 with one of too small a role.
    """

    def check(request: Request, credentials: Credentials) -> Caller:
        registry: Registry = request.app.state.registry
        caller = authenticate(registry, credentials.credentials) if credentials else None
        if caller is None:
            raise Refused(401, "this needs a bearer token that the hub knows")
        if not caller.may(role):
            raise Refused(403, f"this needs the role {role}; token {caller.name!r} has {caller.role}")
        return caller

    return check


Viewer = Annotated[Caller, Depends(allow("viewer"))]
Operator = Annotated[Caller, Depends(allow("operator"))]
Admin = Annotated[Caller, Depends(allow("admin"))]


def answer_errors(app: FastAPI) -> None:
    """Answer every error of ours as ``{"error": {"code", "message", "hint"}}``."""

    @app.exception_handler(EdgeError)
    async def edge(_: Request, error: EdgeError) -> JSONResponse:
        return JSONResponse({"error": error.to_dict()}, STATUS.get(error.code, BAD_REQUEST))

    @app.exception_handler(Refused)
    async def refused(_: Request, refusal: Refused) -> JSONResponse:
        headers = {"www-authenticate": "Bearer"} if refusal.status == 401 else None  # noqa: PLR2004 - HTTP's number
        return JSONResponse({"error": refusal.error.to_dict()}, refusal.status, headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        found = ConfigError("argument-invalid", f"{where}: {first['msg']}", hint="See /api/v1/openapi.json of the hub.")
        return JSONResponse({"error": found.to_dict()}, 422)

    @app.exception_handler(SQLAlchemyError)
    async def database(_: Request, error: SQLAlchemyError) -> JSONResponse:
        found = LinkError("hub-refused", f"the hub's database failed: {type(error).__name__}", hint="See its log.")
        return JSONResponse({"error": found.to_dict()}, 503)


class BodyLimit:
    """ASGI middleware: a request's body is at most `MAX_BODY` bytes, announced or not."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if not announced.isdigit() or int(announced) > MAX_BODY:
            await _too_large()(scope, receive, send)
            return
        body = await _read(receive)
        if body is None:
            await _too_large()(scope, receive, send)
            return
        await self._app(scope, _replay(body, receive), send)


async def _read(receive: Receive) -> bytes | None:
    chunks, size = [], 0
    while True:
        message = await receive()
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > MAX_BODY:
            return None
        chunks.append(chunk)
        if message["type"] != "http.request" or not message.get("more_body", False):
            return b"".join(chunks)


def _replay(body: bytes, receive: Receive) -> Callable[[], Awaitable[Message]]:
    given = False

    async def again() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return again


def _too_large() -> JSONResponse:
    error = LinkError("message-too-large", f"a request's body is at most {MAX_BODY} bytes")
    return JSONResponse({"error": error.to_dict()}, 413)
