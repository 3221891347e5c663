"""What this device can do and who it is to a broker: facts for the updater and addresses for the link."""

from __future__ import annotations

import platform
from pathlib import Path
from urllib.parse import urlsplit

from edgesdk.errors import ConfigError
from edgesdk.protocol.link_types import LinkTLS
from edgesdk.runtime.packages import installed
from edgesdk.targets.matching import Capabilities, architecture_name
from edgesdk_agent.config import MaintenanceConfig, RuntimeConfig
from edgesdk_agent.identity import CA, CERTIFICATE, TLS_KEY
from edgesdk_agent.ota.preflight import Conditions, Limits
from edgesdk_agent.ota.windows import parse_window
from edgesdk_agent.paths import Paths
from edgesdk_agent.telemetry.probes import Probes
from edgesdk_agent.timekeeping import TrustedTime

TFLITE_PACKAGES = {"ai-edge-litert", "tflite-runtime"}
PORTS = {"mqtt": 1883, "mqtts": 8883}
NODES = (
    "accel/accel0",  # Linux' accel subsystem: Qualcomm, Habana, Intel NPU
    "apex_0",  # Coral Edge TPU
    "dri/renderD128",  # a GPU
    "ethosu0",  # Arm Ethos-U
    "galcore",  # VeriSilicon (NXP i.MX 8M Plus)
    "hailo0",
    "kfd",  # AMD compute
    "nvhost-gpu",  # Jetson
    "nvidia0",
    "rknpu",
)
"""Where accelerators show themselves below /dev."""


def capabilities(config: RuntimeConfig, probes: Probes, *, devices: Path = Path("/dev")) -> Capabilities:
    """Return what this device has, as far as the configuration lets it be used."""
    return Capabilities(
        architecture=architecture_name(platform.machine()),
        runtimes=tuple(found for found in installed() if _allowed(found.name, found.package, config)),
        nodes=tuple(f"/dev/{node}" for node in NODES if (devices / node).exists()),
        memory_bytes=probes.memory_bytes(),
        disk_free=probes.disk_free() or 0,
    )


def tflite_package(config: RuntimeConfig) -> str:
    """Return the package that is to run TFLite models; "" leaves the choice to edgesdk."""
    return config.tflite_package or next((name for name in config.packages if name in TFLITE_PACKAGES), "")


def _allowed(runtime: str, package: str, config: RuntimeConfig) -> bool:
    if runtime == "tflite" and tflite_package(config) not in {"", package}:
        return False
    return not config.packages or package in config.packages


def broker_address(url: str, paths: Paths) -> tuple[str, int, LinkTLS | None]:
    """Return host, port and TLS files of a broker's address.

    Raises:
        ConfigError: ``config-invalid`` if it is no ``mqtt://`` or ``mqtts://`` address.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigError("config-invalid", f"the broker's address {url!r} cannot be read: {error}") from error
    if parts.scheme not in PORTS or not host:
        raise ConfigError("config-invalid", f"the broker's address is {url!r}, expected mqtt:// or mqtts:// and a host")
    tls = LinkTLS(ca=paths.keys / CA, cert=paths.keys / CERTIFICATE, key=paths.keys / TLS_KEY)
    return host, port or PORTS[parts.scheme], tls if parts.scheme == "mqtts" else None


def limits(config: MaintenanceConfig) -> Limits:
    """Return what local policy wants before an update goes a step further.

    Raises:
        ConfigError: ``config-invalid`` for a window that cannot be read.
    """
    return Limits(
        windows=tuple(parse_window(text) for text in config.windows),
        unproven_clock=config.unproven_clock,
        max_celsius=config.max_celsius,
        memory_reserve=config.memory_reserve_bytes,
        disk_reserve=config.disk_reserve_bytes,
    )


def conditions(time: TrustedTime, probes: Probes) -> Conditions:
    """Return how the device is now."""
    return Conditions(
        now=time.now(),
        clock_proven=time.state == "proven",
        celsius=probes.celsius(),
        memory_free=probes.memory_free(),
        disk_free=probes.disk_free(),
    )
