"""Print docs/asyncapi.yaml from the message types: `python docs/render_asyncapi.py > docs/asyncapi.yaml`.

AsyncAPI 3.0, told from the device's side: it *sends* `up` and *receives* `down`.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
import yaml

from edgesdk.protocol import messages, topics

HEAD = "# Rendered by docs/render_asyncapi.py from edgesdk/protocol; do not edit.\n"
DESCRIPTION = """\
What devices and hubs of a fleet say to each other over MQTT 5. See docs/protocol.md for what it means.
QoS 1 everywhere; payloads are JSON of at most 128 KiB. Signed documents travel in DSSE envelopes, whose `payload` is
the document in base64 and whose `payloadType` names its kind."""
TYPES: tuple[type[msgspec.Struct], ...] = (
    messages.Presence, messages.StateReport, messages.Record, messages.Event, messages.Reply, messages.Desired,
    messages.Command, messages.Statement,
)  # fmt: skip


@dataclass(frozen=True)
class Channel:
    """One row of the table of topics.

    Attributes:
        name: Of the channel and of its message.
        address: Topic with parameters in braces.
        schema: What the payload is; `DSSE` for an envelope.
        summary: What it is for.
        retain: Whether the broker keeps the last one.
        document: The signed type inside an envelope.
        expires: Whether messages carry an expiry.
    """

    name: str
    address: str
    schema: str
    summary: str
    retain: bool = False
    document: tuple[str, str] | None = None
    expires: bool = False

    @property
    def action(self) -> Literal["send", "receive"]:
        """From the device's side."""
        return "send" if "/up/" in self.address else "receive"


def _up(name: topics.Up, schema: str, summary: str, *, retain: bool = False) -> Channel:
    return Channel(name, topics.up("{fleet}", "{device}", name), schema, summary, retain)


CHANNELS = (
    _up("presence", "Presence", "Online or not; the last will says offline after a delay.", retain=True),
    _up("state", "StateReport", "The latest signed statement of each model.", retain=True),
    _up("telemetry", "Record", "What was counted in one interval, through the outbox."),
    _up("event", "Event", "State changes with their signed statements, errors and alarms, through the outbox."),
    _up("reply", "Reply", "The answer to a command, with its correlation data and its id."),
    Channel(
        "desired", topics.down("{fleet}", "{device}", "desired"), "DSSE", "The truth of what should run.",
        retain=True, document=("Desired", messages.DESIRED_TYPE),
    ),
    Channel(
        "cmd", topics.down("{fleet}", "{device}", "cmd"), "DSSE", "A command to one device; only for immediacy.",
        document=("Command", messages.COMMAND_TYPE), expires=True,
    ),
    Channel(
        "cmdAll", topics.down("{fleet}", topics.ALL, "cmd"), "DSSE", "A nudge to every device: ping, deploy-now.",
        document=("Command", messages.COMMAND_TYPE), expires=True,
    ),
)  # fmt: skip
DSSE = {
    "title": "DSSE",
    "description": "A signed document (Dead Simple Signing Envelope 1.0).",
    "type": "object",
    "required": ["payload", "payloadType", "signatures"],
    "properties": {
        "payload": {"type": "string", "contentEncoding": "base64"},
        "payloadType": {
            "type": "string",
            "enum": [messages.DESIRED_TYPE, messages.COMMAND_TYPE, messages.STATEMENT_TYPE],
        },
        "signatures": {
            "type": "array",
            "minItems": 1,
            "maxItems": 32,
            "items": {
                "type": "object",
                "required": ["keyid", "sig"],
                "properties": {
                    "keyid": {"type": "string", "maxLength": 128},
                    "sig": {"type": "string", "contentEncoding": "base64", "maxLength": 1024},
                },
            },
        },
    },
}


def schemas() -> dict[str, Any]:
    """Return the JSON schema of every message type, by name."""
    _, components = msgspec.json.schema_components(TYPES, ref_template="#/components/schemas/{name}")
    for schema in components.values():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
    return {name: components[name] for name in sorted(components)} | {"DSSE": DSSE}


def document() -> dict[str, Any]:
    """Return the whole AsyncAPI document as plain data."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "edgesdk protocol",
            "version": "1.0.0",
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "url": "https://www.apache.org/licenses/LICENSE-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "fleet": {
                "host": "broker.example:8883",
                "protocol": "secure-mqtt",
                "protocolVersion": "5.0",
                "description": "Mutual TLS: the certificate's CN is the client id and the user name.",
                "security": [{"$ref": "#/components/securitySchemes/certificate"}],
            }
        },
        "channels": {channel.name: _channel(channel) for channel in CHANNELS},
        "operations": {_operation_name(channel): _operation(channel) for channel in CHANNELS},
        "components": {
            "parameters": {
                "fleet": {"description": "Fleet id, [a-z0-9-]{1,64}."},
                "device": {"description": "Device id, [a-z0-9-]{1,64}; also client id and certificate CN."},
            },
            "securitySchemes": {"certificate": {"type": "X509"}},
            "messages": {channel.name: _message(channel) for channel in CHANNELS},
            "schemas": schemas(),
        },
    }


def _channel(channel: Channel) -> dict[str, Any]:
    names = [name for name in ("fleet", "device") if f"{{{name}}}" in channel.address]
    return {
        "address": channel.address,
        "description": channel.summary,
        "parameters": {name: {"$ref": f"#/components/parameters/{name}"} for name in names},
        "messages": {channel.name: {"$ref": f"#/components/messages/{channel.name}"}},
    }


def _operation_name(channel: Channel) -> str:
    return channel.action + channel.name[0].upper() + channel.name[1:]


def _operation(channel: Channel) -> dict[str, Any]:
    mqtt: dict[str, Any] = {"qos": 1, "retain": channel.retain, "bindingVersion": "0.2.0"}
    if channel.expires:
        mqtt["messageExpiryInterval"] = {"type": "integer", "minimum": 1}
    return {
        "action": channel.action,
        "channel": {"$ref": f"#/channels/{channel.name}"},
        "summary": channel.summary,
        "messages": [{"$ref": f"#/channels/{channel.name}/messages/{channel.name}"}],
        "bindings": {"mqtt": mqtt},
    }


def _message(channel: Channel) -> dict[str, Any]:
    message: dict[str, Any] = {
        "name": channel.name,
        "summary": channel.summary,
        "contentType": "application/json",
        "payload": {"$ref": f"#/components/schemas/{channel.schema}"},
    }
    if channel.document is not None:
        name, kind = channel.document
        message["x-document"] = {"payloadType": kind, "schema": {"$ref": f"#/components/schemas/{name}"}}
    return message


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, and everything in full where it stands."""

    def ignore_aliases(self, data: Any) -> bool:
        del data
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)


def render() -> str:
    """Return docs/asyncapi.yaml."""
    return HEAD + yaml.dump(document(), Dumper=_Dumper, sort_keys=False, width=110, allow_unicode=True)


if __name__ == "__main__":
    print(render(), end="")
