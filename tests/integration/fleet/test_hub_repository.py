"""The hub believes a repository only as far as it follows from the root that the hub pins."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta

import pytest

from edgesdk.canonical import sha256_hex
from edgesdk.clock import SystemClock
from edgesdk.errors import EdgeError
from edgesdk.fleet.folder import HubFolder
from edgesdk.fleet.hub import Hub, Options
from edgesdk.fleet.releases import RepositoryView
from edgesdk.trust.enrolment import parse_token
from edgesdk.trust.repository import first_root, init_repository, rotate, set_deployment_keys


def swap(site):
    """Put another repository, with keys of a thief that name the same hub, where the site's was."""
    thief = site.path / "thief"
    init_repository(thief, site.path / "thief-keys")
    set_deployment_keys(thief, site.path / "thief-keys", [site.folder.deployment_public])
    shutil.rmtree(site.repo)
    thief.rename(site.repo)


def test_the_first_start_pins_the_root(site, start_hub):
    """The root of the first start is in hub.json and in every token."""
    hub = start_hub()
    pinned = sha256_hex(first_root(site.repo))
    assert HubFolder(site.folder.path).settings.root_sha256 == pinned
    assert parse_token(hub.client.post("/tokens")["token"]).root_sha256 == pinned


def test_init_can_pin_the_root(site):
    """`edge hub init --repo` pins before anybody could swap the folder; a missing repository leaves no hub behind."""
    folder = HubFolder.create(site.path / "other", fleet="lab", repo=site.repo)
    assert folder.settings.root_sha256 == sha256_hex(first_root(site.repo))
    with pytest.raises(EdgeError) as caught:
        HubFolder.create(site.path / "third", fleet="lab", repo=site.path / "nowhere")
    assert caught.value.code == "file-missing"
    assert not (site.path / "third").exists()


def test_a_swapped_repository_is_refused_at_start(site, start_hub):
    """A hub does not start on another repository than the one it was made with."""
    start_hub().hub.stop()
    swap(site)
    with pytest.raises(EdgeError) as caught, Hub(site.folder, Options(repo=site.repo, broker="devbroker")) as hub:
        hub.start()
    assert caught.value.code == "repository-swapped"


def test_a_repository_swapped_under_a_running_hub_is_refused(site, start_hub):
    """Nothing is deployed from it, no token names it, and the health check says so."""
    hub = start_hub()
    swap(site)
    for path, body in (("/tokens", {}), ("/rollouts", {"model": "digits", "release": "1.0.0"})):
        with pytest.raises(EdgeError) as caught:
            hub.client.post(path, body)
        assert caught.value.code == "repository-swapped"
    health = hub.raw().get("/api/v1/healthz")
    assert (health.status_code, health.json()["checks"]["repository"]) == (503, "repository-swapped")


def test_a_forged_newer_root_is_refused(site, start_hub):
    """A root of a thief's own, laid beside the true first one, is not followed: its predecessor did not sign it."""
    hub = start_hub()
    thief = site.path / "thief"
    init_repository(thief, site.path / "thief-keys")
    rotate(thief, site.path / "thief-keys", "root")
    for name in ("2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"):
        shutil.copy(thief / "metadata" / name, site.repo / "metadata" / name)
    with pytest.raises(EdgeError) as caught:
        hub.client.get("/releases")
    assert caught.value.code == "signature-invalid"


def test_an_honest_rotation_is_followed(site, start_hub):
    """Root and online keys rotate under a running hub, which goes on."""
    hub = start_hub()
    for role in ("root", "timestamp", "targets"):
        rotate(site.repo, site.keys, role)
    assert len(hub.client.get("/releases")) == 3
    assert json.loads((site.repo / "metadata" / "4.root.json").read_bytes())["signed"]["version"] == 4


class Moved(SystemClock):
    """A clock that can be put forward."""

    def __init__(self):
        self.by = timedelta(0)

    def now(self):
        return super().now() + self.by


def online(site):
    """Return a folder with the two online keys and nothing else."""
    folder = site.path / "online"
    folder.mkdir()
    for path in [*site.keys.glob("snapshot-*.pem"), *site.keys.glob("timestamp-*.pem")]:
        shutil.copy2(path, folder)
    return folder


def test_the_hub_signs_anew_before_expiry(site, start_hub):
    """With the online keys a repository that nobody tends stays fresh for weeks; the metrics count the signatures."""
    clock = Moved()
    hub = start_hub(clock=clock, online_keys=online(site))
    refresher = hub.hub.refresher
    before = RepositoryView(site.repo, root_sha256=site.folder.pin_root(site.repo)).versions().timestamp
    for _ in range(28):
        clock.by += timedelta(hours=13)
        assert refresher.step()
        assert not refresher.step()
        assert hub.raw().get("/api/v1/healthz").json()["checks"]["repository"] == "ok"
    assert hub.client.get("/releases")
    text = hub.raw(hub.client_token).get("/metrics").text
    assert 'edge_repository_refreshes_total{result="done"} 28\n' in text
    assert json.loads((site.repo / "metadata" / "timestamp.json").read_bytes())["signed"]["version"] == before + 28


def test_what_the_hub_cannot_sign_is_counted_and_said(site, start_hub, caplog):
    """Expired targets need their people: the failure is in log and metrics, and the hub goes on."""
    clock = Moved()
    hub = start_hub(clock=clock, online_keys=online(site))
    clock.by = timedelta(days=100)
    assert not hub.hub.refresher.step()
    assert "--role targets" in caplog.text
    text = hub.raw(hub.client_token).get("/metrics").text
    assert 'edge_repository_refreshes_total{result="failed"} 1\n' in text
    assert "PRIVATE" not in caplog.text


@pytest.mark.parametrize("missing", ["snapshot", "timestamp"])
def test_a_missing_online_key_is_said_at_start(site, missing):
    """The hub does not start with half of the keys, rather than fail at night."""
    folder = online(site)
    next(folder.glob(f"{missing}-*.pem")).unlink()
    options = Options(repo=site.repo, broker="devbroker", online_keys=folder)
    with pytest.raises(EdgeError) as caught, Hub(site.folder, options) as hub:
        hub.start()
    assert caught.value.code == "key-threshold"


def test_online_keys_do_not_lie_in_what_is_served(site):
    """A key folder inside the repository is refused."""
    options = Options(repo=site.repo, broker="devbroker", online_keys=site.repo / "keys")
    with pytest.raises(EdgeError) as caught, Hub(site.folder, options) as hub:
        hub.start()
    assert caught.value.code == "argument-invalid"


def test_without_online_keys_the_operator_is_warned_in_time(site, start_hub, edge):
    """Health check and `edge fleet status` name the command hours before devices refuse, and after."""
    clock = Moved()
    hub = start_hub(clock=clock)
    assert hub.client.warnings() == []
    clock.by = timedelta(hours=21)
    assert hub.client.warnings() == ["the repository's timestamp expires in 3 h: edge repo refresh --repo REPO"]
    process = edge("fleet", "status", "--hub", hub.running.url, "--token", hub.client_token)
    _, error = process.communicate(timeout=60)
    assert (process.returncode, "warning: the repository's timestamp expires" in error) == (0, True)
    clock.by = timedelta(hours=25)
    said = hub.client.warnings()
    assert said[0] == "repository: tuf-expired"
    assert said[1].endswith("edge repo refresh --repo REPO")
