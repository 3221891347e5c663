"""The shim misses nothing: the kernel's own list of calls is the shim's."""

from __future__ import annotations

import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from crash.recording import Recording
from crash.repository import build_bundles, serve
from crash.shim import build

TRACED = (
    "open,openat,creat,write,pwrite64,writev,pwritev,ftruncate,truncate,fallocate,fsync,fdatasync,sync_file_range,"
    "rename,renameat,renameat2,unlink,unlinkat,rmdir,link,linkat,symlink,symlinkat,mkdir,mkdirat,chmod,fchmod,fchmodat,"
    "copy_file_range,sendfile,splice"
)
NAMES = {
    "openat": "open",
    "pwrite64": "write",
    "renameat": "rename",
    "unlinkat": "unlink",
    "linkat": "link",
    "mkdirat": "mkdir",
    "fchmod": "chmod",
    "fchmodat": "chmod",
}


def seen_by_kernel(trace: str, root: str) -> list[str]:
    """Return the names of the durable calls below `root`, in order."""
    calls = []
    for line in trace.splitlines():
        name, _, rest = line.partition("(")
        if not re.fullmatch(r"\w+", name) or f"{root}" not in rest:
            continue
        if name == "openat" and "O_CREAT" not in rest and "O_TRUNC" not in rest:
            continue
        removes = name == "unlinkat" and "AT_REMOVEDIR" in rest
        calls.append("rmdir" if removes else NAMES.get(name, name))
    return calls


@pytest.mark.parametrize("scenario", ["update", "reconfigure"])
def test_the_shim_sees_what_the_kernel_sees(tmp_path: Path, scenario: str) -> None:
    """Under strace the recorded run makes exactly the calls that the shim logged, SQLite's included."""
    strace = shutil.which("strace")
    if not strace or subprocess.run([strace, "-qq", "-o", "/dev/null", "true"], check=False).returncode:
        pytest.skip("needs the Debian package strace, and leave to trace")
    for name in ("bundles", "starts", "scratch"):
        (tmp_path / name).mkdir()
    build_bundles(tmp_path / "bundles")
    server = serve(tmp_path / "bundles")
    tasks = "".join(json.dumps({"do": what, "scenario": scenario}) + "\n" for what in ("prepare", "record"))
    folders = [str(tmp_path / name) for name in ("bundles", "starts", "scratch")]
    folders.insert(1, f"http://127.0.0.1:{server.server_port}")
    path = os.pathsep.join([str(Path(__file__).parents[3] / "benchmarks"), os.environ.get("PYTHONPATH", "")])
    tracer = [strace, "-ff", "-qq", "-y", "-s", "4", "-o", tmp_path / "trace", "-e", f"trace={TRACED}"]
    environment = ["-E", f"LD_PRELOAD={build(tmp_path)}", "-E", f"PYTHONPATH={path}"]
    done = subprocess.run(
        [*tracer, *environment, sys.executable, "-m", "crash.worker", *folders, ""],
        input=tasks,
        text=True,
        capture_output=True,
        check=True,
    )
    server.shutdown()
    assert done.stdout.splitlines() == ["{}", "{}"]
    recording = pickle.loads((tmp_path / "starts" / f"{scenario}.recording").read_bytes())
    assert isinstance(recording, Recording)
    child = max(tmp_path.glob("trace.*"), key=lambda each: int(each.suffix[1:]))
    logged = ["fallocate" if call.op == "fallocate" else call.op for call in recording.durable]
    assert seen_by_kernel(child.read_text(), str(tmp_path / "scratch" / "agent")) == logged
