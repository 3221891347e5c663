"""What a stranger's tool sees on a real Mosquitto follows the documented schema."""

import json
import os
import shutil
import subprocess

import jsonschema
import pytest
import yaml

from edgesdk.protocol import messages, topics
from edgesdk.telemetry.sketches import DDSketch

PATIENCE_S = 20


@pytest.mark.mosquitto
@pytest.mark.skipif(
    shutil.which("mosquitto_sub") is None and not os.environ.get("CI"),
    reason="the Debian package mosquitto-clients is not installed",
)
def test_mosquitto_sub_shows_telemetry_that_follows_the_schema(mosquitto, connect, repository_root):
    """A record that went through link and broker, read by `mosquitto_sub`, validates against docs/asyncapi.yaml."""
    sketch = DDSketch()
    sketch.add(1.5, count=3)
    record = messages.Record(
        schema=messages.TELEMETRY_SCHEMA, device="dev1", fleet="f", run="r", seq=0, ts="2026-11-23T10:00:00.000Z",
        mono_ms=1,
        models=(
            messages.ModelTelemetry(
                model="wearable", generation="a" * 64, release="1.0.0", slot="good", app="a", calls=3,
                latency_ms={"total": sketch.to_dict()},
            ),
        ),
    )  # fmt: skip
    topic = topics.up("f", "dev1", "telemetry")
    command = ["mosquitto_sub", "-V", "5", "-p", str(mosquitto.port), "-u", "subscriber", "-t", topic, "-C", "1"]
    subscriber = subprocess.Popen(command, stdout=subprocess.PIPE)
    device = connect(mosquitto, "dev1")
    # reason 16 says that nobody has subscribed yet
    while device.publish(topic, messages.encode(record)).wait(PATIENCE_S) == 16:
        assert subscriber.poll() is None
    seen = json.loads(subscriber.communicate(timeout=PATIENCE_S)[0])
    components = yaml.safe_load((repository_root / "docs" / "asyncapi.yaml").read_text())["components"]
    schema = {"$ref": "#/components/schemas/Record", "components": components}
    jsonschema.Draft202012Validator(schema).validate(seen)
    assert DDSketch.from_dict(seen["models"][0]["latency_ms"]["total"]).count == 3
