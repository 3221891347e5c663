"""The hub's HTTP API, version 1 (OpenAPI at ``/api/v1/openapi.json``), metrics and the repository's files.

A bearer token is needed for everything but health, the authority's certificate, enrolment and the repository, whose
contents prove themselves.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from typing import Annotated, Any, TypeVar

import msgspec
from fastapi import APIRouter, FastAPI, Query, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr
from sqlalchemy import select

from edgesdk.errors import ConfigError, EdgeError
from edgesdk.fleet import devices, freshness, metrics
from edgesdk.fleet.access import Role, create_api_token, revoke_api_token
from edgesdk.fleet.api_keys import keys_router
from edgesdk.fleet.api_paths import PREFIX
from edgesdk.fleet.commands import MAX_TIMEOUT_S, Commands, Name
from edgesdk.fleet.files import RepositoryFiles
from edgesdk.fleet.freshness import Refresher
from edgesdk.fleet.gatekeeper import Gatekeeper
from edgesdk.fleet.guard import Admin, BodyLimit, Operator, Refused, Viewer, answer_errors
from edgesdk.fleet.operations import Operations
from edgesdk.fleet.rollout import SILENT, Gate, Progress, Rollout, tally
from edgesdk.fleet.tables import Audit
from edgesdk.generation import TrialPolicy
from edgesdk.trust.ca import Authority
from edgesdk.trust.enrolment import EnrolRequest

MAX_AUDIT = 500
T = TypeVar("T")


class DeployBody(BaseModel):
    """Start a rollout. `devices`: null is all; `gates`: one for all waves or one per wave."""

    model_config = ConfigDict(extra="forbid")
    model: str
    release: str
    devices: list[str] | None = None
    waves: list[str] = Field(default=["100%"], max_length=100)
    gates: list[dict[str, Any]] = [{}]
    policy: dict[str, Any] = {}
    config: dict[str, Any] = {}
    retry_quarantined: bool = False


class RollbackBody(BaseModel):
    """Go back to an older release; `to`: null is the one before."""

    model_config = ConfigDict(extra="forbid")
    model: str
    to: str | None = None


class TokenBody(BaseModel):
    """Make a one-time enrolment token."""

    model_config = ConfigDict(extra="forbid")
    valid_seconds: int = Field(default=24 * 3600, ge=1, le=90 * 24 * 3600)


class ApiTokenBody(BaseModel):
    """Make a token for this API."""

    model_config = ConfigDict(extra="forbid")
    name: str = Field(min_length=1, max_length=64)
    role: Role


Key = Annotated[str, Field(max_length=64)]
Value = Annotated[StrictStr, Field(max_length=256)] | Annotated[StrictInt, Field(ge=-(2**31), lt=2**31)]


class CommandBody(BaseModel):
    """Ask a device for something now; `timeout_s`: seconds to wait for its reply."""

    model_config = ConfigDict(extra="forbid")
    name: Name
    arguments: dict[Key, Value] = Field(default={}, max_length=8)
    timeout_s: float = Field(default=30.0, ge=1, le=MAX_TIMEOUT_S)


@dataclass(frozen=True, slots=True)
class Services:
    """What the routes use."""

    operations: Operations
    commands: Commands
    enrolment: devices.Enrolment
    authority: Authority
    gatekeeper: Gatekeeper
    broker_online: Callable[[], bool]
    refresher: Refresher | None = None

    def warnings(self) -> list[str]:
        """Say what will soon be in the hub's way."""
        registry, repository = self.operations.registry, self.operations.repository
        return freshness.warnings(repository.expires(), registry.clock.now())


def create_app(services: Services) -> FastAPI:
    """Put the HTTP application together."""
    app = FastAPI(
        title="edgesdk hub",
        version=version("edgesdk"),
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
    )
    app.state.registry = services.operations.registry
    app.add_middleware(BodyLimit)
    answer_errors(app)
    app.include_router(_public(services))
    app.include_router(_devices(services))
    operations = services.operations
    app.include_router(keys_router(operations.registry, services.authority, fleet=operations.fleet))
    app.include_router(_rollouts(services))
    app.include_router(_administration(services))
    app.mount("/repo", RepositoryFiles(services.operations.repository.folder), name="repository")
    return app


def _public(services: Services) -> APIRouter:
    router = APIRouter(prefix=PREFIX, tags=["public"])

    @router.get("/healthz")
    def healthz(response: Response) -> dict[str, Any]:
        """Say whether the hub can do its work: database, broker, repository; and what will soon be in its way."""
        warned: list[str] = []
        checks = {"database": "ok", "broker": "ok" if services.broker_online() else "offline", "repository": "ok"}
        try:
            warned = services.warnings()
            services.operations.repository.versions()
        except EdgeError as error:
            checks["repository"] = error.code
        services.operations.registry.meta("schema")
        healthy = all(value == "ok" for value in checks.values())
        response.status_code = 200 if healthy else 503
        return {"ok": healthy, "fleet": services.operations.fleet, "checks": checks, "warnings": warned}

    @router.get("/ca", response_class=PlainTextResponse)
    def ca() -> str:
        """Return the fleet authority's certificate (PEM); compare its fingerprint with the enrolment token's."""
        return services.authority.certificate_pem.decode()

    @router.get("/crl", response_class=PlainTextResponse)
    def crl() -> str:
        """Return the certificates that count no more (PEM), for a broker that the hub does not run itself."""
        return services.gatekeeper.revocation_list().decode()

    @router.post("/enroll")
    async def enroll(request: Request) -> Response:
        """Enrol a device: a one-time token and two proofs of possession for a certificate."""
        from starlette.concurrency import run_in_threadpool  # noqa: PLC0415 - the only async route

        asked = _decode(await request.body(), EnrolRequest)
        answer = await run_in_threadpool(services.enrolment.enrol, asked)
        return Response(msgspec.json.encode(answer), media_type="application/json")

    return router


def _devices(services: Services) -> APIRouter:
    router = APIRouter(prefix=PREFIX, tags=["devices"])
    registry = services.operations.registry

    @router.get("/devices")
    def listing(_: Viewer) -> list[dict[str, Any]]:
        """List devices with their latest verified statements and the statements' age."""
        return devices.describe_all(registry)

    @router.get("/devices/{device}")
    def one(device: str, _: Viewer) -> dict[str, Any]:
        """Describe one device, its history included."""
        return devices.describe(registry, device)

    @router.get("/devices/{device}/desired")
    def desired(device: str, _: Operator) -> dict[str, Any]:
        """Return the signed document (DSSE) of what a device should run, to be carried to one without network."""
        return devices.desired_envelope(registry, device)

    @router.post("/devices/{device}/commands")
    def ask(device: str, body: CommandBody, caller: Operator) -> dict[str, Any]:
        """Ask a device that is online, and return its reply: a result, or its own reason why there is none."""
        answer = services.commands.ask(device, body.name, body.arguments, timeout=body.timeout_s, actor=caller.name)
        found: dict[str, Any] = msgspec.to_builtins(answer)
        return found

    @router.post("/devices/{device}/revoke")
    def revoke(device: str, caller: Admin) -> dict[str, Any]:
        """Believe nothing of a device any more, and put it out of the broker."""
        devices.revoke(registry, device, actor=caller.name)
        services.operations.wake()
        services.gatekeeper.put_out(device)
        return devices.describe(registry, device)

    return router


def _rollouts(services: Services) -> APIRouter:
    router = APIRouter(prefix=PREFIX, tags=["rollouts"])
    operations = services.operations

    @router.get("/releases")
    def releases(_: Viewer) -> list[dict[str, str]]:
        """List what the repository holds."""
        return [{"model": each.model, "release": each.release} for each in operations.repository.releases()]

    @router.get("/rollouts")
    def listing(_: Viewer) -> list[dict[str, Any]]:
        """List rollouts, newest first."""
        return [_summary(plan) for plan in operations.rollouts()]

    @router.post("/rollouts", status_code=201)
    def create(body: DeployBody, caller: Operator) -> dict[str, Any]:
        """Start a rollout."""
        plan = operations.deploy(
            body.model,
            body.release,
            actor=caller.name,
            devices=body.devices,
            waves=body.waves,
            gates=_convert(body.gates, tuple[Gate, ...], "gates"),
            policy=_convert(body.policy, TrialPolicy, "policy"),
            config=body.config,
            retry_quarantined=body.retry_quarantined,
        )
        return _detail(*operations.rollout(plan.id))

    @router.get("/rollouts/{rollout}")
    def one(rollout: str, _: Viewer) -> dict[str, Any]:
        """Describe one rollout: its waves, and where each device stands."""
        return _detail(*operations.rollout(rollout))

    @router.post("/rollouts/{rollout}/pause")
    def pause(rollout: str, caller: Operator) -> dict[str, Any]:
        """Open no further wave."""
        return _detail(*operations.rollout(operations.pause(rollout, actor=caller.name).id))

    @router.post("/rollouts/{rollout}/resume")
    def resume(rollout: str, caller: Operator) -> dict[str, Any]:
        """Go on."""
        return _detail(*operations.rollout(operations.resume(rollout, actor=caller.name).id))

    @router.post("/rollouts/{rollout}/halt")
    def halt(rollout: str, caller: Operator) -> dict[str, Any]:
        """End it; undecided devices are asked for what they ran before."""
        return _detail(*operations.rollout(operations.halt(rollout, actor=caller.name).id))

    @router.post("/rollback", status_code=201)
    def rollback(body: RollbackBody, caller: Operator) -> dict[str, Any]:
        """Ask for an older release."""
        plan = operations.rollback(body.model, actor=caller.name, to=body.to)
        return _detail(*operations.rollout(plan.id))

    return router


def _administration(services: Services) -> APIRouter:
    router = APIRouter(tags=["administration"])
    registry = services.operations.registry

    @router.post(f"{PREFIX}/tokens", status_code=201)
    def token(body: TokenBody, caller: Operator) -> dict[str, Any]:
        """Make a one-time enrolment token; it is shown once."""
        made = services.enrolment.create_token(valid=timedelta(seconds=body.valid_seconds), actor=caller.name)
        return {"token": made.to_text(), "id": made.id, "expires_at": made.expires_at}

    @router.post(f"{PREFIX}/api-tokens", status_code=201)
    def api_token(body: ApiTokenBody, caller: Admin) -> dict[str, str]:
        """Make a token for this API; it is shown once."""
        token_id, text = create_api_token(registry, body.name, body.role, actor=caller.name)
        return {"id": token_id, "name": body.name, "role": body.role, "token": text}

    @router.delete(f"{PREFIX}/api-tokens/{{token_id}}", status_code=204)
    def no_api_token(token_id: str, caller: Admin) -> None:
        """Take a token's rights away; your own is refused, so that nobody locks the hub."""
        if token_id == caller.id:
            raise Refused(409, "this is the token you are using; revoke it with another one")
        revoke_api_token(registry, token_id, actor=caller.name)

    @router.get(f"{PREFIX}/audit")
    def audit(_: Admin, limit: Annotated[int, Query(ge=1, le=MAX_AUDIT)] = 100) -> list[dict[str, Any]]:
        """List who did what, newest first."""
        with registry.reading() as session:
            rows = session.scalars(select(Audit).order_by(Audit.id.desc()).limit(limit)).all()
        names = ("id", "at", "actor", "action", "subject")
        return [{name: getattr(row, name) for name in names} | {"details": json.loads(row.details)} for row in rows]

    @router.get("/metrics")
    def metrics_text(_: Viewer) -> Response:
        """Return the hub in numbers (Prometheus)."""
        text = metrics.render(
            registry,
            broker_online=services.broker_online(),
            repository=services.operations.repository,
            refreshes=services.refresher.counts if services.refresher else {},
        )
        return Response(text, media_type=metrics.CONTENT_TYPE)

    return router


def _decode(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The words of the cause could repeat the secret.
        raise ConfigError("argument-invalid", f"the body is no valid {kind.__name__}") from None


def _convert(value: Any, kind: type[T], where: str) -> T:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ConfigError("argument-invalid", f"{where}: {error}") from error


def _summary(plan: Rollout) -> dict[str, Any]:
    return {
        "id": plan.id,
        "model": plan.model,
        "release": plan.release,
        "state": plan.state,
        "reason": plan.reason,
        "created_at": plan.created_at,
        "undoes": plan.undoes,
        "waves": len(plan.waves),
        "opened": len(plan.opened),
        "devices": len(plan.devices),
    }


def _detail(plan: Rollout, progress: dict[str, Progress]) -> dict[str, Any]:
    found = _summary(plan)
    found["policy"] = msgspec.to_builtins(plan.policy)
    found["config"] = plan.config
    found["waves"] = [
        {
            "opened_at": wave.opened_at,
            "gate": msgspec.to_builtins(wave.gate),
            "tally": msgspec.to_builtins(tally(wave, progress)),
            "devices": [
                {"device": device, **msgspec.to_builtins(progress.get(device, SILENT))} for device in wave.devices
            ],
        }
        for wave in plan.waves
    ]
    return found
