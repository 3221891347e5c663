"""Rollouts in the registry, and what their devices have said about them."""

from __future__ import annotations

from collections import defaultdict

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from edgesdk.errors import ConfigError
from edgesdk.fleet.rollout import ACTIVE, SILENT, Progress, Rollout, progress_of, put_out
from edgesdk.fleet.tables import Device, ProblemRow, RolloutRow, StatementRow
from edgesdk.protocol.messages import Reason, Statement

_STATEMENTS = msgspec.json.Decoder(Statement)
NEWEST_FIRST = (RolloutRow.created_at.desc(), RolloutRow.id)


def load(session: Session, rollout_id: str) -> Rollout:
    """Return one rollout.

    Raises:
        ConfigError: ``rollout-unknown``.
    """
    row = session.get(RolloutRow, rollout_id)
    if row is None:
        raise ConfigError("rollout-unknown", f"there is no rollout {rollout_id[:80]!r}")
    return _plan(row)


def save(session: Session, plan: Rollout, now: int) -> None:
    """Write a rollout; `now` in Unix milliseconds."""
    row = session.get(RolloutRow, plan.id)
    if row is None:
        row = RolloutRow(id=plan.id, model=plan.model, created_at=plan.created_at)
        session.add(row)
    row.state, row.updated_at = plan.state, now
    row.document = msgspec.json.encode(plan).decode()
    session.flush()


def active(session: Session) -> list[Rollout]:
    """Return the rollouts that run or pause, oldest first."""
    rows = session.scalars(select(RolloutRow).where(RolloutRow.state.in_(ACTIVE)).order_by(RolloutRow.created_at))
    return [_plan(row) for row in rows]


def every(session: Session, model: str | None = None) -> list[Rollout]:
    """Return all rollouts (of a model), newest first."""
    query = select(RolloutRow).order_by(*NEWEST_FIRST)
    if model is not None:
        query = query.where(RolloutRow.model == model)
    return [_plan(row) for row in session.scalars(query)]


def newest(session: Session, model: str) -> Rollout:
    """Return the newest rollout of a model.

    Raises:
        ConfigError: ``argument-invalid`` if there is none.
    """
    plans = every(session, model)
    if not plans:
        raise ConfigError("argument-invalid", f"no release of {model} was ever deployed, so there is none to undo")
    return plans[0]


def older(session: Session, model: str, to: str | None) -> Rollout:
    """Return the plan to go back to: of release `to`, or the last one that was done with another release.

    Raises:
        ConfigError: ``argument-invalid`` if there is none.
    """
    latest = newest(session, model)
    for plan in every(session, model):
        if plan.release == to or (to is None and plan.state == "done" and plan.release != latest.release):
            return plan
    if to is not None:
        return msgspec.structs.replace(latest, release=to)
    raise ConfigError(
        "argument-invalid", f"no rollout of {model} was done before {latest.release}", hint="Name one with --to."
    )


def progress(session: Session, plan: Rollout) -> dict[str, Progress]:
    """Return where the devices of a rollout stand, from the statements of their present enrolments."""
    found = (
        select(StatementRow.device, StatementRow.document)
        .join(Device, Device.enrolment == StatementRow.enrolment)
        .where(StatementRow.deployment == plan.id, StatementRow.model == plan.model)
    )
    said: dict[str, list[Statement]] = defaultdict(list)
    for device, document in session.execute(found):
        said[device].append(_STATEMENTS.decode(document))
    found_progress = {device: progress_of(statements) for device, statements in said.items()}
    revoked = set(session.scalars(select(Device.id).where(Device.revoked_at.is_not(None))))
    for device in revoked.intersection(plan.devices):
        found_progress[device] = put_out(found_progress.get(device, SILENT))
    return found_progress


def told(session: Session, plan: Rollout, found: dict[str, Progress]) -> dict[str, Progress]:
    """Add why devices that were asked have stated nothing yet, as they told it unsigned: for people, not for rules."""
    if plan.state not in ACTIVE:
        return found
    silent = {device for wave in plan.opened for device in wave.devices if device not in found}
    rows = session.scalars(select(ProblemRow)).all() if silent else ()
    problems = {row.device: msgspec.json.decode(row.document, type=Reason) for row in rows if row.device in silent}
    return found | {
        device: Progress(reason=why.code, message=why.message, hint=why.hint) for device, why in problems.items()
    }


def _plan(row: RolloutRow) -> Rollout:
    return msgspec.json.decode(row.document, type=Rollout)
