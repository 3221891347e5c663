"""How runs end, and which ends are nobody's fault."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from edgesdk_agent.boots import BLAMELESS, DEVICE_WENT_DOWN, Boots, End, LastRun, Traces, ended
from edgesdk_agent.store.state import StateDb

CLEAN, DIRTY = LastRun(boot="a", clean=True), LastRun(boot="a", clean=False, records=("dmesg-1",))


@pytest.mark.parametrize(
    ("last", "now", "expected"),
    [
        (None, Traces(boot="a"), "first"),
        (CLEAN, Traces(boot="a"), "stopped"),
        (DIRTY, Traces(boot="a"), "killed"),
        (DIRTY, Traces(boot="a", watchdog=True), "killed"),  # the bit is of the boot before the last run
        (CLEAN, Traces(boot="b"), "planned"),
        (DIRTY, Traces(boot="b"), "power loss"),
        (DIRTY, Traces(boot="b", records=("dmesg-1",)), "power loss"),  # an old record
        (DIRTY, Traces(boot="b", records=("dmesg-1", "dmesg-2")), "crash"),
        (CLEAN, Traces(boot="b", records=("dmesg-2",)), "crash"),
        (DIRTY, Traces(boot="b", watchdog=True, records=("dmesg-2",)), "watchdog"),
    ],
)
def test_each_end_has_its_name(last: LastRun | None, now: Traces, expected: End) -> None:
    """The kernel's word counts before a clean stop; what nobody explains is a power loss."""
    assert ended(last, now) == expected


def test_every_end_is_somebodys_or_nobodys() -> None:
    """A killed agent may have been killed by the model; only it and a device that went down are not blameless."""
    assert set(get_args(End)) == BLAMELESS | DEVICE_WENT_DOWN | {"killed"}
    assert not BLAMELESS & DEVICE_WENT_DOWN


def test_what_is_remembered_and_read(tmp_path: Path) -> None:
    """A run that stops says so; a watchdog's bit and a new crash record are found below /sys."""
    state = StateDb(tmp_path / "state.db")
    root = tmp_path / "root"
    first = Boots(state, "a", root=root)
    assert first.begin() == "first"
    assert Boots(state, "a", root=root).begin() == "killed"
    first.end()
    assert Boots(state, "b", root=root).begin() == "planned"
    assert Boots(state, "c", root=root).begin() == "power loss"
    (root / "sys/fs/pstore").mkdir(parents=True)
    (root / "sys/fs/pstore/dmesg-ramoops-0").touch()
    assert Boots(state, "d", root=root).begin() == "crash"
    assert Boots(state, "e", root=root).begin() == "power loss"
    watchdog = root / "sys/class/watchdog/watchdog0"
    watchdog.mkdir(parents=True)
    for text, expected in (
        ("0\n", "power loss"),
        ("garbage", "power loss"),
        ("32\n", "watchdog"),
        ("0x20", "watchdog"),
    ):
        (watchdog / "bootstatus").write_text(text)
        assert Boots(state, text, root=root).begin() == expected
    state.close()
