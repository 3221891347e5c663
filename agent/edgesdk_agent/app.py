"""Puts one agent together: the only place that knows every part."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgesdk.clock import Clock, SystemClock, rfc3339
from edgesdk.errors import DeploymentError
from edgesdk.generation import TrialPolicy, generation_dir, read_slots
from edgesdk.protocol.backoff import Backoff
from edgesdk.protocol.link import Link
from edgesdk.protocol.link_types import Message
from edgesdk.protocol.messages import Presence, encode
from edgesdk.protocol.topics import up
from edgesdk.proxies import proxy_for
from edgesdk.targets.matching import Capabilities
from edgesdk_agent.boots import Boots
from edgesdk_agent.commands import Commands, LogTail
from edgesdk_agent.config import AgentConfig
from edgesdk_agent.device import broker_address, capabilities, conditions, limits, tflite_package
from edgesdk_agent.evidence_socket import EvidenceSocket
from edgesdk_agent.identity import CA, STATEMENT_KEY, Identity, trusted_root
from edgesdk_agent.intake import Intake
from edgesdk_agent.lock import tenure
from edgesdk_agent.notify import Notifier
from edgesdk_agent.ota.allowance import Allowance
from edgesdk_agent.ota.backoff import Backoff as RetryBackoff
from edgesdk_agent.ota.download import Downloader
from edgesdk_agent.ota.preflight import check
from edgesdk_agent.ota.updater import Updater
from edgesdk_agent.paths import Paths
from edgesdk_agent.statements import StatementPublisher, sign_waiting
from edgesdk_agent.store.disk import Reserve
from edgesdk_agent.store.state import StateDb
from edgesdk_agent.supervisor import Parts, Supervisor
from edgesdk_agent.telemetry.outbox import Outbox
from edgesdk_agent.telemetry.probes import Probes
from edgesdk_agent.telemetry.publisher import Publisher
from edgesdk_agent.telemetry.recorder import Recorder
from edgesdk_agent.timekeeping import TrustedTime
from edgesdk_agent.workers.client import ChildWorkers
from edgesdk_agent.workers.messages import JudgeNewcomer, Repository, VerifiedDesired

log = logging.getLogger(__name__)

WILL_DELAY_S = 5
SESSION_S = 30
"""The broker keeps the session this long, so that a short break of the network is no change of presence.

Longer would gain nothing, whether a device is away for a minute or for weeks: what it is to run is retained, commands
expire and name the run that they are for, and what it has to say waits in its own outbox. For the same reasons a new
run starts with a clean session.
"""
BENCHMARK_S = 60.0
DAY_S = 86400
DOWNLOADED = "downloaded"
"""Key of `StateDb` under which a day's download is kept."""


def build(
    config: AgentConfig, paths: Paths, identity: Identity, logs: LogTail, *, clock: Clock | None = None
) -> Supervisor:
    """Make the agent of `paths`; nothing runs until `Supervisor.run`.

    Raises:
        ConfigError: ``config-invalid`` for addresses and groups, ``file-missing`` for TLS files.
        DeploymentError: ``store-corrupt`` or ``disk-full``.
    """
    clock = clock or SystemClock()
    run = secrets.token_hex(8)
    probes = Probes(paths.store)
    state = StateDb(paths.state_db, on_full=Reserve(paths.reserve).give_up)
    time = TrustedTime(clock, state.time_floor)
    supervisor = Supervisor()
    workers = ChildWorkers(environment=worker_environment(config))
    outbox = Outbox(paths.telemetry_db, run=run, budget_bytes=config.telemetry.outbox_bytes)
    agent = version("edgesdk-agent")
    allowed = limits(config.maintenance)
    for scheme in ("http", "https"):
        proxy_for(f"{scheme}://repository.invalid", {**os.environ, **proxies(config)})  # a typo is an error now
    boot = probes.boot_id()
    boots = Boots(state, boot)
    how = boots.begin()
    if how not in {"first", "stopped"}:
        log.warning("the run before ended by: %s", how)
    repository_url = config.link.repository or identity.repository
    ca = repository_ca(repository_url, identity, paths)

    def can_do() -> Capabilities:
        return capabilities(config.runtime, probes)

    def repository() -> Repository:
        return Repository(
            url=repository_url,
            tuf_dir=str(paths.tuf),
            root=str(trusted_root(paths)),
            now=rfc3339(time.now()),
            ca=str(ca) if ca else None,
        )

    def on_desired(verified: VerifiedDesired) -> None:
        updater.offer(verified.desired, verified.offers)
        supervisor.updater_has_work()

    def sign() -> None:
        if sign_waiting(state, workers, identity, paths.keys / STATEMENT_KEY):
            statements.signed()
            supervisor.wake.set()

    intake = Intake(
        identity=identity,
        run=run,
        state=state,
        workers=workers,
        time=time,
        repository=repository,
        on_desired=on_desired,
        on_command=supervisor.command,
        on_refused=supervisor.refused,
        on_problem=supervisor.problem_changed,
        sign=sign,
        backoff=Backoff(base=config.retry.first_seconds, cap=config.retry.max_seconds),
        poll_seconds=config.link.poll_seconds,
        clock=clock,
    )
    updater = Updater(
        paths=paths,
        state=state,
        workers=workers,
        download=Downloader(
            ca=ca,
            bytes_per_second=config.download.bytes_per_second,
            environment={**os.environ, **proxies(config)},
            allowance=daily_allowance(config, state, time, boot, clock),
        ),
        capabilities=can_do,
        clock=clock,
        emit=lambda _: intake.sign_now(),
        boot_id=boot,
        run_id=run,
        ended=how,
        backoff=RetryBackoff(
            draw=secrets.SystemRandom().random,
            first_seconds=config.retry.first_seconds,
            max_seconds=config.retry.max_seconds,
        ),
        disk_budget=config.store.disk_budget_bytes,
        preflight=lambda needs: check(allowed, conditions(time, probes), needs),
        ask_again=intake.look_now,
    )
    statements = StatementPublisher(
        state, outbox, identity, clock=clock, publish=supervisor.publish, wake=supervisor.wake.set
    )
    link = _link(config, paths, identity, supervisor, _offline(identity, run, agent, boot, clock))
    publisher = Publisher(
        outbox,
        lambda topic, payload: link.publish(topic, payload).future,
        topics={
            "telemetry": up(identity.fleet, identity.device, "telemetry"),
            "event": up(identity.fleet, identity.device, "event"),
        },
        window=config.telemetry.window,
        wake=supervisor.wake.set,
    )

    def deploy_now() -> None:
        intake.look_now()
        supervisor.updater_has_work()

    supervisor.attach(
        Parts(
            identity=identity,
            run=run,
            boot=boot,
            boots=boots,
            ended=how,
            version=agent,
            clock=clock,
            time=time,
            state=state,
            outbox=outbox,
            recorder=Recorder(
                outbox, identity, clock=clock, bytes_per_day=config.telemetry.bytes_per_day, version=agent
            ),
            probes=probes,
            capabilities=can_do,
            workers=workers,
            updater=updater,
            intake=intake,
            link=link,
            publisher=publisher,
            statements=statements,
            evidence=EvidenceSocket(
                paths.evidence_socket,
                updater.evidence,
                group=config.store.apps_group,
                uids=config.store.apps_uids,
            ),
            commands=Commands(
                status=supervisor.status,
                deploy_now=deploy_now,
                benchmark=lambda model: benchmark(paths, workers, model),
                logs=logs,
            ),
            notifier=Notifier(),
            status_file=paths.status,
            tenure=tenure(paths.lock),
            interval_seconds=config.telemetry.interval_seconds,
        )
    )
    return supervisor


def repository_ca(url: str, identity: Identity, paths: Paths) -> Path | None:
    """Return the fleet's authority for what the hub itself serves; None (the system's) for other servers."""
    return paths.keys / CA if url.startswith(identity.hub.rstrip("/") + "/") else None


def daily_allowance(config: AgentConfig, state: StateDb, time: TrustedTime, boot: str, clock: Clock) -> Allowance:
    """Return what this device may download in a day: one of UTC, or of its uptime while its clock is not proven."""

    def today() -> str:
        if time.state == "proven":
            return time.now().date().isoformat()
        return f"{boot} {int(clock.monotonic() // DAY_S)}"

    return Allowance(
        config.download.bytes_per_day,
        today=today,
        load=lambda: state.get(DOWNLOADED),
        save=lambda text: state.set(DOWNLOADED, text),
    )


def benchmark(paths: Paths, workers: ChildWorkers, model: str) -> dict[str, Any]:
    """Measure the good generation of a model in the testing worker.

    Raises:
        DeploymentError: ``generation-missing`` if there is none, and what the worker raises.
    """
    slots = read_slots(paths.store, model)
    if slots is None or slots.good is None:
        raise DeploymentError("generation-missing", f"no generation of {model!r} is good here")
    judgement = workers.test(
        JudgeNewcomer(
            newcomer=str(generation_dir(paths.store, slots.good)), policy=TrialPolicy(testing_seconds=BENCHMARK_S)
        )
    )
    latency = judgement.latency
    return {
        "generation": slots.good,
        "backend": judgement.backend,
        "provider": judgement.provider,
        "peak_memory": judgement.peak_memory,
        "calls": latency.count if latency else 0,
        "p50_ms": latency.p50_ms if latency else None,
        "p95_ms": latency.p95_ms if latency else None,
    }


def worker_environment(config: AgentConfig) -> Mapping[str, str]:
    """Return what workers are told by their environment, beside the agent's own."""
    package = tflite_package(config.runtime)
    return {**({"EDGESDK_TFLITE": package} if package else {}), **proxies(config)}


def proxies(config: AgentConfig) -> dict[str, str]:
    """Return the variables that name the configured proxy; lower case, for those win over the environment's."""
    return dict.fromkeys(("http_proxy", "https_proxy"), config.link.proxy) if config.link.proxy else {}


def _offline(identity: Identity, run: str, agent: str, boot: str, clock: Clock) -> bytes:
    return encode(
        Presence(
            device=identity.device,
            fleet=identity.fleet,
            online=False,
            run=run,
            ts=rfc3339(clock.now()),
            agent=agent,
            boot=boot,
        )
    )


def _link(config: AgentConfig, paths: Paths, identity: Identity, supervisor: Supervisor, will: bytes) -> Link:
    host, port, tls = broker_address(config.link.broker or identity.broker, paths)
    return Link(
        host,
        port,
        identity.device,
        username=identity.device,
        tls=tls,
        will=Message(topic=up(identity.fleet, identity.device, "presence"), payload=will, qos=1, retain=True),
        will_delay=WILL_DELAY_S,
        session_expiry=SESSION_S,
        window=config.telemetry.window,
        on_message=supervisor.received,
        on_state=supervisor.link_changed,
    )
