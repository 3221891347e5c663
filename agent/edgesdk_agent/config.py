"""The agent's configuration: `/etc/edge-agent/agent.toml`, then ``EDGE_AGENT_…`` in the environment.

Every key has a default, so that no file is needed. A key that is not known is an error that names the nearest one: a
typo must not silently leave a default in force. The key ``telemetry.interval_seconds`` is called
``EDGE_AGENT_TELEMETRY_INTERVAL_SECONDS`` in the environment.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from edgesdk.errors import ConfigError

DEFAULT_FILE = Path("/etc/edge-agent/agent.toml")
DEFAULT_ROOT = "/var/lib/edge-agent"
PREFIX = "EDGE_AGENT_"
RESERVED = {"EDGE_AGENT_CONFIG"}

Positive = Annotated[float, Meta(gt=0)]
Bytes = Annotated[int, Meta(ge=0)]
TflitePackage = Literal["ai-edge-litert", "tflite-runtime"]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Common behaviour of the sections."""


class TelemetryConfig(_Section, frozen=True, kw_only=True):
    """``[telemetry]``.

    Attributes:
        interval_seconds: One record covers this time.
        bytes_per_day: Cap on records; the next ones of the day are counted as lost. 0: no cap.
        outbox_bytes: Disk that unsent records may take; the oldest are dropped (and reported) beyond it.
        window: Messages in flight to the broker at once.
    """

    interval_seconds: Positive = 60.0
    bytes_per_day: Bytes = 20_000_000
    outbox_bytes: Annotated[int, Meta(ge=65_536)] = 64_000_000
    window: Annotated[int, Meta(ge=1, le=100)] = 50


class DownloadConfig(_Section, frozen=True, kw_only=True):
    """``[download]``.

    Attributes:
        bytes_per_second: Limit on bandwidth; 0: none.
        bytes_per_day: The most that bundles may bring over the network in a day; the rest waits. 0: no limit.
    """

    bytes_per_second: Bytes = 0
    bytes_per_day: Bytes = 0


class StoreConfig(_Section, frozen=True, kw_only=True):
    """``[store]``.

    Attributes:
        disk_budget_bytes: What generations may take together; 0: what the disk has.
        apps_group: Group of the evidence socket, so that apps of other users may send; "": the agent's own.
        apps_uids: Users that may send evidence besides root and the agent's own; empty: whoever may write the socket.
    """

    disk_budget_bytes: Bytes = 0
    apps_group: str = ""
    apps_uids: tuple[Annotated[int, Meta(ge=0)], ...] = ()


class LinkConfig(_Section, frozen=True, kw_only=True):
    """``[link]``.

    Attributes:
        broker: Replaces the broker's address of enrolment, for example ``mqtts://broker.example:8883``; "": keep it.
        repository: Replaces the repository's address of enrolment; "": keep it.
        proxy: Proxy for the repository, ``http://HOST:PORT``; "": what ``HTTPS_PROXY``, ``HTTP_PROXY`` and ``NO_PROXY``
            name.
        poll_seconds: Longest time between two looks at the repository for the accepted desired document.
    """

    broker: str = ""
    repository: str = ""
    proxy: str = ""
    poll_seconds: Positive = 3600.0


class OfflineConfig(_Section, frozen=True, kw_only=True):
    """``[offline]``: what `edge-agent import` may do.

    Attributes:
        activate_without_desired: Deploy the release of a file that holds no signed desired document. Its publisher's
            signatures are checked all the same; who carries the file then chooses among published releases.
    """

    activate_without_desired: bool = False


class MaintenanceConfig(_Section, frozen=True, kw_only=True):
    """``[maintenance]``: when downloads, tests and trials may begin; rollbacks and commits are never kept waiting.

    Attributes:
        windows: Like ``"Mon-Fri 22:00-05:00 Europe/Berlin"`` (see `edgesdk_agent.ota.windows`); empty: always.
        unproven_clock: ``wait`` or ``allow`` while the device cannot know what time it is.
        max_celsius: Wait while the device is hotter; 0: no limit.
        memory_reserve_bytes: Memory that must stay free beside what the release says it needs.
        disk_reserve_bytes: Disk that must stay free beside the bundle and what is unpacked from it.
    """

    windows: tuple[str, ...] = ()
    unproven_clock: Literal["wait", "allow"] = "wait"
    max_celsius: Annotated[float, Meta(ge=0)] = 95.0
    memory_reserve_bytes: Bytes = 32 << 20
    disk_reserve_bytes: Bytes = 16 << 20


class RetryConfig(_Section, frozen=True, kw_only=True):
    """``[retry]``: exponential back-off with full jitter, for the repository and for workers."""

    first_seconds: Positive = 2.0
    max_seconds: Positive = 600.0


class RuntimeConfig(_Section, frozen=True, kw_only=True):
    """``[runtime]``.

    Attributes:
        packages: The only runtime packages to use, for example ``["onnxruntime"]``; empty: all that are installed.
        tflite_package: Which package runs TFLite models where both are installed; "": edgesdk's choice.
    """

    packages: tuple[str, ...] = ()
    tflite_package: TflitePackage | Literal[""] = ""


class AgentConfig(_Section, frozen=True, kw_only=True):
    """The whole file. `root` holds everything that the agent writes (see `edgesdk_agent.paths`)."""

    root: str = DEFAULT_ROOT
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    telemetry: TelemetryConfig = TelemetryConfig()
    download: DownloadConfig = DownloadConfig()
    store: StoreConfig = StoreConfig()
    link: LinkConfig = LinkConfig()
    maintenance: MaintenanceConfig = MaintenanceConfig()
    offline: OfflineConfig = OfflineConfig()
    retry: RetryConfig = RetryConfig()
    runtime: RuntimeConfig = RuntimeConfig()


def load_config(path: Path | None, environment: Mapping[str, str]) -> AgentConfig:
    """Read the configuration: the file, then the environment over it.

    Args:
        path: The file; None: ``EDGE_AGENT_CONFIG``, else `DEFAULT_FILE` where it exists, else no file.
        environment: Usually `os.environ`.

    Raises:
        ConfigError: ``file-missing``, ``config-invalid`` or ``config-unknown-key``.
    """
    named = path or (Path(environment["EDGE_AGENT_CONFIG"]) if environment.get("EDGE_AGENT_CONFIG") else None)
    tree = _read(named or DEFAULT_FILE, required=named is not None)
    where = str(named or DEFAULT_FILE)
    _refuse_unknown(tree, set(_keys()), where)
    _overlay(tree, environment)
    try:
        return msgspec.convert(tree, AgentConfig)
    except msgspec.ValidationError as error:
        raise ConfigError("config-invalid", f"{where} (with the environment): {error}") from error


def _read(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if not required:
            return {}
        raise ConfigError("file-missing", f"there is no configuration file {path}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError("config-invalid", f"{path} cannot be read as TOML: {error}") from error


def _keys() -> Iterator[str]:
    """Yield every key, dotted: ``root``, ``telemetry.interval_seconds``."""
    for field in msgspec.structs.fields(AgentConfig):
        if isinstance(field.type, type) and issubclass(field.type, _Section):
            yield from (f"{field.name}.{inner.name}" for inner in msgspec.structs.fields(field.type))
        else:
            yield field.name


def _refuse_unknown(tree: Mapping[str, Any], known: set[str], where: str) -> None:
    sections = {key.split(".")[0] for key in known if "." in key}
    for name, value in tree.items():
        found = [f"{name}.{inner}" for inner in value] if name in sections and isinstance(value, dict) else [name]
        for key in found:
            if key not in known and key not in sections:
                raise _unknown(key, known | sections, where)


def _unknown(key: str, known: set[str], where: str) -> ConfigError:
    near = difflib.get_close_matches(key, sorted(known), n=1, cutoff=0.0)
    return ConfigError("config-unknown-key", f"{where} has the unknown key {key!r}", hint=f"Did you mean {near[0]!r}?")


def _overlay(tree: dict[str, Any], environment: Mapping[str, str]) -> None:
    names = {PREFIX + key.replace(".", "_").upper(): key for key in _keys()}
    for name, text in environment.items():
        if not name.startswith(PREFIX) or name in RESERVED:
            continue
        if name not in names:
            raise _unknown(name, set(names), "the environment")
        section, _, key = names[name].rpartition(".")
        target = tree.setdefault(section, {}) if section else tree
        if not isinstance(target, dict):
            raise ConfigError("config-invalid", f"{section!r} is not a section")
        target[key] = _value(name, section, key, text)


def _value(name: str, section: str, key: str, text: str) -> Any:
    owner = getattr(AgentConfig(), section) if section else AgentConfig()
    kind = next(field.type for field in msgspec.structs.fields(owner) if field.name == key)
    words = [word.strip() for word in text.split(",") if word.strip()]
    raw = words if isinstance(getattr(owner, key), tuple) else text
    try:
        return msgspec.convert(raw, kind, strict=False)
    except msgspec.ValidationError as error:
        raise ConfigError("config-invalid", f"{name}={text!r} is not usable: {error}") from error
