"""Power cuts: a publisher is killed with SIGKILL around every write, in real processes.

After each kill a client sees the old or the new repository, whole, and running the command again completes it.
"""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from securesystemslib.signer import CryptoSigner

from edgesdk.durable import write_atomic
from edgesdk.errors import EdgeError
from edgesdk.trust.client import UpdateClient
from edgesdk.trust.keys import public_key_of
from edgesdk.trust.repository import (
    Options,
    first_root,
    init_repository,
    publish_release,
    refresh,
    rotate,
    set_deployment_keys,
)

FORK = multiprocessing.get_context("fork")
OLD, NEW = "models/digits/1.0.0/release.json", "models/digits/2.0.0/release.json"
KEY = public_key_of(CryptoSigner.generate_ed25519())


class Cut:
    """Writes `whole` files, then half of a temporary one, and kills its own process."""

    def __init__(self, whole: int) -> None:
        self.left = whole

    def __call__(self, path: Path, content: bytes | Path) -> None:
        if self.left == 0:
            data = content.read_bytes() if isinstance(content, Path) else content
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, _ = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
            os.write(descriptor, data[: len(data) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1
        write_atomic(path, content)


def killed(action: Callable[[Options], object], now, whole: int) -> bool:
    """Run `action` in a process that dies after `whole` writes; say whether it died."""
    process = FORK.Process(target=action, args=(Options(now=now, write=Cut(whole)),))
    process.start()
    process.join()
    assert process.exitcode in {0, -signal.SIGKILL}
    return process.exitcode != 0


ACTIONS = {
    "publish": lambda repo, release, options: publish_release(repo.path, repo.keys, release, options=options),
    "refresh": lambda repo, _, options: refresh(repo.path, repo.keys, options=options),
    "deployment-keys": lambda repo, _, options: set_deployment_keys(repo.path, repo.keys, [KEY], options=options),
    "rotate-root": lambda repo, _, options: rotate(repo.path, repo.keys, "root", options=options),
    "rotate-targets": lambda repo, _, options: rotate(repo.path, repo.keys, "targets", options=options),
    "rotate-snapshot": lambda repo, _, options: rotate(repo.path, repo.keys, "snapshot", options=options),
    "rotate-timestamp": lambda repo, _, options: rotate(repo.path, repo.keys, "timestamp", options=options),
}


@pytest.mark.parametrize("name", ACTIONS)
def test_a_killed_change_leaves_a_usable_repository(repo, make_release, serve, name):
    """Killed at write 0, 1, 2 … until it completes: every state verifies, and the last one is the wanted one."""
    release = make_release("2.0.0")
    url = serve(repo.path).url
    device = repo.client(url, "device")
    device.refresh()

    def act(options: Options) -> None:
        ACTIONS[name](repo, release, options)

    kills = 0
    while killed(act, repo.options.now, kills):
        kills += 1
        for client in (device, repo.client(url, f"fresh-{kills}")):
            client.refresh()
            assert client.read_target(OLD, 100_000)
    assert kills >= 2
    versions = device.refresh()
    if name == "publish":
        assert device.read_target(NEW, 100_000) == (release / "release.json").read_bytes()
    if name == "deployment-keys":
        assert device.target("trust/deployment.json")
    if name.startswith("rotate"):
        assert versions.root >= 2
    act(repo.options)
    device.refresh()


@pytest.mark.parametrize("roles", [("timestamp",), ("snapshot", "timestamp"), ("targets",)])
def test_a_killed_replacement_of_lost_keys_is_completed_by_the_next(repo, serve, roles):
    """Killed at any write, a rotation without the old keys is completed by running it again; no device is misled."""
    device = repo.client(serve(repo.path).url, "device")
    device.refresh()
    for whole in range(4):
        for path in [path for role in roles for path in repo.keys.glob(f"{role}-*.pem")]:
            path.unlink()
        killed(lambda options: rotate(repo.path, repo.keys, roles, options=options), repo.options.now, whole)
        try:
            device.refresh()
        except EdgeError as error:
            assert error.code == "signature-invalid"
        rotate(repo.path, repo.keys, roles, options=repo.options)
        device.refresh()
        assert device.read_target(OLD, 100_000)


def test_a_killed_init_is_completed_by_the_next(tmp_path, serve, repo):
    """Until the first root is there it is no repository; whatever was left, the next init completes it."""
    path, keys = tmp_path / "new" / "repo", tmp_path / "new" / "keys"

    def act(options: Options) -> None:
        init_repository(path, keys, deployment_keys=[KEY], options=options)

    kills = 0
    while killed(act, repo.options.now, kills):
        kills += 1
        if (path / "metadata" / "1.root.json").exists():
            break
    assert kills >= 5
    client = UpdateClient(tmp_path / "client", serve(path).url, trusted_root=first_root(path), now=repo.options.now)
    client.refresh()
    assert client.target("trust/deployment.json")
    refresh(path, keys, options=repo.options)
    assert client.refresh().timestamp == 2


@pytest.mark.parametrize(("number", "code"), [(errno.ENOSPC, "disk-full"), (errno.EACCES, "folder-unwritable")])
def test_a_disk_that_refuses_is_named(repo, make_release, serve, number, code):
    """A full or read-only disk at each write: one clear error, a whole repository, and the next run completes it."""
    release = make_release("2.0.0")
    client = repo.client(serve(repo.path).url)
    failures = 0

    def publish(whole: int) -> None:
        left = iter(range(whole))

        def write(path: Path, content: bytes | Path) -> None:
            if next(left, None) is None:
                raise OSError(number, os.strerror(number), str(path))
            write_atomic(path, content)

        publish_release(repo.path, repo.keys, release, options=Options(now=repo.options.now, write=write))

    for whole in range(10):
        try:
            publish(whole)
        except EdgeError as error:
            failures += 1
            assert error.code == code
            assert client.refresh().timestamp in {2, 3}
            assert client.read_target(OLD, 100_000)
    assert failures >= 3
    assert client.refresh().timestamp == 3


@pytest.mark.parametrize("name", ACTIONS)
def test_a_reader_at_any_moment_sees_a_whole_repository(repo, make_release, serve, name):
    """A new and an old device read before and after every single write of a change, and always verify."""
    release = make_release("2.0.0")
    url = serve(repo.path).url
    old = repo.client(url, "old")
    old.refresh()
    moments = []

    def write(path: Path, content: bytes | Path) -> None:
        write_atomic(path, content)
        moments.append(path)
        for client in (old, repo.client(url, f"new-{len(moments)}")):
            client.refresh()
            assert client.read_target(OLD, 100_000)

    ACTIONS[name](repo, release, Options(now=repo.options.now, write=write))
    assert len(moments) >= 3


def test_two_publishers_at_once_lose_nothing(repo, make_release, serve):
    """The lock makes one wait for the other; both releases are listed afterwards."""
    processes = [
        FORK.Process(
            target=publish_release,
            args=(repo.path, repo.keys, make_release(version)),
            kwargs={"options": repo.options},
        )
        for version in ("2.0.0", "3.0.0", "4.0.0")
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    client = repo.client(serve(repo.path).url)
    assert client.refresh().timestamp == 5
    for version in ("1.0.0", "2.0.0", "3.0.0", "4.0.0"):
        assert client.target(f"models/digits/{version}/release.json")
