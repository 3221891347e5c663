"""The demo's stage: repository, hub, broker, two devices with an app each; all real processes on this machine."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from edgesdk.demo.facts import Call, Moment
from edgesdk.demo.processes import Programs
from edgesdk.errors import DeploymentError

MODEL = "wearable"
FLEET = "demo"
DEVICES = {"tflite": "tflite-runtime", "onnx": "onnxruntime"}
"""Devices by the hint of their name, and the one runtime package that each has."""
SETTLE_SECONDS = 120.0
LOOK_SECONDS = 0.2


@dataclass(kw_only=True)
class Device:
    """One enrolled device: its id, its runtime and its folders."""

    name: str
    id: str
    runtime: str
    folder: Path

    @property
    def store(self) -> Path:
        """Where its apps find their models."""
        return self.folder / "root" / "store"

    @property
    def calls(self) -> Path:
        """Where its app writes down every call."""
        return self.folder / "calls.jsonl"


@dataclass(kw_only=True)
class Scene:
    """Everything that runs, and where it lies."""

    folder: Path
    programs: Programs
    devices: list[Device] = field(default_factory=list)
    broker: str = ""
    hub: dict[str, Any] = field(default_factory=dict)

    @property
    def repo(self) -> Path:
        """The repository's folder."""
        return self.folder / "repo"

    @property
    def telemetry(self) -> Path:
        """What `edge telemetry watch --json` printed."""
        return self.folder / "logs" / "telemetry.out"

    def open_repository(self) -> None:
        """Make hub, keys and repository; the repository names the hub's deployment key."""
        made = self.programs.run("hub", "init", str(self.folder / "hub"), "--fleet", FLEET, "--json").json
        self.programs.run("repo", "init", str(self.repo), "--no-passphrase", "--json")
        self.programs.run("repo", "deployment-keys", made["deployment_public"], "--repo", str(self.repo), "--json")

    def publish(self, release: Path) -> None:
        """Publish one release folder."""
        self.programs.run("repo", "publish", str(release), "--repo", str(self.repo), "--json")

    def start_hub(self, broker: str) -> None:
        """Start the hub with its `broker` (``auto``, ``mosquitto``, ``devbroker``), and a subscriber."""
        hub = self.folder / "hub"
        self.hub = self.programs.keep(
            "hub", "hub", "start", str(hub), "--repo", str(self.repo), "--broker", broker, "--json", module="edgesdk"
        )
        self.broker = self.hub["broker"]
        self.programs.keep(
            "telemetry", "telemetry", "watch", "--broker", self.broker, "--json", module="edgesdk", ready=False
        )

    def enrol(self, name: str) -> Device:
        """Enrol one device with a token of its own and start its agent."""
        folder = self.folder / "devices" / name
        folder.mkdir(parents=True)
        config = folder / "agent.toml"
        config.write_text(
            f'root = "{folder / "root"}"\n'
            f'[telemetry]\ninterval_seconds = 2\n[runtime]\npackages = ["{DEVICES[name]}"]\n'
        )
        token = self.fleet("token")["token"]
        enrolled = self.programs.run(
            "enroll", token, "--config", str(config), "--name", name, "--json", module="edgesdk_agent"
        ).json
        self.programs.keep(f"agent-{name}", "run", "--config", str(config), "--json", module="edgesdk_agent")
        device = Device(name=name, id=enrolled["device"], runtime=DEVICES[name], folder=folder)
        self.devices.append(device)
        return device

    def start_app(self, device: Device, recordings: Path) -> None:
        """Start the device's app, which classifies `recordings` again and again."""
        arguments = ("--store", str(device.store), "--recordings", str(recordings), "--log", str(device.calls))
        # Both TFLite packages are in the demo's environment; a device has one.
        only = {"EDGESDK_TFLITE": device.runtime} if device.name == "tflite" else None
        self.programs.keep(f"app-{device.name}", *arguments, module="edgesdk.demo.app", environment=only)

    def fleet(self, *arguments: str) -> Any:
        """Run `edge fleet … --json` against this hub."""
        return self.programs.run("fleet", *arguments, "--dir", str(self.folder / "hub"), "--json").json

    def deploy(self, release: str, policy: Path) -> str:
        """Roll a release out to all devices at once; return the rollout's id."""
        made = self.fleet("deploy", MODEL, release, "--all", "--policy", str(policy))
        rollout: str = made["id"]
        return rollout

    def settle(self, rollout: str) -> dict[str, Any]:
        """Wait until the rollout is over, as the hub sees it.

        Raises:
            DeploymentError: ``testing-timeout`` after `SETTLE_SECONDS`.
        """
        deadline = time.monotonic() + SETTLE_SECONDS
        while time.monotonic() < deadline:
            seen: dict[str, Any] = self.fleet("status", rollout)
            if seen["state"] not in {"running", "paused"}:
                return seen
            time.sleep(LOOK_SECONDS)
        raise DeploymentError(
            "testing-timeout",
            f"rollout {rollout} did not end within {SETTLE_SECONDS:.0f} s",
            hint=f"See {self.folder}/logs.",
        )

    def device_name(self, device_id: str) -> str:
        """Return the short name of a device."""
        return next((device.name for device in self.devices if device.id == device_id), device_id)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a file of JSON lines; a last line that is still being written is left out."""
    if not path.exists():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def read_calls(device: Device, origin: float) -> list[Call]:
    """Read every call of a device's app; `origin` is the wall time of second 0."""
    return [
        Call(
            at=line["ts"] - origin,
            device=device.name,
            release=line["release"],
            served=line["served"],
            label=line["label"],
            truth=line["truth"],
            ms=line["ms"],
            failed=line.get("failed", ""),
        )
        for line in read_lines(device.calls)
    ]


def read_moments(scene: Scene, origin: float) -> list[Moment]:
    """Read every change of state from the events that the devices sent over MQTT."""
    from edgesdk.clock import parse_rfc3339  # noqa: PLC0415 - with its only user

    moments = []
    for line in read_lines(scene.telemetry):
        if line["type"] != "event" or line.get("kind", "state") != "state" or "statement" not in line:
            continue
        said = statement_of(line["statement"])
        reason = said.get("reason") or {}
        moments.append(
            Moment(
                at=parse_rfc3339(said["ts"]).timestamp() - origin,
                device=scene.device_name(line["device"]),
                release=said.get("release") or "",
                state=said["state"],
                code=reason.get("code", ""),
                reason=reason.get("message", ""),
                evidence=said.get("evidence", {}),
            )
        )
    return moments


def statement_of(envelope: dict[str, Any]) -> dict[str, Any]:
    """Return the statement inside a DSSE envelope; the hub has verified it, here it is only shown."""
    import base64  # noqa: PLC0415 - with its only user

    said: dict[str, Any] = msgspec.json.decode(base64.b64decode(envelope["payload"]))
    return said
