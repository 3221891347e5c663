"""Fixtures of the end-to-end tests: releases and an empty site are made once, every test gets a site of its own."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the helpers of this folder

from e2e_releases import RECIPES, make_data, make_releases
from e2e_world import MODEL, App, Device, Site, copy_of, edge


@pytest.fixture(scope="session")
def template(shared_folder: Callable[[str, Callable[[Path], object]], Path], repository_root: Path) -> Site:
    """A site that never ran: every release is published, the policy names an anchor set."""
    example = repository_root / "examples" / "wearable"
    return _site(shared_folder("e2e-template", lambda folder: _make(_site(folder), example, folder)))


def _site(folder: Path) -> Site:
    return Site(folder / "site", {release: folder / release for release in RECIPES}, folder / "data" / "replay.npz")


def _make(site: Site, example: Path, folder: Path) -> None:
    (folder / "data").mkdir()
    site.folder.mkdir()
    make_data(example, folder / "data")
    make_releases(example, folder / "data", folder)
    site.make()
    for release in site.releases:
        assert site.publish(release).code == 0
    anchor = next(site.releases["1.0.0"].glob("*tflite*.edge"))
    reason = "the exercises that every release must know"
    done = edge("repo", "policy", MODEL, "--anchor", anchor, "--reason", reason, "--repo", site.repo)
    assert done.code == 0, done.err


@pytest.fixture
def make_site(template: Site, tmp_path: Path) -> Iterator[Callable[[], Site]]:
    """Return the function that makes a site for this test; what runs there is ended after it."""
    sites: list[Site] = []

    def make() -> Site:
        sites.append(copy_of(template, tmp_path / f"site{len(sites)}"))
        return sites[-1]

    yield make
    for site in sites:
        site.close()


@pytest.fixture
def site(make_site: Callable[[], Site]) -> Site:
    """A site for this test; its hub is not started."""
    return make_site()


@pytest.fixture
def protected(site: Site) -> Site:
    """A site whose hub speaks TLS only."""
    said = site.start_hub("--tls", "--public-host", "127.0.0.1")
    assert (said["url"][:8], said["broker"][:8], said["broker_kind"]) == ("https://", "mqtts://", "mosquitto")
    return site


@pytest.fixture(scope="module")
def lab(template: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site that the tests of a module share, with its hub on the dev broker."""
    site = copy_of(template, tmp_path_factory.mktemp("lab") / "site")
    site.start_hub("--broker", "devbroker")
    yield site
    site.close()


@dataclass(frozen=True)
class Settled:
    """A device that runs 1.0.0 and an app that has read all along."""

    device: Device
    app: App


@pytest.fixture(scope="module")
def settled(lab: Site) -> Settled:
    """A device of the shared site that runs 1.0.0, with an app that reads all the time; every test leaves it so."""
    device = lab.device("settled")
    device.start()
    app = device.start_app()
    lab.roll_out("1.0.0", device)
    app.wait_answer("1.0.0")
    return Settled(device, app)
