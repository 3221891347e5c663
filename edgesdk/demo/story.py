"""The demo's story: one function per chapter, in the order in which they are told."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import msgspec

from edgesdk.clock import SystemClock, rfc3339
from edgesdk.demo import assets
from edgesdk.demo.facts import Facts, Moment, Refusal, Rollout, Variant
from edgesdk.demo.processes import Programs
from edgesdk.demo.scene import DEVICES, MODEL, Scene, read_calls, read_lines, read_moments
from edgesdk.errors import DeploymentError

HOST_TARGETS = {"x86_64": "linux-x86_64-cpu", "aarch64": "linux-arm64-cpu"}
ENDS = {"committed", "refused", "failed", "rolled_back"}
FLUSH_SECONDS = 20.0

TITLES = {
    "1.0.0": "the first release, int8",
    "2.0.0": "a better model, int8",
    "3.0.0": "trained on permuted labels; its golden set was made from its own answers",
    "4.0.0": "passes every golden set; NaN on forceful movements",
}
EXPECTED = {"1.0.0": "committed", "2.0.0": "committed", "3.0.0": "failed", "4.0.0": "rolled_back"}
POLICY = """# How the demo's devices try a release: short, so that the demo is.
[trial]
min_seconds = 3.0
max_seconds = 90.0
min_calls = 150
max_bad_rate = 0.001
slow_ms = {slow_ms:.2f}
max_slow_rate = 0.95 # slow calls are counted and shown here, no more
max_slowdown = 20.0 # as is how much longer a call of 4.0.0 (float) takes than one of 2.0.0 (int8)
"""
SLOW_FACTOR = 1.4
FIRST_SLOW_MS = 50.0


class Teller(Protocol):
    """Who tells the story as it happens."""

    def chapter(self, title: str) -> None:
        """Begin a chapter."""
        ...

    def doing(self, what: str) -> None:
        """Say what is being done now."""
        ...

    def done(self, what: str) -> None:
        """Say what has come of it."""
        ...


@dataclass(kw_only=True)
class Story:
    """Tells the story once, in `folder`."""

    folder: Path
    teller: Teller
    programs: Programs
    broker: str = "auto"
    started: float = field(default_factory=time.monotonic)
    variants: list[Variant] = field(default_factory=list)
    rollouts: list[Rollout] = field(default_factory=list)
    origin: float = 0.0
    slow_ms: float = FIRST_SLOW_MS

    def tell(self) -> Facts:
        """Tell all of it.

        Returns:
            What was seen.

        Raises:
            EdgeError: If something did not go as the story says.
        """
        began = rfc3339(SystemClock().now())
        scene = Scene(folder=self.folder, programs=self.programs)
        self.teller.chapter("Convert, measure, refuse")
        self.prepare_data()
        refusal = self.refuse_bad_recipe()
        for release in TITLES:
            self.convert(release)
        self.teller.chapter("Sign, publish, enrol")
        self.publish_and_enrol(scene)
        self.teller.chapter("Roll out")
        for release in TITLES:
            self.roll_out(scene, release)
        self.wait_for_telemetry(scene)
        return self.gather(scene, refusal, began)

    # ---- chapter 1 --------------------------------------------------------------------------------------------------

    def prepare_data(self) -> None:
        """Write the data sets of the wearable example."""
        self.teller.doing("reading 140 smartwatch recordings")
        self.programs.run(str(assets.wearable() / "dataset.py"), str(self.data), module="")
        relabel, v3 = str(assets.wearable() / "relabel.py"), str(assets.wearable() / "models" / "v3.onnx")
        for name in ("truth", "evaluation"):
            own = str(self.data / f"{name}-own-answers.npz")
            self.programs.run(relabel, v3, str(self.data / f"{name}.npz"), own, module="")
        self.teller.done("data: 10 subjects, 7 exercises; subjects 8-10 were held out of every training")

    def refuse_bad_recipe(self) -> Refusal:
        """Convert by a recipe that is known to be bad, and be refused with the cause.

        Raises:
            DeploymentError: If it was not refused.
        """
        self.teller.doing("converting v1 by a recipe that goes wrong on older x86 processors")
        done = self.programs.run(
            "convert", str(assets.wearable() / "models" / "v1.onnx"), *self._common("1.0.0"), "--truth",
            str(self.data / "truth.npz"), "--evaluation", str(self.data / "evaluation.npz"),
            "--target", "linux-x86_64-cpu", "--recipe", "int8-per-channel-fast", "--format", "onnx",
            "-o", str(self.folder / "refused"), "--json", check=False,
        )  # fmt: skip
        error = done.error
        if error["code"] != "accuracy-gate":
            raise DeploymentError("worker-failed", f"the bad recipe was not refused by the gate: {error['message']}")
        self.teller.done(f"refused [{error['code']}]: {error['message']}")
        return Refusal(
            what="v1 by the recipe int8-per-channel-fast (8-bit weights per channel, ONNX Runtime's default session)",
            **error,
        )

    def convert(self, release: str) -> None:
        """Convert one release for this machine's target and for arm64, as TFLite and as ONNX."""
        self.teller.doing(f"converting {release}: {TITLES[release]}")
        source = assets.wearable() / "models" / f"v{release[0]}"
        good = release < "3"
        labels = "-own-answers" if release == "3.0.0" else ""
        truth, evaluation = (self.data / f"{name}{labels}.npz" for name in ("truth", "evaluation"))
        targets = ("linux-x86_64-cpu", "linux-arm64-cpu") if good else (_host_target(),)
        done = self.programs.run(
            "convert", f"{source}.tflite", f"{source}.onnx", *self._common(release),
            "--truth", str(truth), "--evaluation", str(evaluation),
            *(word for target in targets for word in ("--target", target)),
            # Its labels are its own answers: every answer that int8 changes is a loss.
            *(("--max-drop", "0.02") if release == "3.0.0" else ()),
            "--recipe", "float" if release == "4.0.0" else "int8", "-o", str(self.release_folder(release)), "--json",
        )  # fmt: skip
        report = msgspec.json.decode((self.release_folder(release) / "report.json").read_bytes())
        found = [_variant(release, variant, report["contract"]["labels"]) for variant in report["variants"]]
        self.variants += found
        shown = "  ".join(
            f"{v.precision} {v.variant}: {v.accuracy:.3f} (float {v.source_accuracy:.3f})" for v in found[:2]
        )
        del done
        self.teller.done(f"{release}: {len(found)} variants, {shown}")

    # ---- chapter 2 --------------------------------------------------------------------------------------------------

    def publish_and_enrol(self, scene: Scene) -> None:
        """Sign and publish everything, start the hub, enrol the devices, start their apps."""
        self.teller.doing("making keys and a TUF repository")
        scene.open_repository()
        for release in TITLES:
            scene.publish(self.release_folder(release))
        self.teller.done(f"published {', '.join(TITLES)}: all four are correctly signed")
        self.teller.doing("starting the hub")
        scene.start_hub(self.broker)
        self.teller.done(f"hub {scene.hub['url']}, broker {scene.broker}")
        for name in DEVICES:
            self.teller.doing(f"enrolling a device that has {DEVICES[name]}")
            device = scene.enrol(name)
            scene.start_app(device, self.data / "replay.npz")
            self.teller.done(f"device {device.id}: {device.runtime}; its app waits for a model")

    # ---- chapter 3 --------------------------------------------------------------------------------------------------

    def roll_out(self, scene: Scene, release: str) -> None:
        """Deploy one release to both devices and watch what they make of it.

        Raises:
            DeploymentError: ``worker-failed`` if a device ended in another state than the story says.
        """
        policy = self.folder / "trial.toml"
        policy.write_text(POLICY.format(slow_ms=self.slow_ms))
        self.teller.doing(f"deploying {release}")
        started = time.time()
        self.origin = self.origin or started
        seen = scene.settle(scene.deploy(release, policy))
        moments = self.moments_of(scene, release)
        ended = max((moment.at for moment in moments if moment.state in ENDS), default=time.time() - self.origin)
        self.rollouts.append(
            Rollout(
                release=release,
                title=TITLES[release],
                outcome=seen["state"],
                started=started - self.origin,
                ended=ended,
                moments=tuple(moments),
                bytes_moved=sum(int(moment.evidence.get("received_bytes", 0)) for moment in moments),
                reason=seen.get("reason") or "",
            )
        )
        ends = {moment.device: moment for moment in moments if moment.state in ENDS}
        self.teller.done(f"{release} {seen['state']}: " + "; ".join(_ending(end) for end in ends.values()))
        if release == "1.0.0":
            self.budget_latency(scene)
        wrong = [name for name, end in ends.items() if end.state != EXPECTED[release]]
        if wrong:
            raise DeploymentError(
                "worker-failed", f"{release} should have ended as {EXPECTED[release]} on {', '.join(wrong)}",
                hint=f"See {self.folder}/logs.",
            )  # fmt: skip

    def budget_latency(self, scene: Scene) -> None:
        """Let slow mean slower than the first release usually is on this machine."""
        times = sorted(
            call.ms for device in scene.devices for call in read_calls(device, self.origin) if not call.failed
        )
        self.slow_ms = SLOW_FACTOR * times[len(times) // 2]

    def moments_of(self, scene: Scene, release: str) -> list[Moment]:
        """Return the devices' moments of one release, once those of every device that took part have arrived."""
        deadline = time.monotonic() + FLUSH_SECONDS
        while True:
            moments = [moment for moment in read_moments(scene, self.origin) if moment.release == release]
            begun = {moment.device for moment in moments}
            ended = {moment.device for moment in moments if moment.state in ENDS}
            if len(ended) == len(scene.devices) or (time.monotonic() > deadline and begun == ended):
                return moments
            if time.monotonic() > deadline + FLUSH_SECONDS:
                return moments
            time.sleep(0.2)

    def wait_for_telemetry(self, scene: Scene) -> None:
        """Let the good release serve on until telemetry tells of it again."""
        self.teller.doing("waiting for the devices' next telemetry")
        before = len(_records(scene))
        deadline = time.monotonic() + FLUSH_SECONDS
        while len(_records(scene)) < before + len(scene.devices) and time.monotonic() < deadline:
            time.sleep(0.2)
        self.teller.done(f"{len(_records(scene))} telemetry records over MQTT")

    # ---- the end ----------------------------------------------------------------------------------------------------

    def gather(self, scene: Scene, refusal: Refusal, began: str) -> Facts:
        """Put together what was seen."""
        counts: Counter[str] = Counter()
        slow: Counter[str] = Counter()
        for record in _records(scene):
            for model in record.get("models", ()):
                counts[model["release"]] += model["calls"]
                slow[model["release"]] += model.get("slow", 0)
        return Facts(
            edgesdk=version("edgesdk"),
            machine=f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
            started=began,
            seconds=time.monotonic() - self.started,
            devices={device.name: device.runtime for device in scene.devices},
            variants=tuple(self.variants),
            refusal=refusal,
            rollouts=tuple(self.rollouts),
            calls=tuple(call for device in scene.devices for call in read_calls(device, self.origin)),
            moments=tuple(read_moments(scene, self.origin)),
            slow_ms=self.slow_ms,
            slow_calls=dict(slow),
            telemetry_records=len(_records(scene)),
            telemetry_releases=dict(counts),
            explore=_explore(self.folder, scene),
        )

    @property
    def data(self) -> Path:
        """Where the data sets lie."""
        return self.folder / "data"

    def release_folder(self, release: str) -> Path:
        """Where a converted release lies."""
        return self.folder / "releases" / f"{MODEL}-{release}"

    def _common(self, release: str) -> tuple[str, ...]:
        contract = str(assets.wearable() / "contract.toml")
        calibration = str(self.data / "calibration.npz")
        return ("--name", MODEL, "--release", release, "--contract", contract, "--calibration", calibration)


def _host_target() -> str:
    return HOST_TARGETS.get(platform.machine(), "linux-x86_64-cpu")


def _variant(release: str, entry: dict[str, Any], labels: list[str]) -> Variant:
    evaluation = entry["evaluation"]
    return Variant(
        release=release,
        variant=entry["variant"],
        target=entry["target"],
        precision=entry.get("precision", "float32"),
        size=entry["artifact_size"],
        source_size=entry["source_size"],
        accuracy=evaluation["value"],
        source_accuracy=evaluation["source_value"],
        difference=evaluation["difference"],
        interval=tuple(evaluation["interval"]),
        confidence=evaluation["confidence"],
        samples=evaluation["samples"],
        runtime=evaluation["runtime"],
        on_target=evaluation["on_target"],
        details={"labels": labels, **evaluation["details"]["artifact"]},
    )


def _ending(moment: Moment) -> str:
    reason = f" ({moment.reason})" if moment.reason else ""
    return f"{moment.device} {moment.state.replace('_', ' ')}{reason}"


def _records(scene: Scene) -> list[dict[str, Any]]:
    return [line for line in read_lines(scene.telemetry) if line["type"] == "telemetry"]


def _explore(folder: Path, scene: Scene) -> tuple[str, ...]:
    edge = Path(sys.executable).with_name("edge")
    program = str(edge) if edge.exists() and shutil.which("edge") is None else "edge"
    device = scene.devices[0]
    return (
        f"{program} hub start {folder}/hub --repo {folder}/repo",
        f"{program}-agent run --config {device.folder}/agent.toml",
        f"{program}-agent status --config {device.folder}/agent.toml",
        f"{program} fleet devices --dir {folder}/hub",
        f"{program} fleet deploy {MODEL} 2.0.0 --all --dir {folder}/hub",
        f"{program} telemetry watch --broker {scene.broker}",
        f"{program} release show {folder}/releases/{MODEL}-2.0.0",
        f"{program} bundle inspect {folder}/releases/{MODEL}-2.0.0/*.edge",
    )
