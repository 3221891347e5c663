"""What a bundle's bytes are, and that nothing else is accepted."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import subprocess
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgesdk.bundle import layout as layout_module
from edgesdk.bundle.archive import BundleFile, file_entry, open_bundle, repack, write_bundle
from edgesdk.bundle.decode import encode_manifest
from edgesdk.bundle.layout import Entry, layout
from edgesdk.bundle.manifest import Manifest
from edgesdk.errors import ConfigError, DeploymentError, ReleaseError

FILES = {"model.tflite": b"\x1c\0\0\0TFL3" + bytes(5000), "golden/x.npy": b"x" * 77, "labels.txt": b""}
Rewrite = Callable[[bytes], Path]
on_one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=150)


def refused(path: Path) -> str:
    with pytest.raises(ReleaseError) as caught, open_bundle(path) as bundle:
        bundle.verify()
    return caught.value.code


def test_reads_back_what_was_written(written: BundleFile, manifest: Manifest) -> None:
    """Manifest, contents, size and hash survive the way through the file."""
    with open_bundle(written.path) as bundle:
        assert bundle.manifest.contract == manifest.contract
        assert {name: bundle.read(name) for name in bundle.entries} == FILES
        assert bundle.sha256() == written.sha256 == hashlib.sha256(written.path.read_bytes()).hexdigest()
        assert bundle.size == written.size == written.path.stat().st_size
        bundle.verify()


def test_bytes_do_not_depend_on_order_place_or_source(tmp_path: Path, written: BundleFile, manifest: Manifest) -> None:
    """The same content gives the same file, whatever the order of names and wherever contents come from."""
    source = tmp_path / "artifact"
    source.write_bytes(FILES["model.tflite"])
    sources: dict[str, bytes | Path] = {**dict(reversed(FILES.items())), "model.tflite": source}
    again = write_bundle(tmp_path / "again.edge", manifest, sources)
    assert again.path.read_bytes() == written.path.read_bytes()


def test_artifact_can_be_mapped(written: BundleFile) -> None:
    """The artifact's bytes begin at a multiple of 4096, everything else at a multiple of 64."""
    data = written.path.read_bytes()
    assert data.index(FILES["model.tflite"]) % 4096 == 0
    assert data.index(FILES["golden/x.npy"]) % 64 == 0
    assert data.index(b'{"contract"') % 64 == 0


def test_zipfile_sees_the_same(written: BundleFile) -> None:
    """Python's zipfile finds the same names and contents, manifest first, every time stamp 1980-01-01."""
    with zipfile.ZipFile(written.path) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["manifest.json", *sorted(FILES)]
        assert {name: archive.read(name) for name in FILES} == FILES
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


@pytest.mark.skipif(shutil.which("unzip") is None, reason="needs the Debian package unzip")
def test_unzip_accepts_it(written: BundleFile) -> None:
    """Info-ZIP tests the archive without a warning."""
    done = subprocess.run(["unzip", "-t", str(written.path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_repacking_the_unpacked_folder_gives_the_same_bytes(tmp_path: Path, written: BundleFile) -> None:
    """A generation's folder holds all there is to know about its bundle."""
    folder = tmp_path / "unpacked"
    with open_bundle(written.path) as bundle:
        bundle.extract(folder)
    assert repack(folder, tmp_path / "again.edge").path.read_bytes() == written.path.read_bytes()


def test_extracted_files_are_read_only_and_nothing_else_is_there(tmp_path: Path, written: BundleFile) -> None:
    """Unpacking makes the files of the manifest with mode 0444, and only those."""
    folder = tmp_path / "unpacked"
    with open_bundle(written.path) as bundle:
        bundle.extract(folder)
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    assert set(found) == {"manifest.json", *FILES}
    assert {path.stat().st_mode & 0o777 for path in found.values()} == {0o444}


def test_extract_refuses_a_folder_that_is_not_empty(tmp_path: Path, written: BundleFile) -> None:
    """Unpacking never mixes with what was there before."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "old").touch()
    with open_bundle(written.path) as bundle, pytest.raises(ConfigError, match="not empty"):
        bundle.extract(tmp_path / "full")


def test_a_full_disk_is_said(tmp_path: Path, written: BundleFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """No space while unpacking is the device's trouble, not the bundle's."""

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with open_bundle(written.path) as bundle, pytest.raises(DeploymentError) as caught:
        bundle.extract(tmp_path / "unpacked")
    assert caught.value.code == "disk-full"


def test_every_single_flipped_byte_is_refused(written: BundleFile, rewrite: Rewrite) -> None:
    """No byte of a bundle is free: headers, padding, contents and directory, every one of them."""
    data = written.path.read_bytes()
    artifact = data.index(FILES["model.tflite"])
    contents = range(artifact + 64, artifact + 4990)  # 5000 zeros: a sample is enough
    chosen = [at for at in range(len(data)) if at not in contents] + list(contents)[::97]
    noise = random.Random(1)
    for at in noise.sample(chosen, 700):
        changed = bytearray(data)
        changed[at] ^= 1 << noise.randrange(8)
        refused(rewrite(bytes(changed)))


@on_one_folder
@given(share=st.floats(0, 1), cut=st.floats(0, 1), inserted=st.binary(max_size=40))
def test_any_splice_is_refused(
    written: BundleFile, rewrite: Rewrite, share: float, cut: float, inserted: bytes
) -> None:
    """Cutting, inserting or replacing a piece anywhere is refused, unless it changes nothing."""
    data = written.path.read_bytes()
    start = int(share * len(data))
    end = start + int(cut * min(400, len(data) - start))
    changed = data[:start] + inserted + data[end:]
    if changed != data:
        refused(rewrite(changed))


@pytest.mark.parametrize("keep", [0, 1, 3, 4, 21, 22, 30, 500, -23, -22, -1])
def test_truncation_is_refused(written: BundleFile, rewrite: Rewrite, keep: int) -> None:
    """A file that ends early is refused with a code that says so."""
    code = refused(rewrite(written.path.read_bytes()[:keep]))
    assert code in {"bundle-truncated", "bundle-not-a-bundle", "bundle-not-canonical"}


@on_one_folder
@given(data=st.binary(max_size=400))
def test_reader_raises_nothing_but_release_errors_on_noise(rewrite: Rewrite, data: bytes) -> None:
    """Arbitrary bytes, also with the right beginning and end, give a ReleaseError."""
    refused(rewrite(data))
    end = b"PK\5\6" + data[:18].ljust(18, b"\0")
    refused(rewrite(b"PK\3\4" + data + end))


names = st.sampled_from(["manifest.json", "model.tflite", "../evil", "/abs", "a\\b", "", "x" * 200, "golden/x.npy"])


@on_one_folder
@given(
    entries=st.lists(st.tuples(names, st.binary(max_size=60), st.sampled_from([1, 64, 4096])), min_size=1, max_size=5)
)
def test_reader_refuses_well_formed_archives_that_are_no_bundles(
    rewrite: Rewrite, entries: list[tuple[str, bytes, int]]
) -> None:
    """Archives with sound headers but other names, order, alignment or manifest are refused, never believed."""
    plan = layout([Entry(name, len(data), zlib.crc32(data), alignment) for name, data, alignment in entries])
    body = b"".join(place.header + data for place, (_name, data, _alignment) in zip(plan.placed, entries, strict=True))
    refused(rewrite(body + plan.tail))


def test_what_an_archiver_makes_of_it_is_refused(tmp_path: Path, written: BundleFile) -> None:
    """The same files packed by zipfile are no bundle: there is one encoding."""
    with zipfile.ZipFile(written.path) as archive, zipfile.ZipFile(tmp_path / "z.edge", "w") as other:
        for name in archive.namelist():
            other.writestr(name, archive.read(name))
    assert refused(tmp_path / "z.edge") == "bundle-not-canonical"


def test_a_changed_file_with_a_right_checksum_is_refused_by_its_hash(
    written: BundleFile, manifest: Manifest, rewrite: Rewrite
) -> None:
    """A forger who recomputes all headers still meets the manifest's SHA-256."""
    files = {"manifest.json": encode_manifest(manifest), **dict(sorted(FILES.items()))}
    files["golden/x.npy"] = b"y" * 77
    entries = [
        Entry(name, len(data), zlib.crc32(data), 4096 if name == "model.tflite" else 64) for name, data in files.items()
    ]
    plan = layout(entries)
    body = b"".join(place.header + files[place.entry.name] for place in plan.placed)
    path = rewrite(body + plan.tail)
    with open_bundle(path) as bundle:
        assert bundle.read("model.tflite") == FILES["model.tflite"]
        with pytest.raises(ReleaseError) as caught:
            bundle.read("golden/x.npy")
    assert caught.value.code == "bundle-hash"


@pytest.mark.parametrize("change", ["order", "alignment", "extra", "missing", "renamed", "manifest-last"])
def test_a_right_manifest_in_another_archive_is_refused(
    written: BundleFile, manifest: Manifest, rewrite: Rewrite, change: str
) -> None:
    """Sound headers and sound contents are not enough: names, order and padding are the manifest's or nothing."""
    files = {"manifest.json": encode_manifest(manifest), **dict(sorted(FILES.items()))}
    alignments = {"model.tflite": 64 if change == "alignment" else 4096}
    if change == "order":
        files = {name: files[name] for name in ("manifest.json", "model.tflite", "golden/x.npy", "labels.txt")}
    elif change == "manifest-last":
        files["manifest.json"] = files.pop("manifest.json")
    elif change == "extra":
        files["zzz"] = b""
    elif change == "missing":
        del files["golden/x.npy"]
    elif change == "renamed":
        files = {name.replace("x.npy", "w.npy"): data for name, data in files.items()}
    plan = layout([Entry(name, len(data), zlib.crc32(data), alignments.get(name, 64)) for name, data in files.items()])
    data = b"".join(place.header + files[place.entry.name] for place in plan.placed) + plan.tail
    assert data != written.path.read_bytes()
    assert refused(rewrite(data)) == "bundle-not-canonical"


def test_limits_are_said_before_anything_is_read(
    tmp_path: Path, written: BundleFile, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file too large for its reader, a bundle too large for its format: both name the limit."""
    with open_bundle(written.path) as bundle, pytest.raises(ReleaseError, match="4999 is the most") as caught:
        bundle.read("model.tflite", max_bytes=4999)
    assert caught.value.code == "bundle-limit"
    monkeypatch.setattr(layout_module, "MAX_BUNDLE_BYTES", 9000)
    with pytest.raises(ReleaseError, match="9000 is the most"):
        write_bundle(tmp_path / "big.edge", manifest, {**FILES})
    assert not (tmp_path / "big.edge").exists()


def test_a_sparse_file_of_five_gigabytes_is_refused_by_its_size(tmp_path: Path) -> None:
    """The size is judged before a byte is read."""
    path = tmp_path / "huge.edge"
    path.touch()
    os.truncate(path, 5 << 30)
    assert refused(path) == "bundle-limit"


def test_writer_refuses_contents_that_differ_from_the_manifest(tmp_path: Path, manifest: Manifest) -> None:
    """A manifest that lies about a file is not packed, and no half file is left behind."""
    with pytest.raises(ReleaseError) as caught:
        write_bundle(tmp_path / "x.edge", manifest, {**FILES, "labels.txt": b"other"})
    assert caught.value.code == "bundle-hash"
    with pytest.raises(ReleaseError, match=r"only among the files"):
        write_bundle(tmp_path / "x.edge", manifest, {**FILES, "more.txt": b""})
    assert list(tmp_path.iterdir()) == []


def test_missing_file_fifo_and_folder(tmp_path: Path) -> None:
    """What is no regular file gets an answer, at once."""
    with pytest.raises(ConfigError, match="no file"):
        open_bundle(tmp_path / "absent.edge")
    os.mkfifo(tmp_path / "fifo")
    assert refused(tmp_path / "fifo") == "bundle-not-a-bundle"
    assert refused(tmp_path) == "bundle-not-a-bundle"


def test_file_entry_measures_bytes_and_files_alike(tmp_path: Path) -> None:
    """Size and hash are those of the contents."""
    (tmp_path / "f").write_bytes(b"abc")
    assert file_entry("f", b"abc", "text/plain", "other") == file_entry("f", tmp_path / "f", "text/plain", "other")
