"""Vendor tools in environments of their own: made once, on first use, and run as child processes.

A tool's pins conflict with ours (rknn-toolkit2 wants another onnx, protobuf and numpy), and a tool may crash, hang, or
end with success without having done anything. So each gets a virtual environment under the user's cache, and `run_tool`
makes a typed error of each of the three, with the tool's own words.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgesdk.canonical import canonical_json, sha256_hex
from edgesdk.errors import ConfigError, ReleaseError
from edgesdk_converters.running.cache import default_cache_dir
from edgesdk_converters.running.isolation import last_words

INSTALL_TIMEOUT_S = 1800.0
RECORD = "environment.json"
"""In every finished environment: what it was made from."""
ON_DISK_MB = {"onnx2tf": 2461, "qnn": 380, "rknn": 1308, "tensorrt-rtx": 220, "torch": 903, "vela": 70}
"""What environments take, measured on x86-64 with the CPU's build of PyTorch."""
Report = Callable[[str], None]
"""Called with one line for people."""
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True)
class Environment:
    """What a tool needs.

    Attributes:
        name: Short, for people and folder names.
        python: Python version, for example ``"3.11"``.
        packages: Requirements with exact versions.
        no_deps: Whether `packages` are the whole list, dependencies included.
    """

    name: str
    python: str = "3.11"
    packages: tuple[str, ...] = ()
    no_deps: bool = False

    @property
    def key(self) -> str:
        """Return its identity: another package list is another environment."""
        return f"{self.name}-{sha256_hex(canonical_json(asdict(self)))[:16]}"


@dataclass(frozen=True, kw_only=True)
class ToolRun:
    """A tool that ended well.

    Attributes:
        stdout: What it printed.
        stderr: The same for its second stream.
        seconds: Wall time.
    """

    stdout: str
    stderr: str
    seconds: float


def environments_dir(cache_dir: Path | None = None) -> Path:
    """Return where environments are: under `cache_dir`, else ``$EDGESDK_ENVIRONMENTS``, else the user's cache."""
    if cache_dir is None and (given := os.environ.get("EDGESDK_ENVIRONMENTS")):
        return Path(given)
    return (cache_dir or default_cache_dir()) / "environments"


def find(environment: Environment, *, cache_dir: Path | None = None) -> Path | None:
    """Return the Python of an environment that is there and whole; None: it would have to be made."""
    folder = environments_dir(cache_dir) / environment.key
    python = folder / "bin" / "python"
    return python if (folder / RECORD).is_file() and python.exists() else None


def first_uses(wanted: Iterable[Environment | None], *, cache_dir: Path | None = None) -> list[str]:
    """Return a sentence about each environment that is not there yet: making it may take longer than all else.

    Args:
        wanted: What steps need; None where one needs none.
        cache_dir: As in `environments_dir`.
    """
    missing = [each for each in dict.fromkeys(wanted) if each is not None and find(each, cache_dir=cache_dir) is None]
    return [
        f"{each.name} is downloaded first, once, into an environment of its own{_size(each)}: this may take minutes"
        for each in missing
    ]


def _size(environment: Environment) -> str:
    known = ON_DISK_MB.get(environment.name)
    if known is None:
        return ""
    return f" (about {known / 1000:.1f} GB on disk)" if known >= 1000 else f" (about {known} MB on disk)"  # noqa: PLR2004


def ensure(environment: Environment, *, cache_dir: Path | None = None, progress: Report | None = None) -> Path:
    """Return the Python of an environment, which is made first if it is not there.

    It is built aside and renamed when it is whole, under a lock: several processes may ask at once, and what a killed
    one left half made is never used.

    Raises:
        ConfigError: ``environment-failed`` with the installer's words; ``dependency-missing`` without that Python.
    """
    report = progress or (lambda _line: None)
    if (found := find(environment, cache_dir=cache_dir)) is not None:
        return found
    root = environments_dir(cache_dir)
    root.mkdir(parents=True, exist_ok=True)
    with _locked(root / f"{environment.key}.lock", report, environment.name):
        if (found := find(environment, cache_dir=cache_dir)) is not None:
            return found
        for left in root.glob(f".{environment.key}.*.partial"):
            shutil.rmtree(left)
        report(f"making the environment {environment.name}, once: {', '.join(environment.packages)}")
        _make(environment, root)
    python = find(environment, cache_dir=cache_dir)
    assert python is not None, "an environment that was made must be found"
    return python


def run_tool(
    python: Path,
    arguments: Sequence[str],
    *,
    cwd: Path,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
    expect: Sequence[Path] = (),
) -> ToolRun:
    """Run ``python ARGUMENTS…`` in `cwd` and wait; nothing that it started outlives the call.

    Args:
        python: As `ensure` gives it.
        arguments: For example ``["-m", "ethosu.vela.vela", "model.tflite"]``.
        cwd: Working directory.
        timeout_s: Wall time after which it is killed, in seconds.
        environment: Variables beside those of this process (ours and Python's own are taken out).
        expect: Files that it must have written and that must not be empty.

    Raises:
        ReleaseError: ``tool-crashed`` if it ends with a signal or a failure, ``tool-timeout`` if it does not end,
            ``tool-did-nothing`` if it ends well and a file of `expect` is not there; each with the tool's last words.
    """
    with tempfile.TemporaryDirectory(prefix="edgesdk-tool-") as folder:
        logs = Path(folder, "stdout"), Path(folder, "stderr")
        run = _run([str(python), *arguments], cwd=cwd, timeout_s=timeout_s, extra=environment or {}, logs=logs)
        tool, words = _tool_name(arguments), last_words(*logs)
        if run.returncode is None:
            raise ReleaseError("tool-timeout", f"{tool} did not end within {timeout_s:g} s{words}")
        if run.returncode < 0:
            died = signal.Signals(-run.returncode).name
            raise ReleaseError("tool-crashed", f"{tool} died of {died} after {run.seconds:.1f} s{words}")
        if run.returncode > 0:
            raise ReleaseError("tool-crashed", f"{tool} failed with status {run.returncode}{words}")
        missing = [path.name for path in expect if not path.is_file() or path.stat().st_size == 0]
        if missing:
            raise ReleaseError(
                "tool-did-nothing", f"{tool} ended with success, and did not write {', '.join(missing)}{words}"
            )
        stdout, stderr = (log.read_text(errors="replace") for log in logs)
        return ToolRun(stdout=stdout, stderr=stderr, seconds=run.seconds)


@dataclass(frozen=True, kw_only=True)
class _Ended:
    returncode: int | None
    seconds: float


def _run(
    command: Sequence[str], *, cwd: Path, timeout_s: float, extra: Mapping[str, str], logs: tuple[Path, Path]
) -> _Ended:
    """Run a command into log files; a None status says that it was killed when its time was over."""
    started = time.monotonic()
    with logs[0].open("wb") as stdout, logs[1].open("wb") as stderr:
        child = start_tool(command, cwd=cwd, extra=extra, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr)
        try:
            status: int | None = child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # also what it started
            child.wait()
    return _Ended(returncode=status, seconds=round(time.monotonic() - started, 3))


def start_tool(
    command: Sequence[str], *, cwd: Path, extra: Mapping[str, str] | None = None, **streams: Any
) -> subprocess.Popen[bytes]:
    """Start a program in a process group of its own, which dies with this process and sees no secret of ours.

    Args:
        command: The program and its arguments.
        cwd: Working directory.
        extra: Variables beside those of this process.
        **streams: As `subprocess.Popen` takes them.
    """
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=_variables(extra or {}),
        start_new_session=True,
        preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call, its library loaded before
        **streams,
    )


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _variables(extra: Mapping[str, str]) -> dict[str, str]:
    """Return this process's variables without our keys and tokens, and without what changes a Python."""
    ours = ("EDGE_", "PYTHON", "VIRTUAL_ENV", "COV_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {
        **kept,
        "PYTHONHASHSEED": "0",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        "CUDA_VISIBLE_DEVICES": "-1",
        **extra,
    }


def _tool_name(arguments: Sequence[str]) -> str:
    named = arguments[1:2] if arguments[:1] == ["-m"] else [Path(word).name for word in arguments[:1]]
    return next(iter(named), "python")


@contextlib.contextmanager
def _locked(path: Path, report: Report, name: str) -> Iterator[None]:
    with path.open("wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            report(f"waiting for another process that makes the environment {name}")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make(environment: Environment, root: Path) -> None:
    aside = Path(tempfile.mkdtemp(prefix=f".{environment.key}.", suffix=".partial", dir=root))
    try:
        for command in _commands(environment, aside / "made"):
            _install(environment, command, cwd=aside)
        (aside / "made" / RECORD).write_text(json.dumps(asdict(environment)))
        shutil.rmtree(root / environment.key, ignore_errors=True)  # there only if its Python is gone
        (aside / "made").rename(root / environment.key)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _commands(environment: Environment, folder: Path) -> list[list[str]]:
    """Return what makes it: uv where it is, else venv and pip. Both run in a folder without a project's settings."""
    python, packages = str(folder / "bin" / "python"), list(environment.packages)
    alone = ["--no-deps"] if environment.no_deps else []
    uv = shutil.which("uv")
    if uv is not None:
        made = [[uv, "venv", "--quiet", "--relocatable", "--python", _interpreter(environment) or environment.python]]
        made[0].append(str(folder))
        install = [uv, "pip", "install", "--quiet", "--python", python, *alone, *packages]
    else:
        base = _interpreter(environment)
        if base is None:
            raise ConfigError(
                "dependency-missing",
                f"the environment {environment.name} needs Python {environment.python}, which is not on PATH",
                hint="Install that Python, or uv, which brings it.",
            )
        made = [[base, "-m", "venv", str(folder)]]
        install = [python, "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
        install += [*alone, *packages]
    return [*made, install] if packages else made


def _index(environment: Environment) -> dict[str, str]:
    """Return what tells uv to take the CPU's build of PyTorch: a folder of wheels that pip would use, or its index."""
    if not any(package.startswith("torch==") for package in environment.packages):
        return {}
    folder = os.environ.get("PIP_FIND_LINKS")
    return {"UV_FIND_LINKS": folder} if folder else {"UV_TORCH_BACKEND": "cpu"}


def _interpreter(environment: Environment) -> str | None:
    """Return a Python of the wanted version: ours if it is one, else one on PATH."""
    if environment.python == f"{sys.version_info.major}.{sys.version_info.minor}":
        return str(getattr(sys, "_base_executable", sys.executable))
    return shutil.which(f"python{environment.python}")


def _install(environment: Environment, command: Sequence[str], *, cwd: Path) -> None:
    logs = cwd / "stdout", cwd / "stderr"
    ended = _run(command, cwd=cwd, timeout_s=INSTALL_TIMEOUT_S, extra=_index(environment), logs=logs)
    if ended.returncode == 0:
        return
    how = f"took longer than {INSTALL_TIMEOUT_S:g} s" if ended.returncode is None else "could not be made"
    raise ConfigError("environment-failed", f"the environment {environment.name} {how}{last_words(*logs)}")
