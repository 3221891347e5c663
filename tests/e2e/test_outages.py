"""What an update and its evidence depend on goes away and comes back: broker, hub, repository, the agent itself."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections import defaultdict

import jsonschema
import pytest
import yaml
from e2e_proxy import Proxy
from e2e_world import PATIENCE_S, Program, wait_for

from edgesdk.fleet.broker import start_mosquitto
from edgesdk.telemetry import subscribe

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

SLOW_DOWNLOAD = "bytes_per_second = 150000"
"""A bundle of about 900 kB then takes some seconds, in which things can go away."""


class Listener:
    """A subscriber whose session outlives its connection: what it was not given yet waits for it at the broker."""

    def __init__(self, broker: str) -> None:
        self.records = []
        self.events = []
        self.gaps = []
        self._subscription = subscribe(broker, client_id="subscriber-e2e", session_expiry=3600)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self):
        for item in self._subscription:
            kind = {"Record": self.records, "Event": self.events}.get(type(item).__name__, self.gaps)
            kind.append(item)

    def close(self):
        self._subscription.close()
        self._thread.join(PATIENCE_S)

    def runs(self):
        """The runs of the agent that telemetry came from, in the order in which it came."""
        return list(dict.fromkeys(record.run for record in self.records))

    def missing(self):
        """What is missing below the highest number that came; each run counts from 1 on each channel."""
        seen = defaultdict(set)
        for channel, items in (("telemetry", self.records), ("event", self.events)):
            for item in items:
                seen[item.device, item.run, channel].add(item.seq)
        return {key: sorted(set(range(1, max(found) + 1)) - found) for key, found in seen.items()}

    def wait_complete(self):
        """Wait until every number has come."""
        try:
            wait_for(lambda: not any(self.missing().values()), "every number")
        except AssertionError:
            pytest.fail(f"missing: {self.missing()}; gaps that were announced: {self.gaps}")


@pytest.mark.mosquitto
def test_broker_killed_in_a_rollout(site, tmp_path):
    """Mosquitto dies by SIGKILL: the device goes on, and what it measured comes later, all of it."""
    broker = start_mosquitto(tmp_path / "broker")
    site.start_hub("--broker", f"mqtt://127.0.0.1:{broker.port}")
    device = site.device(download=SLOW_DOWNLOAD)
    listener = Listener(site.broker)
    device.start()
    app = device.start_app()
    site.roll_out("1.0.0")
    wait_for(lambda: listener.records, "telemetry")
    rollout = site.deploy("2.0.0")
    device.agent.wait_line(r"wearable 2\.0\.0: downloading")
    broker.kill()
    device.agent.wait_line(r"wearable 2\.0\.0: committed")
    wait_for(lambda: device.look()["agent"]["outbox"]["waiting"] >= 4, "stored telemetry")
    again = start_mosquitto(tmp_path / "broker", port=broker.port)
    try:
        site.watch(rollout)
        app.wait_answer("2.0.0")
        wait_for(lambda: any(record.historical for record in listener.records), "historical telemetry")
        newest = listener.records[-1].seq
        wait_for(lambda: any(r.seq > newest and not r.historical for r in listener.records), "live telemetry")
        listener.wait_complete()
        assert app.failures() == []
        listener.close()
    finally:
        site.close()
        again.stop()


def test_agent_away_for_a_while(site):
    """The broker cannot be reached while the agent is killed and started: both runs' telemetry arrives in the end."""
    site.start_hub("--broker", "devbroker")
    device = site.device()
    listener = Listener(site.broker)
    device.start()
    app = device.start_app()
    site.roll_out("1.0.0")
    wait_for(lambda: listener.records, "telemetry")
    first = listener.records[0].run
    device.agent.kill()
    app.wait_answer("1.0.0")
    device.configure(link='broker = "mqtt://127.0.0.1:9"')
    device.start()
    wait_for(lambda: device.look()["agent"]["outbox"]["waiting"] >= 3, "stored telemetry")
    assert not device.look()["agent"]["online"]
    device.agent.kill()
    device.configure()
    device.start()
    runs = wait_for(lambda: len(runs := listener.runs()) == 3 and runs, "the telemetry of all three runs")
    assert runs[0] == first
    offline = runs[1]
    listener.wait_complete()
    stored = [record for record in listener.records if record.run == offline]
    assert stored
    assert all(record.historical for record in stored)
    assert sum(model.calls for record in stored for model in record.models) > 0
    assert (app.failures(), listener.gaps) == ([], [])
    listener.close()


def test_hub_killed_in_a_rollout(site):
    """The hub dies by SIGKILL in a rollout: the next hub on its folder hears the device out and ends the rollout."""
    site.start_hub()
    device = site.device(download=SLOW_DOWNLOAD)
    device.start()
    app = device.start_app()
    site.roll_out("1.0.0")
    rollout = site.deploy("2.0.0")
    _wait_received(device, 200_000)
    site.hub.kill()
    app.wait_answer_by_anyone()
    site.start_hub()
    site.watch(rollout)
    app.wait_answer("2.0.0")
    assert app.failures() == []


def test_repository_gone_in_a_download(site):
    """The line to the repository is cut in a bundle and stays so: what came is kept, and only the rest is fetched."""
    said = site.start_hub("--broker", "devbroker")
    proxy = Proxy(int(said["url"].rpartition(":")[2]))
    device = site.device(link=f'repository = "http://127.0.0.1:{proxy.port}/repo/"')
    device.start()
    app = device.start_app()
    proxy.cut_after(400_000)
    rollout = site.deploy("1.0.0")
    device.agent.wait_line(r"wearable 1\.0\.0: failed \((download-cut|http-failed)")
    (partial,) = (path for path in (device.root / "state" / "downloads").iterdir() if path.suffix != ".json")
    kept = partial.stat().st_size
    assert (proxy.cut, 300_000 < kept < 400_000) == (1, True)
    (bundle,) = (site.repo / "targets" / "models" / "wearable" / "1.0.0").glob("*tflite*.edge")
    carried = proxy.carried
    proxy.mend()
    site.watch(rollout)
    app.wait_answer("1.0.0")
    rest = bundle.stat().st_size - kept  # the anchor set is a copy of this bundle, and does not come again
    assert rest <= proxy.carried - carried < rest + 200_000  # and small metadata
    assert app.failures() == []
    proxy.close()


def test_download_is_resumed_after_a_kill(site):
    """The agent is killed while it downloads: the next run begins where the bytes on the disk end."""
    site.start_hub("--broker", "devbroker")
    device = site.device(download=SLOW_DOWNLOAD)
    device.start()
    app = device.start_app()
    rollout = site.deploy("1.0.0")
    received = _wait_received(device, 300_000)
    device.agent.kill()
    (partial,) = (path for path in (device.root / "state" / "downloads").iterdir() if path.suffix != ".json")
    kept = partial.read_bytes()
    assert len(kept) >= received
    device.start()
    wait_for(lambda: not partial.exists() or partial.stat().st_size > len(kept), "further bytes")
    if partial.exists():
        assert partial.read_bytes().startswith(kept)
        assert partial.stat().st_size > len(kept)
    site.watch(rollout)
    app.wait_answer("1.0.0")
    assert app.failures() == []


def _wait_received(device, least):
    """Wait until so many bytes of a download are on the disk; return how many."""
    downloads = device.root / "state" / "downloads"

    def received():
        sizes = [path.stat().st_size for path in downloads.iterdir() if path.suffix != ".json"]
        return sizes and sizes[0] >= least and sizes[0]

    return wait_for(received, f"{least} bytes")


@pytest.mark.mosquitto
@pytest.mark.skipif(
    shutil.which("mosquitto_sub") is None and not os.environ.get("CI"),
    reason="the Debian package mosquitto-clients is not installed",
)
def test_mosquitto_sub_shows_what_is_documented(site, repository_root):
    """Everything that a device says of itself, read by `mosquitto_sub`, validates against docs/asyncapi.yaml."""
    said = site.start_hub("--broker", "mosquitto")
    port = said["broker"].rpartition(":")[2]
    topics = [word for channel in ("telemetry", "event") for word in ("-t", f"edge/v1/+/+/up/{channel}")]
    # it flushes what it was sent, but not that its subscription was granted
    words = (
        "stdbuf",
        "-oL",
        "mosquitto_sub",
        "-V",
        "5",
        "-q",
        "1",
        "-p",
        port,
        "-u",
        "subscriber",
        "-d",
        "-v",
        *topics,
    )
    subscriber = Program(*words)
    site.running.append(subscriber)
    subscriber.wait_line("^Subscribed")
    device = site.device()
    device.start()
    device.start_app()
    site.roll_out("1.0.0")
    wait_for(lambda: _committed(subscriber) and _counted(subscriber) > 20, "the commit and the calls in telemetry")
    components = yaml.safe_load((repository_root / "docs" / "asyncapi.yaml").read_text())["components"]
    checks = {
        channel: jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": components})
        for channel, name in (("telemetry", "Record"), ("event", "Event"))
    }
    for channel, check in checks.items():
        for message in _messages(subscriber, channel):
            check.validate(message)
            assert (message["fleet"], message["device"]) == ("lab", device.id)
    stated = [message for message in _messages(subscriber, "event") if message.get("kind", "state") == "state"]
    states = [message["state"] for message in stated]
    assert states == ["offered", "downloading", "verified", "staged", "testing", "trial", "committed"]


def _messages(subscriber, channel):
    """What `mosquitto_sub -v` printed for a channel: ``TOPIC MESSAGE`` a line."""
    lines = [line.split(" ", 1) for line in list(subscriber.lines) if line.startswith("edge/v1/")]
    return [json.loads(message) for topic, message in lines if topic.endswith(f"/up/{channel}")]


def _committed(subscriber):
    return any(message.get("state") == "committed" for message in _messages(subscriber, "event"))


def _counted(subscriber):
    records = _messages(subscriber, "telemetry")
    return sum(model["calls"] for record in records for model in record.get("models", ()))
