"""Broker addresses, allowed runtimes, the systemd unit and sd_notify."""

import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from edgesdk_agent.config import MaintenanceConfig, RuntimeConfig
from edgesdk_agent.device import broker_address, capabilities, conditions, limits, tflite_package
from edgesdk_agent.notify import Notifier
from edgesdk_agent.paths import Paths
from edgesdk_agent.systemd import unit
from edgesdk_agent.telemetry.probes import Probes
from edgesdk_agent.timekeeping import TrustedTime

from edgesdk.clock import SystemClock
from edgesdk.errors import ConfigError


def test_broker_addresses(tmp_path: Path) -> None:
    """Scheme decides TLS and the default port; anything else is a configuration error."""
    assert broker_address("mqtt://127.0.0.1:1884", Paths(tmp_path)) == ("127.0.0.1", 1884, None)
    host, port, tls = broker_address("mqtts://hub.example", Paths(tmp_path))
    assert (host, port) == ("hub.example", 8883)
    assert tls is not None
    assert tls.cert == Paths(tmp_path).keys / "device.pem"
    for url in ("http://x", "mqtt://", "mqtt://x:y", "x"):
        with pytest.raises(ConfigError):
            broker_address(url, Paths(tmp_path))


def test_configuration_narrows_the_runtimes(tmp_path: Path) -> None:
    """Only the named packages are offered to releases; the TFLite package is the one that is named."""
    probes = Probes(tmp_path)
    assert {found.package for found in capabilities(RuntimeConfig(packages=("onnxruntime",)), probes).runtimes} <= {
        "onnxruntime"
    }
    chosen = capabilities(RuntimeConfig(tflite_package="tflite-runtime"), probes).runtimes
    assert "ai-edge-litert" not in {found.package for found in chosen}
    assert tflite_package(RuntimeConfig(packages=("onnxruntime", "tflite-runtime"))) == "tflite-runtime"
    assert tflite_package(RuntimeConfig()) == ""


def test_limits_are_read_from_the_configuration() -> None:
    """Windows are parsed when the agent starts, so that a typo is an error then and not a missed update."""
    found = limits(MaintenanceConfig(windows=("* 02:00-04:00", "Sun 00:00-24:00 Europe/Berlin"), max_celsius=70))
    assert [window.start for window in found.windows] == [120, 0]
    assert (found.max_celsius, found.unproven_clock) == (70, "wait")
    with pytest.raises(ConfigError):
        limits(MaintenanceConfig(windows=("soon",)))


def test_conditions_are_what_the_probes_read(tmp_path: Path) -> None:
    """The judged time, whether it is proven, and what can be read of heat, memory and disk."""
    zone = tmp_path / "sys/class/thermal/thermal_zone0"
    zone.mkdir(parents=True)
    (zone / "temp").write_text("61500\n")
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 100 kB\nMemAvailable: 50 kB\n")
    time = TrustedTime(SystemClock(), "2027-01-01T00:00:00.000Z", synchronised=lambda: False)
    found = conditions(time, Probes(tmp_path, root=tmp_path))
    assert (found.clock_proven, found.celsius, found.memory_free) == (False, 61.5, 51200)
    assert found.now.year == 2027
    assert found.disk_free is not None


def test_accelerator_nodes_are_told(tmp_path: Path) -> None:
    """Device nodes that exist are named as they are below /dev; the table's others are not."""
    (tmp_path / "dri").mkdir()
    for node in ("apex_0", "dri/renderD128", "null"):
        (tmp_path / node).touch()
    found = capabilities(RuntimeConfig(), Probes(tmp_path), devices=tmp_path)
    assert found.nodes == ("/dev/apex_0", "/dev/dri/renderD128")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="the Debian package systemd is not installed")
def test_the_unit_is_sound_and_hardened(tmp_path: Path) -> None:
    """Systemd itself finds no fault in the unit and rates its exposure below 2."""
    path = tmp_path / "edge-agent.service"
    path.write_text(unit("/bin/true", user="root", group="root"))
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert rated.returncode == 0, rated.stdout + rated.stderr
    assert "Unknown" not in rated.stderr


def test_notify_speaks_to_systemd(tmp_path: Path) -> None:
    """States arrive as one datagram; the watchdog interval is half of systemd's; without a socket nothing happens."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "60000000"})
        notifier.send("READY=1", "STATUS=well")
        assert systemd.recv(100) == b"READY=1\nSTATUS=well"
        assert notifier.watchdog_seconds == 30
    notifier.send("READY=1")
    assert Notifier({}).watchdog_seconds is None
    assert Notifier({"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}).watchdog_seconds is None
