"""Atomic and private files."""

import errno
import os
import stat

import pytest

from edgesdk.durable import readable_by_others, write_atomic, write_private
from edgesdk.errors import ConfigError


def test_bytes_and_files_are_written_with_their_mode(tmp_path):
    """Missing folders are made; no temporary file stays."""
    (tmp_path / "source").write_bytes(b"two")
    write_atomic(tmp_path / "a" / "b" / "one", b"one")
    write_atomic(tmp_path / "a" / "b" / "two", tmp_path / "source")
    assert {path.name: path.read_bytes() for path in (tmp_path / "a" / "b").iterdir()} == {"one": b"one", "two": b"two"}
    assert stat.S_IMODE((tmp_path / "a" / "b" / "one").stat().st_mode) == 0o644


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    """A full disk at fsync: the old content stays, and nothing is left beside it."""
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomic(path, b"new")
    assert [(item.name, item.read_bytes()) for item in tmp_path.iterdir()] == [("file", b"old")]


def test_a_private_file_is_private_whatever_the_umask(tmp_path):
    """Mode 0600 from its first byte, and never replaced, not even through a symbolic link."""
    old = os.umask(0)
    try:
        write_private(tmp_path / "key", b"secret")
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for name in ("key", "link"):
        with pytest.raises(ConfigError, match="file-exists"):
            write_private(tmp_path / name, b"other")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(("mode", "open_"), [(0o600, False), (0o400, False), (0o640, True), (0o601, True)])
def test_only_the_owners_bits_are_private(mode, open_):
    """Any bit for group or others counts."""
    assert readable_by_others(mode) is open_
