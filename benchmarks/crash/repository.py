"""The releases of the explorer's world, and a small HTTP server for them (ETag, Range, If-Range)."""

from __future__ import annotations

import hashlib
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

from edgesdk_agent.workers.messages import Offer, TargetFile

from edgesdk.bundle.archive import file_entry, write_bundle
from edgesdk.bundle.manifest import (
    BUNDLE_SCHEMA,
    RELEASE_SCHEMA,
    Manifest,
    ReleaseIndex,
    Requirements,
    RuntimeRequirement,
    Stage,
    VariantEntry,
)
from edgesdk.contract import Binding, Bindings, Contract, TensorSpec

MODEL = "wearable"
CONTENTS = {
    "0.9.0": "good",
    "1.0.0": "good",
    "2.0.0": "good",
    "3.0.0": "good",
    "4.0.0": "nan",
    "5.0.0": "worse",
    "9.0.0": "good",
    "anchor": "good",
}
"""What each release is like: ``worse`` fails its test, ``nan`` fails its trial."""
ARTIFACT_BYTES = 24 * 1024
BUILT = "2026-11-23T00:00:00.000Z"
_REQUIREMENTS = Requirements(
    runtimes=(RuntimeRequirement(name="onnxruntime", min_version="1.0"),), architectures=("x86_64",)
)
_CONTRACT = Contract(
    version="1.0",
    task="classification",
    inputs=(TensorSpec(name="x", shape=(1, 4)),),
    outputs=(TensorSpec(name="y", shape=(1, 2)),),
    labels=("a", "b"),
)
_STAGE = Stage(
    name="main",
    artifact="model.onnx",
    runtime="onnxruntime",
    bindings=Bindings(
        inputs=(Binding(tensor="x", artifact_name="x", index=0, dtype="float32", shape=(1, 4)),),
        outputs=(Binding(tensor="y", artifact_name="y", index=0, dtype="float32", shape=(1, 2)),),
    ),
)


def build_bundles(folder: Path) -> None:
    """Write a bundle for every release of `CONTENTS` into the existing folder; the same bytes every time."""
    for release, content in CONTENTS.items():
        noise = b"".join(hashlib.sha256(f"{release} {n}".encode()).digest() for n in range(ARTIFACT_BYTES // 32))
        behaviour = json.dumps({"content": content}).encode()
        files: dict[str, bytes | Path] = {"model.onnx": noise, "golden/behaviour.json": behaviour}
        number = "0.0.1" if release == "anchor" else release
        manifest = Manifest(
            schema=BUNDLE_SCHEMA,
            model=MODEL,
            release=number,
            variant="cpu",
            target="linux-x86_64-cpu",
            contract=_CONTRACT,
            requirements=_REQUIREMENTS,
            stages=(_STAGE,),
            files=(
                file_entry("model.onnx", noise, "application/octet-stream", "artifact"),
                file_entry("golden/behaviour.json", behaviour, "application/json", "golden"),
            ),
        )
        write_bundle(folder / f"{release}.edge", manifest, files)


def offer_of(folder: Path, url: str, release: str, *, anchored: bool = False) -> Offer:
    """Return what the trust worker would say that the repository has for a release."""
    bundle = _target(folder, url, release)
    entry = VariantEntry(
        variant="cpu",
        target="linux-x86_64-cpu",
        bundle="cpu.edge",
        size=bundle.length,
        sha256=bundle.sha256,
        requirements=_REQUIREMENTS,
    )
    index = ReleaseIndex(
        schema=RELEASE_SCHEMA, model=MODEL, release=release, built_at=BUILT, contract_version="1.0", variants=(entry,)
    )
    anchor = _target(folder, url, "anchor") if anchored else None
    return Offer(index=index, targets={"cpu.edge": bundle}, anchor=anchor)


def _target(folder: Path, url: str, release: str) -> TargetFile:
    data = (folder / f"{release}.edge").read_bytes()
    path = f"{release}.edge"
    return TargetFile(path=path, url=f"{url}/{path}", length=len(data), sha256=hashlib.sha256(data).hexdigest())


def serve(folder: Path) -> ThreadingHTTPServer:
    """Serve a folder on a free port of the loopback, from a thread of this process."""
    files = {f"/{path.name}": path.read_bytes() for path in folder.glob("*.edge")}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = files[self.path]
            etag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
            wanted = self.headers.get("Range") if self.headers.get("If-Range") in {None, etag} else None
            start = int(wanted.removeprefix("bytes=").partition("-")[0]) if wanted else 0
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("Content-Length", str(len(data) - start))
            self.send_header("ETag", etag)
            self.end_headers()
            self.wfile.write(data[start:])

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True).start()
    return server
