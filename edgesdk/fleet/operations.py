"""What operators do to the fleet, and what the hub does by itself: deploy, roll back, pause, halt, open the next wave.

Each operation is one transaction: the rollout, the signed desired documents of its devices and the audit entry are
written together. Publishing comes after (`controller`), from what is written here, so a hub that dies in between goes
on where it was.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from securesystemslib.signer import CryptoSigner
from sqlalchemy import select
from sqlalchemy.orm import Session

from edgesdk.errors import ConfigError, TrustError
from edgesdk.fleet import plans
from edgesdk.fleet import rollout as rules
from edgesdk.fleet.desired import Desk
from edgesdk.fleet.devices import WHERE_IDS
from edgesdk.fleet.registry import Registry
from edgesdk.fleet.releases import RepositoryView
from edgesdk.fleet.rollout import ACTIVE, Decision, Gate, Progress, Rollout
from edgesdk.fleet.tables import Device
from edgesdk.generation import TrialPolicy

HUB = "hub"
"""The actor of what the hub decides by itself."""


class Operations:
    """The fleet's verbs.

    Args:
        registry: Where everything is written.
        repository: Names the releases that may be deployed.
        signer: The deployment key.
        fleet: The name of the fleet.
        wake: Called after each change, so that it is published at once.
    """

    def __init__(
        self,
        registry: Registry,
        repository: RepositoryView,
        signer: CryptoSigner,
        *,
        fleet: str,
        wake: Callable[[], None] = lambda: None,
    ) -> None:
        self.registry = registry
        self.repository = repository
        self.fleet = fleet
        self.wake = wake
        self.desk = Desk(registry, repository, signer, fleet=fleet)
        self._keyid = signer.public_key.keyid

    # ---- what operators do

    def deploy(
        self,
        model: str,
        release: str,
        *,
        actor: str,
        devices: Sequence[str] | None = None,
        waves: Sequence[str] = ("100%",),
        gates: Sequence[Gate] = (Gate(),),
        policy: TrialPolicy | None = None,
        config: Mapping[str, Any] | None = None,
        retry_quarantined: bool = False,
    ) -> Rollout:
        """Start a rollout.

        Args:
            model: Its name.
            release: A release that the repository lists.
            actor: Who does it, for the audit log.
            devices: In the order of asking; None: every device not revoked, in an order drawn by the rollout's id.
            waves: Cumulative sizes, see `rollout.plan_waves`.
            gates: One for all waves, or one per wave.
            policy: How devices try it.
            config: Runtime options and thresholds.
            retry_quarantined: Try it again where it failed before.

        Raises:
            TrustError: ``tuf-target-missing``, ``deployment-key-unlisted``, ``device-unknown`` or a ``tuf-…`` code.
            ConfigError: ``rollout-conflict`` if another rollout of this model is active, or ``argument-invalid``.
        """
        self._require_deployable(model, release)
        rollout_id = f"r-{secrets.token_hex(5)}"
        with self.registry.writing() as session:
            for other in plans.active(session):
                if other.model == model:
                    raise ConfigError("rollout-conflict", f"rollout {other.id} of {model} is {other.state}")
            chosen = self._chosen(session, devices, rollout_id)
            plan = Rollout(
                id=rollout_id,
                fleet=self.fleet,
                model=model,
                release=release,
                waves=rules.plan_waves(chosen, waves, gates),
                created_at=self.registry.now(),
                policy=policy or TrialPolicy(),
                config=dict(config or {}),
                retry_quarantined=retry_quarantined,
            )
            plan = self._start(session, plan, actor, "rollout.create")
        self.wake()
        return plan

    def rollback(self, model: str, *, actor: str, to: str | None = None) -> Rollout:
        """Ask every device that was asked to run the newest release to run an older one again, all at once.

        Args:
            model: Its name.
            actor: Who does it.
            to: The older release; None: the one before, of the last rollout that was done.

        Raises:
            TrustError: ``tuf-target-missing`` if the repository no longer lists it; codes of `deploy`.
            ConfigError: ``argument-invalid`` if there is nothing to roll back, or no older release is known.
        """
        with self.registry.reading() as session:
            older = plans.older(session, model, to)
        self._require_deployable(model, older.release)
        rollout_id = f"r-{secrets.token_hex(5)}"
        with self.registry.writing() as session:
            undone = plans.newest(session, model)
            devices = [device for device in undone.devices if self.desk.asked(session, device, model) is not None]
            # It must never be stopped half-way by the very devices that it is to heal.
            gate = Gate(max_bad=len(devices))
            plan = msgspec.structs.replace(
                older,
                id=rollout_id,
                waves=rules.plan_waves(devices, ("100%",), (gate,)),
                created_at=self.registry.now(),
                state="running",
                reason=f"rolls back {undone.release} ({undone.id})",
                undoes=undone.id,
                # What was good before is not measured against the release that is fled, nor kept out by what that did.
                policy=msgspec.structs.replace(older.policy, max_slowdown=None, max_unsure_rate=None),
                retry_quarantined=True,
                prior={},
            )
            reason = f"rolled back to {plan.release} by {actor} ({rollout_id})"
            plans.save(
                session, msgspec.structs.replace(undone, state="rolled_back", reason=reason), self.registry.now()
            )
            plan = self._start(session, plan, actor, "rollout.rollback")
        self.wake()
        return plan

    def pause(self, rollout_id: str, *, actor: str) -> Rollout:
        """Open no further wave; devices that were asked go on.

        Raises:
            ConfigError: ``rollout-unknown``, or ``rollout-conflict`` if it is not running.
        """
        with self.registry.writing() as session:
            found = plans.load(session, rollout_id)
            if found.state != "running":
                raise ConfigError("rollout-conflict", f"rollout {found.id} is {found.state}; only a running one pauses")
            changed = msgspec.structs.replace(found, state="paused", reason=f"paused by {actor}")
            return self._changed(session, changed, actor, "rollout.pause")

    def resume(self, rollout_id: str, *, actor: str) -> Rollout:
        """Go on with a paused rollout.

        Raises:
            ConfigError: ``rollout-unknown``, or ``rollout-conflict`` if it is not paused.
        """
        with self.registry.writing() as session:
            changed = rules.resume(plans.load(session, rollout_id), self.registry.now())
            changed = self._changed(session, changed, actor, "rollout.resume")
        self.wake()
        return changed

    def halt(self, rollout_id: str, *, actor: str) -> Rollout:
        """End a rollout; devices that have not ended it themselves are asked for what they ran before.

        Raises:
            ConfigError: ``rollout-unknown``, or ``rollout-conflict`` if it has ended.
        """
        with self.registry.writing() as session:
            found = plans.load(session, rollout_id)
            if found.state not in ACTIVE:
                raise ConfigError("rollout-conflict", f"rollout {found.id} is {found.state} already")
            undecided = rules.undecided(found, plans.progress(session, found))
            changed = self._apply(session, found, Decision("halted", f"halted by {actor}", withdraw=undecided), actor)
        self.wake()
        return changed

    # ---- what the hub does by itself

    def advance(self) -> int:
        """Let every active rollout do its next thing; returns how many changed."""
        with self.registry.reading() as session:
            due = [plan.id for plan in plans.active(session) if self._decide(session, plan) is not None]
        changed = 0
        for rollout_id in due:
            with self.registry.writing() as session:
                plan = plans.load(session, rollout_id)
                decision = self._decide(session, plan)  # again: it may have changed since
                if decision is not None:
                    self._apply(session, plan, decision, HUB)
                    changed += 1
        return changed

    # ---- what everybody reads

    def rollouts(self) -> list[Rollout]:
        """List all rollouts, newest first."""
        with self.registry.reading() as session:
            return plans.every(session)

    def rollout(self, rollout_id: str) -> tuple[Rollout, dict[str, Progress]]:
        """Return a rollout and where its devices stand.

        Raises:
            ConfigError: ``rollout-unknown``.
        """
        with self.registry.reading() as session:
            plan = plans.load(session, rollout_id)
            return plan, plans.told(session, plan, plans.progress(session, plan))

    # ---- inside one transaction

    def _require_deployable(self, model: str, release: str) -> None:
        self.repository.release(model, release)
        self.repository.require_deployment_key(self._keyid)

    def _chosen(self, session: Session, devices: Sequence[str] | None, rollout_id: str) -> Sequence[str]:
        mine = select(Device.id).where(Device.fleet == self.fleet, Device.revoked_at.is_(None))
        enrolled = set(session.scalars(mine))
        if devices is None:
            return rules.shuffled(enrolled, rollout_id)
        if unknown := [device for device in devices if device not in enrolled]:
            raise TrustError(
                "device-unknown", f"not enrolled in {self.fleet}, or revoked: {', '.join(unknown)}", hint=WHERE_IDS
            )
        return devices

    def _start(self, session: Session, plan: Rollout, actor: str, action: str) -> Rollout:
        plans.save(session, plan, self.registry.now())
        details = {"model": plan.model, "release": plan.release, "devices": len(plan.devices)}
        self.registry.audit(session, actor, action, plan.id, **details)
        return self._apply(session, plan, Decision("running", plan.reason, open_wave=0), actor)

    def _changed(self, session: Session, plan: Rollout, actor: str, action: str) -> Rollout:
        plans.save(session, plan, self.registry.now())
        self.registry.audit(session, actor, action, plan.id, reason=plan.reason)
        return plan

    def _decide(self, session: Session, plan: Rollout) -> Decision | None:
        decision = rules.advance(plan, plans.progress(session, plan), self.registry.now())
        return None if decision == Decision(plan.state, plan.reason) else decision

    def _apply(self, session: Session, plan: Rollout, decision: Decision, actor: str) -> Rollout:
        after = msgspec.structs.replace(plan, state=decision.state, reason=decision.reason or plan.reason)
        if decision.open_wave is not None:
            after = self._open(session, after, decision.open_wave)
        for device in decision.withdraw:
            if device in plan.prior:
                # None would remove the model; a device that had no release before is only no longer asked.
                self.desk.restate(session, device, {plan.model: plan.prior[device]})
        action = "rollout.wave" if decision.open_wave is not None else f"rollout.{decision.state}"
        details = {"reason": after.reason, "wave": decision.open_wave, "withdrawn": list(decision.withdraw)}
        self.registry.audit(session, actor, action, plan.id, **details)
        plans.save(session, after, self.registry.now())
        return after

    def _open(self, session: Session, plan: Rollout, index: int) -> Rollout:
        devices = plan.waves[index].devices
        # A rollback that is halted withdraws nothing: nobody is sent back to the release that is being undone.
        prior = {} if plan.undoes else {device: self.desk.asked(session, device, plan.model) for device in devices}
        for device in devices:
            self.desk.restate(session, device, {plan.model: plan.desired()})
        return rules.open_wave(plan, index, self.registry.now(), prior)
