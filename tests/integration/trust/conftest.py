"""A real repository, served over real HTTP on loopback, and releases to publish."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Signed

from edgesdk.bundle.archive import BundleFile, file_entry, write_bundle
from edgesdk.bundle.manifest import (
    BUNDLE_SCHEMA,
    GoldenSet,
    Manifest,
    Requirements,
    RuntimeRequirement,
    Stage,
    Truth,
)
from edgesdk.bundle.release import write_release
from edgesdk.contract import Binding, Bindings, Contract, TensorSpec
from edgesdk.trust.change import Expiry
from edgesdk.trust.client import UpdateClient
from edgesdk.trust.fetcher import HttpFetcher
from edgesdk.trust.keyring import KeyRing
from edgesdk.trust.repository import Options, first_root, init_repository, publish_release

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


@dataclass
class Server:
    """Serves a folder; `answers` replaces the answer to one path, `seen` lists the paths asked for."""

    url: str
    answers: dict[str, Callable[[SimpleHTTPRequestHandler], None]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)

    def replace(self, path: str, data: bytes) -> None:
        def answer(handler: SimpleHTTPRequestHandler) -> None:
            handler.send_response(200)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data)

        self.answers[path] = answer

    def status(self, path: str, status: int) -> None:
        def answer(handler: SimpleHTTPRequestHandler) -> None:
            handler.send_response(status)
            handler.send_header("Location", "/elsewhere")
            handler.send_header("Content-Length", "0")
            handler.end_headers()

        self.answers[path] = answer


@pytest.fixture
def serve() -> Iterator[Callable[[Path], Server]]:
    running: list[ThreadingHTTPServer] = []

    def start(folder: Path) -> Server:
        server = Server("")

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                server.seen.append(self.path)
                answer = server.answers.get(self.path)
                try:
                    if answer is None:
                        super().do_GET()
                    else:
                        answer(self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True  # the client hung up: that is what several tests are about

            def log_message(self, *_: object) -> None:
                pass

        http = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
        threading.Thread(target=http.serve_forever, args=(0.01,), daemon=True).start()
        running.append(http)
        server.url = f"http://127.0.0.1:{http.server_port}"
        return server

    yield start
    for http in running:
        http.shutdown()
        http.server_close()


def make_bundle(
    path: Path, *, model: str = "digits", release: str = "1.0.0", weight: bytes = b"w", truth: bool = False
):
    files = {"model.tflite": b"\x1c\0\0\0TFL3" + weight * 100}
    golden = GoldenSet()
    if truth:
        files |= {"golden/x.npy": b"x", "golden/labels.npy": b"l"}
        golden = GoldenSet(
            truth=Truth(count=1, inputs={"x": "golden/x.npy"}, labels="golden/labels.npy", label_names=("a", "b"))
        )
    bindings = Bindings(
        inputs=(Binding(tensor="x", artifact_name="x", index=0, dtype="float32", shape=(1, 4)),),
        outputs=(Binding(tensor="y", artifact_name="y", index=0, dtype="float32", shape=(1, 2)),),
    )
    manifest = Manifest(
        schema=BUNDLE_SCHEMA,
        model=model,
        release=release,
        variant="linux-x86_64-cpu.tflite",
        target="linux-x86_64-cpu",
        contract=Contract(
            version="1.0",
            task="classification",
            inputs=(TensorSpec(name="x", shape=(1, 4)),),
            outputs=(TensorSpec(name="y", shape=(1, 2)),),
            labels=("a", "b"),
        ),
        requirements=Requirements(
            runtimes=(RuntimeRequirement(name="tflite", min_version="2.14"),), architectures=("x86_64",)
        ),
        stages=(Stage(name="main", artifact="model.tflite", runtime="tflite", bindings=bindings),),
        files=tuple(
            file_entry(name, data, "application/octet-stream", "artifact" if name == "model.tflite" else "golden")
            for name, data in files.items()
        ),
        golden=golden,
    )
    return write_bundle(path, manifest, files)


@pytest.fixture
def make_release(tmp_path: Path) -> Callable[..., Path]:
    def make(release: str = "1.0.0", *, weight: bytes = b"w", built_at: str = "2024-01-01T00:00:00Z") -> Path:
        folder = tmp_path / f"release-{release}-{weight.decode()}"
        folder.mkdir(exist_ok=True)
        bundle = make_bundle(folder / f"digits-{release}.edge", release=release, weight=weight)
        write_release(folder, [bundle.path], built_at=built_at)
        return folder

    return make


@dataclass
class Repo:
    """A repository with its keys, and what tests do to it."""

    path: Path
    keys: Path
    clients: Path
    options: Options

    @property
    def root(self) -> bytes:
        return first_root(self.path)

    def at(self, **delta: float) -> Options:
        return Options(now=lambda: NOW + timedelta(**delta), write=self.options.write)

    def client(self, url: str, name: str = "device", *, now: datetime = NOW, deadline: float = 30.0) -> UpdateClient:
        fetcher = HttpFetcher(timeout=10.0, deadline=deadline)
        return UpdateClient(self.clients / name, url, trusted_root=self.root, now=lambda: now, fetcher=fetcher)

    def ring(self) -> KeyRing:
        return KeyRing(self.keys, None)

    def metadata(self, name: str) -> Metadata:
        return Metadata.from_bytes((self.path / "metadata" / name).read_bytes())

    def signed(self, role: str, signed: Signed, keyids: list[str], count: int | None = None) -> bytes:
        """Sign whatever a thief of these keys would sign."""
        made = Metadata(signed)
        for signer in self.ring().signers(role, keyids, 1)[:count]:
            made.sign(signer, append=True)
        return made.to_bytes()

    def keyids(self, role: str) -> list[str]:
        newest = max((self.path / "metadata").glob("*.root.json"), key=lambda path: int(path.name.split(".")[0]))
        return list(self.metadata(newest.name).signed.roles[role].keyids)


@pytest.fixture
def new_repo(tmp_path: Path) -> Callable[..., Repo]:
    def make(threshold: int = 1, expiry: Expiry | None = None) -> Repo:
        options = Options(now=lambda: NOW, expiry=expiry or Expiry())
        repo = Repo(tmp_path / "repo", tmp_path / "keys", tmp_path / "clients", options)
        init_repository(repo.path, repo.keys, threshold=threshold, options=repo.options)
        return repo

    return make


@pytest.fixture
def repo(new_repo: Callable[..., Repo], make_release: Callable[..., Path]) -> Repo:
    made = new_repo()
    publish_release(made.path, made.keys, make_release(), options=made.options)
    return made


@pytest.fixture
def make_anchor(tmp_path: Path) -> Callable[..., BundleFile]:
    def make(*, model: str = "digits", truth: bool = True) -> BundleFile:
        return make_bundle(tmp_path / f"anchor-{model}-{truth}.edge", model=model, truth=truth)

    return make
