"""A real full disk: a small tmpfs (root only), so that ENOSPC comes from the kernel."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from agent_ota_world import MODEL, RangeServer, World

DISK_BYTES = 6 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 6 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("needs root to mount a small tmpfs")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Write until nothing fits any more; return the file."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        for chunk in (65536, 4096, 1):
            try:
                while True:
                    file.write(b"x" * chunk)
            except OSError as error:
                assert error.errno == errno.ENOSPC
    return path


def test_rollback_can_always_be_written(small_disk: Path, server: RangeServer) -> None:
    """On a full disk the reserve is given up: the rollback is written, journalled, stated and quarantined."""
    world = World(small_disk / "agent", server)
    world.ask(world.publish("1.0.0"))
    assert world.finish() == "committed"
    world.ask(world.publish("2.0.0", "nan"))
    world.run("trial")
    assert world.paths.reserve.exists()
    filler = fill(small_disk)
    assert world.finish() == "rolled_back"
    assert not world.paths.reserve.exists()
    world.check_whole()
    world.check_truth()
    assert len(world.state.quarantined()) == 1
    filler.unlink()
    world.start()
    assert world.paths.reserve.exists()
    assert world.current() == "rolled_back"


def test_release_that_does_not_fit_waits_for_space(small_disk: Path, server: RangeServer) -> None:
    """Too little room is a transient failure, found before a byte is downloaded; with room it goes on."""
    world = World(small_disk / "agent", server)
    filler = fill(small_disk)
    os.truncate(filler, filler.stat().st_size - (1 << 20))
    world.ask(world.publish("1.0.0", size=1 << 20))
    world.run("failed")
    reason = world.updater.snapshot()[MODEL].reason
    assert reason is not None
    assert (reason.code, reason.permanent) == ("disk-full", False)
    assert server.requests == []
    filler.unlink()
    assert world.finish() == "committed"


def test_full_disk_at_any_time_loses_nothing(small_disk: Path, server: RangeServer) -> None:
    """With the disk full from some state on, the good generation is served; with room again the update ends well."""
    full_from: list[str] = []

    def on_enter(entered: str) -> None:
        if entered in full_from:
            full_from.clear()
            fill(small_disk)

    world = World(small_disk / "agent", server, on_enter=on_enter)
    world.ask(world.publish("1.0.0"))
    assert world.finish() == "committed"
    labels = ("offered", "downloading", "verified", "staged", "testing", "begin trial: journalled", "trial")
    for number, label in enumerate((*labels, "commit: journalled"), start=2):
        offer = world.publish(f"{number}.0.0")
        world.ask(offer)
        full_from.append(label)
        for _ in range(12):
            status = world.updater.snapshot()[MODEL]
            if status.state == "trial" and status.trial:
                world.live(status.trial)
            world.clock.seconds += world.updater.step()
        assert full_from == []
        world.check_whole()
        (small_disk / "filler").unlink()
        assert world.finish() == "committed", label
        assert world.slots().good == world.generation(offer)
        world.check_truth()
