"""The hub on a real PostgreSQL, from Debian's packages: what SQLite forgives, this does not."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from edgesdk.errors import EdgeError
from edgesdk.fleet.broker import free_port
from edgesdk.fleet.inbox import Inbox
from edgesdk.fleet.registry import Registry

pytestmark = pytest.mark.postgresql
pytest.importorskip("psycopg", reason="needs psycopg: pip install 'psycopg[binary]'")
USER = "postgres"


def program(name: str) -> str:
    """Return a server program's path; Debian keeps them by version, out of PATH."""
    found = shutil.which(name) or next(iter(sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), reverse=True)))
    return str(Path(found).resolve())


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """Start a PostgreSQL of our own on a free port; as root it runs as the package's user, as it must."""
    folder = tmp_path_factory.mktemp("postgresql")
    root = os.geteuid() == 0
    if root:
        folder = Path(subprocess.check_output(["mktemp", "-d", "/tmp/edge-pg.XXXXXX"], text=True).strip())
        shutil.chown(folder, USER)
    user = {"user": USER, "group": pwd.getpwnam(USER).pw_gid, "extra_groups": []} if root else {}
    port = free_port("127.0.0.1")
    data = folder / "data"
    subprocess.run(
        [program("initdb"), "-D", data, "-A", "trust", "-U", "edge", "--no-sync"],
        check=True, capture_output=True, cwd=folder, **user,
    )  # fmt: skip
    options = [
        "-D",
        data,
        "-p",
        str(port),
        "-c",
        "listen_addresses=127.0.0.1",
        "-c",
        f"unix_socket_directories={folder}",
    ]
    log = (folder / "log").open("wb")
    process = subprocess.Popen([program("postgres"), *options], stdout=log, stderr=log, cwd=folder, **user)
    try:
        waited = threading.Event()
        for _ in range(600):
            if b"ready to accept connections" in (folder / "log").read_bytes():
                break
            waited.wait(0.1)
        yield f"postgresql+psycopg://edge@127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)  # fast: it ends the connections
        process.wait(30)
        if root:
            shutil.rmtree(folder)


@pytest.fixture
def database(server):
    """Make an empty database."""
    import psycopg  # noqa: PLC0415 - skipped where it is missing

    name = f"hub_{os.urandom(4).hex()}"
    with psycopg.connect(f"{server.replace('+psycopg', '')}/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{server}/{name}"


def test_a_hub_lives_on_it(start_hub, enrol, wait_for, database):
    """First token, enrolment, a rollout in waves, a bad release, a rollback, revocation and a restart: as on SQLite."""
    hub = start_hub(database=database)
    bad = {"2.0.0": "rolled_back"}
    devices = [enrol(hub, behave=lambda wanted: bad.get(wanted.release, "committed")).connect() for _ in range(3)]
    assert hub.end(hub.deploy("1.0.0", devices, waves=["1", "100%"])["id"])["state"] == "done"
    assert hub.end(hub.deploy("2.0.0", devices, waves=["1", "100%"])["id"])["state"] == "halted"
    assert hub.end(hub.client.post("/rollback", {"model": "digits"})["id"])["state"] == "done"
    hub.client.post(f"/devices/{devices[0].id}/revoke")
    assert hub.device(devices[0])["revoked"]
    assert {each["action"] for each in hub.client.get("/audit")} >= {"rollout.rollback", "device.revoke"}
    assert "edge_devices" in hub.raw(hub.client_token).get("/metrics").text
    hub.hub.stop()
    again = start_hub(database=database)
    assert [each["state"] for each in again.client.rollouts()] == ["done", "rolled_back", "done"]


def test_a_wrong_database_is_refused_without_its_password():
    """A database that does not answer is named, its password is not."""
    with pytest.raises(EdgeError) as caught:
        Registry("postgresql+psycopg://edge:geheim@127.0.0.1:1/hub")
    assert caught.value.code == "config-invalid"
    assert "geheim" not in str(caught.value)


def test_two_hubs_count_the_same_rejection(database):
    """Replicas that meet the same stranger at the same time do not fail, and lose no count."""
    inboxes = [Inbox(Registry(database), fleet="lab") for _ in range(2)]
    with ThreadPoolExecutor(8) as pool:
        for future in [pool.submit(inboxes[n % 2].receive, "edge/v1/lab/x/up/state", b"{}") for n in range(64)]:
            assert future.result() is False
    with Registry(database).reading() as session:
        from edgesdk.fleet.tables import Rejection  # noqa: PLC0415

        assert [row.count for row in session.query(Rejection)] == [64]


def test_two_hubs_start_at_the_same_time(database):
    """Both make the tables of an empty database; neither fails."""
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: Registry(database), range(4)))
    assert {registry.meta("schema") for registry in made} == {"1"}
