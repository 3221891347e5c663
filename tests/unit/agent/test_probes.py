"""Device readings from a made-up /proc and /sys."""

from pathlib import Path

import pytest
from edgesdk_agent.telemetry.probes import Probes


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    files = {
        "proc/stat": "cpu  100 0 100 700 100 0 0 0 0 0\ncpu0 1 1 1 1\n",
        "proc/meminfo": "MemTotal:       2000 kB\nMemAvailable:   1000 kB\n",
        "proc/uptime": "123.45 200.00\n",
        "proc/self/statm": "1000 50 10 1 0 30 0\n",
        "proc/sys/kernel/random/boot_id": "b-1\n",
        "sys/class/thermal/thermal_zone0/temp": "41000\n",
        "sys/class/thermal/thermal_zone1/temp": "52500\n",
        "sys/class/thermal/thermal_zone2/temp": "-273000\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def test_readings(machine: Path) -> None:
    """Every reading has its unit; an implausible temperature is left out; the CPU share is of the interval."""
    probes = Probes(machine, root=machine)
    (machine / "proc/stat").write_text("cpu  150 0 150 750 150 0 0 0 0 0\n")
    found = probes.read("proven")
    assert found.cpu_share == 0.5
    assert (found.memory_free, probes.memory_bytes()) == (1000 * 1024, 2000 * 1024)
    assert (found.temperature, found.uptime_s, found.clock) == (52.5, 123.45, "proven")
    assert found.agent_rss is not None
    assert found.agent_rss % 50 == 0
    assert found.disk_free is not None
    assert found.disk_free > 0
    assert probes.boot_id() == "b-1"


@pytest.mark.parametrize("text", ["", "cpu a b", "cpu 1", "\xff"])
def test_what_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    """A machine without these files, or with odd ones, gives None everywhere and no error."""
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/stat").write_text(text, encoding="latin-1")
    found = Probes(tmp_path / "none", root=tmp_path).read("unproven")
    assert (found.cpu_share, found.memory_free, found.temperature, found.uptime_s) == (None, None, None, None)
    assert (found.agent_rss, found.disk_free) == (None, None)
