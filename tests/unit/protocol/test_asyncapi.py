"""docs/asyncapi.yaml is what the types say, is sound as AsyncAPI 3, and its schemas accept what we send and no more."""

from __future__ import annotations

import importlib.util
import json

import jsonschema
import msgspec
import pytest
import yaml

from edgesdk.errors import LinkError
from edgesdk.protocol import messages, topics

SHA = "a" * 64
SIGNED = {"payload": "e30=", "payloadType": messages.STATEMENT_TYPE, "signatures": [{"keyid": "k", "sig": "AA=="}]}
ENVELOPE = {"device": "dev1", "fleet": "f"}
SEQUENCED = {**ENVELOPE, "run": "r", "seq": 1, "ts": "2026-11-23T10:00:00.000Z", "mono_ms": 5}
TELEMETRY = messages.ModelTelemetry(model="m", generation=SHA, release="1.0.0", slot="good", app="a", calls=1)
EXAMPLES = {
    "presence": messages.Presence(**ENVELOPE, online=True, run="r", ts="t"),
    "state": messages.StateReport(**ENVELOPE, statements={"wearable": SIGNED}),
    "telemetry": messages.Record(schema=messages.TELEMETRY_SCHEMA, **SEQUENCED, models=(TELEMETRY,)),
    "event": messages.Event(schema=messages.EVENT_SCHEMA, **SEQUENCED, state="trial", statement=SIGNED),
    "reply": messages.Reply(**ENVELOPE, id="12345678", ok=False, ts="t", reason=messages.Reason(code="disk-full")),
}
DOCUMENTS = {
    "Desired": messages.Desired(
        fleet="f", device="dev1", serial=7, issued_at="t", min_tuf=messages.MinTuf(root=1, timestamp=2),
        models={"wearable": messages.DesiredModel(release="1.0.0", deployment="d")},
    ),
    "Command": messages.Command(fleet="f", device="_all", id="12345678", name="ping", issued_at="t", expires_at="t"),
    "Statement": messages.Statement(
        **ENVELOPE, enrolment="e", model="m", deployment="d", serial=0, release=None, generation=None, state="idle",
        good=None, good_release=None, serving="none", counter=1, run="r", boot="b", ts="t", time_floor="t",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def renderer(repository_root):
    spec = importlib.util.spec_from_file_location("render_asyncapi", repository_root / "docs" / "render_asyncapi.py")
    module = importlib.util.module_from_spec(spec)
    import sys  # noqa: PLC0415 - dataclasses look their module up

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


@pytest.fixture(scope="module")
def api(repository_root):
    return yaml.safe_load((repository_root / "docs" / "asyncapi.yaml").read_text())


def resolve(api, reference):
    assert reference.startswith("#/")
    node = api
    for part in reference[2:].split("/"):
        node = node[part]
    return node


def references(node):
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def validator(api, name):
    """Return a validator for one component; the whole document is the schema, so that references resolve."""
    return jsonschema.Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": api["components"]})


def plain(message):
    return json.loads(msgspec.json.encode(message))


def test_the_file_is_what_the_types_say(renderer, repository_root):
    """Whoever changes a message renders the file again."""
    assert (repository_root / "docs" / "asyncapi.yaml").read_text() == renderer.render()


def test_the_document_is_sound_as_asyncapi_3(api):
    """Version, required parts, references that lead somewhere, parameters that are the address's, one message each."""
    assert api["asyncapi"] == "3.0.0"
    assert set(api) <= {
        "asyncapi",
        "id",
        "info",
        "servers",
        "defaultContentType",
        "channels",
        "operations",
        "components",
    }
    assert {"title", "version"} <= set(api["info"])
    assert all({"host", "protocol"} <= set(server) for server in api["servers"].values())
    for reference in references(api):
        resolve(api, reference)
    for channel in api["channels"].values():
        named = {part[1:-1] for part in channel["address"].split("/") if part.startswith("{")}
        assert set(channel["parameters"]) == named
        assert len(channel["messages"]) == 1
    used = [operation["channel"]["$ref"].rsplit("/", 1)[1] for operation in api["operations"].values()]
    assert sorted(used) == sorted(api["channels"])
    for operation in api["operations"].values():
        address = resolve(api, operation["channel"]["$ref"])["address"]
        assert operation["action"] == ("send" if "/up/" in address else "receive")
        assert operation["bindings"]["mqtt"]["qos"] == 1
        (message,) = operation["messages"]
        assert message["$ref"].startswith(operation["channel"]["$ref"] + "/messages/")


def test_every_topic_of_the_protocol_is_documented(api):
    """The channels are the topics that `topics.parse` knows, and the one to all."""
    addresses = {channel["address"] for channel in api["channels"].values()}
    expected = {topics.up("{fleet}", "{device}", channel) for channel in topics.UP}
    expected |= {topics.down("{fleet}", "{device}", channel) for channel in topics.DOWN}
    assert addresses == expected | {topics.down("{fleet}", topics.ALL, "cmd")}
    for address in addresses:
        assert topics.parse(address.format(fleet="f", device="d")) is not None


def test_every_schema_is_a_schema(api):
    """Each component is valid JSON Schema (2020-12)."""
    for schema in api["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("channel", sorted(EXAMPLES))
def test_what_a_device_sends_follows_its_schema(api, channel):
    """An encoded message validates against its channel's schema, and one without its device does not."""
    name = api["components"]["messages"][channel]["payload"]["$ref"].rsplit("/", 1)[1]
    check = validator(api, name)
    data = plain(EXAMPLES[channel])
    check.validate(data)
    del data["device"]
    assert not check.is_valid(data)


@pytest.mark.parametrize("name", sorted(DOCUMENTS))
def test_signed_documents_follow_their_schema(api, name):
    """What is inside an envelope validates; what goes down refuses an unknown field, what goes up ignores it."""
    check = validator(api, name)
    data = plain(DOCUMENTS[name])
    check.validate(data)
    assert check.is_valid({**data, "new": 1}) == (name == "Statement")
    for device in ("UPPER", "dev1\n", ""):
        assert not check.is_valid({**data, "device": device})
        with pytest.raises(LinkError):
            messages.decode(json.dumps({**data, "device": device}).encode(), type(DOCUMENTS[name]))


def test_envelopes_follow_their_schema(api):
    """A DSSE envelope validates; without signatures it does not."""
    check = validator(api, "DSSE")
    check.validate(SIGNED)
    assert not check.is_valid({**SIGNED, "signatures": []})
