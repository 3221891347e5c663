"""Resumable downloads from a real HTTP server that is cut, restarted, changed and wrong."""

from __future__ import annotations

import functools
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from agent_ota_world import RangeServer
from edgesdk_agent.ota import download
from edgesdk_agent.ota.allowance import Allowance
from edgesdk_agent.ota.download import CHUNK, SLOW_BYTES, SLOW_S, Downloader, discard

from edgesdk.errors import ConfigError, DeploymentError, LinkError

DATA = bytes(range(256)) * 8192  # 2 MiB
DOWNLOADER = Downloader(timeout=5)


def serve(server: RangeServer) -> str:
    server.files["/bundle"] = DATA
    return server.url + "/bundle"


def fetch_until_complete(url: str, path: Path, limit: int = 100) -> int:
    """Fetch again and again; return how often it was cut."""
    for cuts in range(limit):
        try:
            if DOWNLOADER.fetch(url, path, length=len(DATA)).complete:
                return cuts
        except LinkError as error:
            assert error.code == "download-cut"
    raise AssertionError("never complete")


def test_whole_file(server: RangeServer, tmp_path: Path) -> None:
    """An undisturbed download is one request and the very bytes."""
    path = tmp_path / "file"
    fetched = DOWNLOADER.fetch(serve(server), path, length=len(DATA))
    assert fetched.complete
    assert fetched.received == len(DATA)
    assert path.read_bytes() == DATA
    assert len(server.requests) == 1


def test_cuts_cost_at_most_two_percent(server: RangeServer, tmp_path: Path) -> None:
    """Twenty early closes are each seen, and what was received is not sent again."""
    url, path = serve(server), tmp_path / "file"
    server.cut_after = len(DATA) // 20
    assert fetch_until_complete(url, path) >= 20
    assert path.read_bytes() == DATA
    assert server.sent <= 1.02 * len(DATA)


def test_complete_file_asks_nothing(server: RangeServer, tmp_path: Path) -> None:
    """A file that is whole already is not requested again."""
    url, path = serve(server), tmp_path / "file"
    DOWNLOADER.fetch(url, path, length=len(DATA))
    assert DOWNLOADER.fetch(url, path, length=len(DATA)).received == 0
    assert len(server.requests) == 1


def test_changed_resource_starts_anew(server: RangeServer, tmp_path: Path) -> None:
    """If-Range: bytes of another version are never appended."""
    url, path = serve(server), tmp_path / "file"
    server.cut_after = 1000
    with pytest.raises(LinkError):
        DOWNLOADER.fetch(url, path, length=len(DATA))
    server.files["/bundle"] = DATA[::-1]
    server.cut_after = None
    DOWNLOADER.fetch(url, path, length=len(DATA))
    assert path.read_bytes() == DATA[::-1]


def test_server_that_ignores_ranges_starts_anew(server: RangeServer, tmp_path: Path) -> None:
    """A 200 for a range request is the whole file, not its rest."""
    url, path = serve(server), tmp_path / "file"
    server.cut_after, server.ignore_range = 1000, True
    with pytest.raises(LinkError):
        DOWNLOADER.fetch(url, path, length=len(DATA))
    server.cut_after = None
    DOWNLOADER.fetch(url, path, length=len(DATA))
    assert path.read_bytes() == DATA


@pytest.mark.parametrize("wrong", [len(DATA) - 1, len(DATA) + 1])
def test_other_length_is_refused(server: RangeServer, tmp_path: Path, wrong: int) -> None:
    """The length of signed metadata is exact; a server with another one is refused before its body."""
    with pytest.raises(LinkError) as caught:
        DOWNLOADER.fetch(serve(server), tmp_path / "file", length=wrong)
    assert caught.value.code == "download-length"
    assert str(len(DATA)) in caught.value.message


@pytest.mark.parametrize(("status", "code"), [(404, "http-status"), (500, "http-status")])
def test_status(server: RangeServer, tmp_path: Path, status: int, code: str) -> None:
    """An unexpected status is an error that names it; what was received before stays."""
    url, path = serve(server), tmp_path / "file"
    server.cut_after = 1000
    with pytest.raises(LinkError):
        DOWNLOADER.fetch(url, path, length=len(DATA))
    server.status = status
    with pytest.raises(LinkError, match=str(status)) as caught:
        DOWNLOADER.fetch(url, path, length=len(DATA))
    assert caught.value.code == code
    assert path.stat().st_size == 1000


def test_no_server(tmp_path: Path) -> None:
    """A refused connection is `http-failed`, without user, password or query in its words."""
    with pytest.raises(LinkError) as caught:
        DOWNLOADER.fetch("http://user:secret@127.0.0.1:1/x?token=secret", tmp_path / "file", length=1)
    assert caught.value.code == "http-failed"
    assert "secret" not in caught.value.message


def test_other_schemes_are_refused(tmp_path: Path) -> None:
    """Only http and https are fetched."""
    with pytest.raises(ConfigError):
        DOWNLOADER.fetch("file:///etc/passwd", tmp_path / "file", length=1)


def test_stop_keeps_what_was_received(server: RangeServer, tmp_path: Path) -> None:
    """An interrupted download says so and is gone on with later."""
    url, path = serve(server), tmp_path / "file"
    fetched = DOWNLOADER.fetch(url, path, length=len(DATA), stop=lambda: True)
    assert not fetched.complete
    assert 0 < path.stat().st_size < len(DATA)
    rest = DOWNLOADER.fetch(url, path, length=len(DATA))
    assert rest.received == len(DATA) - fetched.received
    assert path.read_bytes() == DATA


def test_bandwidth_limit(server: RangeServer, tmp_path: Path) -> None:
    """With a limit the downloader sleeps as long as the bytes should have taken."""
    now = [0.0]
    limited = Downloader(
        bytes_per_second=1 << 20, sleep=lambda seconds: now.append(now.pop() + seconds), monotonic=lambda: now[0]
    )
    limited.fetch(serve(server), tmp_path / "file", length=len(DATA))
    assert now[0] == pytest.approx(2.0)


def test_a_trickle_is_given_up_and_what_came_is_kept(
    server: RangeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slow retrieval: a byte now and then keeps no download under way for ever; the next try goes on at the byte."""
    now = [0.0]

    def slower() -> float:
        now[0] += SLOW_S / 8  # each look at the clock
        return now[0]

    url, path = serve(server), tmp_path / "file"
    with monkeypatch.context() as patch:
        patch.setattr(download, "CHUNK", 16)
        with pytest.raises(LinkError, match="http-slow"):
            Downloader(monotonic=slower).fetch(url, path, length=len(DATA))
    kept = path.stat().st_size
    assert 0 < kept < SLOW_BYTES
    assert DOWNLOADER.fetch(url, path, length=len(DATA)).received == len(DATA) - kept


def test_a_days_allowance(server: RangeServer, tmp_path: Path) -> None:
    """Beyond it nothing is asked for; restarts renew nothing, the next day goes on at the byte, in bounded pieces."""
    kept: dict[str, str] = {}
    day, per_day = ["monday"], len(DATA) * 2 // 5
    url, path = serve(server), tmp_path / "file"

    def life() -> Downloader:
        save = functools.partial(kept.__setitem__, "downloaded")
        return Downloader(
            allowance=Allowance(per_day, today=lambda: day[0], load=lambda: kept.get("downloaded"), save=save)
        )

    for requests, (today, share) in enumerate((("monday", 2), ("tuesday", 4)), start=1):
        day[0] = today
        for _ in range(3):
            with pytest.raises(DeploymentError, match="download-budget"):
                life().fetch(url, path, length=len(DATA))
        assert len(server.requests) == requests
        assert 0 <= path.stat().st_size - len(DATA) * share // 5 <= 2 * CHUNK
    day[0] = "wednesday"
    assert life().fetch(url, path, length=len(DATA)).complete
    assert path.read_bytes() == DATA
    assert int(kept["downloaded"].split()[0]) <= len(DATA) // 5


def test_damaged_sidecar_starts_anew(server: RangeServer, tmp_path: Path) -> None:
    """Bytes of unknown origin are not built upon."""
    url, path = serve(server), tmp_path / "file"
    path.write_bytes(b"junk")
    path.with_name("file.json").write_bytes(b"{")
    DOWNLOADER.fetch(url, path, length=len(DATA))
    assert path.read_bytes() == DATA
    discard(path)
    assert list(tmp_path.iterdir()) == []


def test_kill_and_server_restarts(tmp_path: Path) -> None:
    """Killed three times, with a server that restarts in between, each run goes on at the very byte."""
    path, port, sizes, offsets = tmp_path / "file", 0, [0], []
    child = (
        "import sys; from pathlib import Path; from edgesdk_agent.ota.download import Downloader\n"
        "Downloader(bytes_per_second=int(sys.argv[4])).fetch("
        "sys.argv[1], Path(sys.argv[2]), length=int(sys.argv[3]))"
    )
    for attempt in range(4):
        server = RangeServer(port)
        port = server.port
        rate = 400_000 if attempt < 3 else 0
        process = subprocess.Popen([sys.executable, "-c", child, serve(server), path, str(len(DATA)), str(rate)])
        if attempt < 3:
            wanted = (attempt + 1) * len(DATA) // 5
            while process.poll() is None and (not path.exists() or path.stat().st_size < wanted):
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
        assert process.wait(60) == (-signal.SIGKILL if attempt < 3 else 0)
        sizes.append(path.stat().st_size)
        offsets += [int(header.removeprefix("bytes=").rstrip("-")) if header else 0 for _, header in server.requests]
        server.close()
    assert path.read_bytes() == DATA
    assert offsets == sizes[:4]


def test_full_disk_is_named(server: RangeServer, tmp_path: Path) -> None:
    """A file-size limit (as a full disk) ends a download with `disk-full`; what fitted stays."""
    child = (
        "import resource, sys; from pathlib import Path; from edgesdk_agent.ota.download import Downloader\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "from edgesdk.errors import DeploymentError\n"
        "try:\n"
        f"    Downloader().fetch(sys.argv[1], Path(sys.argv[2]), length={len(DATA)})\n"
        "except DeploymentError as error:\n"
        "    sys.exit(error.code)"
    )
    path = tmp_path / "file"
    done = subprocess.run(
        [sys.executable, "-c", child, serve(server), path], capture_output=True, text=True, check=False
    )
    assert done.stderr.strip() == DeploymentError("disk-full", "").code
    assert path.stat().st_size <= 1 << 20
    DOWNLOADER.fetch(server.url + "/bundle", path, length=len(DATA))
    assert path.read_bytes() == DATA
