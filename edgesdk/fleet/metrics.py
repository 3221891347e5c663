"""The hub in numbers, as Prometheus text (exposition format 0.0.4), counted in the database at the time of asking."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from sqlalchemy import func, select

from edgesdk.errors import EdgeError
from edgesdk.fleet.registry import Registry
from edgesdk.fleet.releases import RepositoryView
from edgesdk.fleet.tables import DesiredRow, Device, Latest, Rejection, RolloutRow, StatementRow
from edgesdk.trust.metadata import Role

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Sample = tuple[Mapping[str, str], float]


def render(registry: Registry, *, broker_online: bool, repository: RepositoryView, refreshes: Mapping[str, int]) -> str:
    """Return the metrics' text; `refreshes`: how often the hub signed the repository anew, by outcome."""
    with registry.reading() as session:
        online = session.execute(
            select(Device.online, func.count()).where(Device.revoked_at.is_(None)).group_by(Device.online)
        ).all()
        latest = select(StatementRow.model, StatementRow.state, func.count())
        latest = latest.join(Latest, Latest.statement == StatementRow.id)
        states = session.execute(latest.group_by(StatementRow.model, StatementRow.state)).all()
        rollouts = session.execute(select(RolloutRow.state, func.count()).group_by(RolloutRow.state)).all()
        rejected = session.execute(select(Rejection.code, func.sum(Rejection.count)).group_by(Rejection.code)).all()
        statements = session.scalar(select(func.count()).select_from(StatementRow)) or 0
        waiting = session.scalar(
            select(func.count()).select_from(DesiredRow).where(DesiredRow.published_serial != DesiredRow.serial)
        )
    families = [
        _family("edge_broker_online", "gauge", "Whether the broker is connected.", [({}, float(broker_online))]),
        _family(
            "edge_devices",
            "gauge",
            "Devices that are not revoked, by presence.",
            [({"presence": "online" if up else "offline"}, count) for up, count in online],
        ),
        _family(
            "edge_device_models",
            "gauge",
            "Devices by model and the state of their latest verified statement.",
            [({"model": model, "state": state}, count) for model, state, count in states],
        ),
        _family("edge_rollouts", "gauge", "Rollouts by state.", [({"state": state}, n) for state, n in rollouts]),
        _family("edge_statements_total", "counter", "Verified statements kept.", [({}, statements)]),
        _family(
            "edge_rejected_messages_total",
            "counter",
            "Messages of devices that were rejected, by error code.",
            [({"code": code}, float(count)) for code, count in rejected],
        ),
        _family("edge_desired_unpublished", "gauge", "Desired documents not yet acknowledged.", [({}, waiting or 0)]),
    ]
    return "".join([*families, *_repository(repository, refreshes)])


def _repository(repository: RepositoryView, refreshes: Mapping[str, int]) -> Iterable[str]:
    try:
        expires: Mapping[Role, datetime] = repository.expires()
    except EdgeError:
        expires = {}  # a repository that does not verify has no known expiry; the gauge below says so
    yield _family("edge_repository_verified", "gauge", "Whether it verifies.", [({}, float(bool(expires)))])
    yield _family(
        "edge_repository_expires_timestamp_seconds",
        "gauge",
        "When a role's metadata expires, in Unix seconds.",
        [({"role": role}, moment.timestamp()) for role, moment in expires.items()],
    )
    yield _family(
        "edge_repository_refreshes_total",
        "counter",
        "How often this hub process signed snapshot or time stamp anew, or failed to.",
        [({"result": result}, count) for result, count in sorted(refreshes.items())],
    )


def _family(name: str, kind: str, text: str, samples: Iterable[Sample]) -> str:
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    lines += [f"{name}{_labels(labels)} {_number(value)}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    escaped = {
        key: value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n") for key, value in labels.items()
    }
    return "{" + ",".join(f'{key}="{value}"' for key, value in escaped.items()) + "}"
