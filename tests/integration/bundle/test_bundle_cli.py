"""The commands that look at bundles, releases and targets, through the real entry point."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer

from edgesdk.bundle.archive import BundleFile, file_entry, write_bundle
from edgesdk.bundle.manifest import BUNDLE_SCHEMA, Manifest, Requirements, RuntimeRequirement, Stage
from edgesdk.bundle.release import bundle_name, load_release, write_release
from edgesdk.cli import bundle, release, targets
from edgesdk.cli.main import run
from edgesdk.contract import Binding, Bindings, Contract, TensorSpec
from edgesdk.errors import ReleaseError

BUILT_AT = "2026-11-23T10:00:00.000Z"


def call(app: typer.Typer, *arguments: str) -> int:
    return run(typer.main.get_command(app), list(arguments), name="edge")


def pack(folder: Path, variant: str, release: str = "1.0.0") -> BundleFile:
    spec = Binding(tensor="x", artifact_name="x", index=0, dtype="float32", shape=(1, 2))
    manifest = Manifest(
        schema=BUNDLE_SCHEMA,
        model="digits",
        release=release,
        variant=variant,
        target="linux-arm64-cpu",
        contract=Contract(
            version="1.0",
            task="regression",
            inputs=(TensorSpec(name="x", shape=(1, 2), unit="g", range=(0, 1)),),
            outputs=(TensorSpec(name="y", shape=(1, 2)),),
        ),
        requirements=Requirements(
            runtimes=(RuntimeRequirement(name="tflite", min_version="2.14", package="tflite-runtime"),),
            architectures=("aarch64",),
        ),
        stages=(
            Stage(
                name="main",
                artifact="m.tflite",
                runtime="tflite",
                bindings=Bindings(
                    inputs=(spec,),
                    outputs=(Binding(tensor="y", artifact_name="y", index=0, dtype="float32", shape=(1, 2)),),
                ),
            ),
        ),
        files=(file_entry("m.tflite", b"TFL3", "application/octet-stream", "artifact"),),
    )
    return write_bundle(folder / bundle_name("digits", release, variant), manifest, {"m.tflite": b"TFL3"})


def test_inspect_shows_what_matters(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A person sees contract, requirements and files; a script sees the whole manifest."""
    packed = pack(tmp_path, "small")
    assert call(bundle.app, "inspect", str(packed.path)) == 0
    text = capsys.readouterr().out
    assert "digits 1.0.0, variant small" in text
    assert "x float32 [1, 2] (g) (within [0.0, 1.0])" in text
    assert "tflite-runtime >= 2.14; aarch64" in text
    assert call(bundle.app, "inspect", str(packed.path), "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["sha256"], found["manifest"]["model"]) == (packed.sha256, "digits")


def test_verify_says_whole_or_what_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A whole bundle exits 0; a changed one exits 4 with its code and a hint."""
    packed = pack(tmp_path, "small")
    assert call(bundle.app, "verify", str(packed.path), "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"ok": True, "sha256": packed.sha256, "size": packed.size, "files": 1}
    data = packed.path.read_bytes()
    packed.path.write_bytes(data.replace(b"TFL3", b"TFL4"))
    assert call(bundle.app, "verify", str(packed.path), "--json") == 4
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "bundle-hash"
    assert call(bundle.app, "verify", str(tmp_path / "absent.edge")) == 2
    assert "[file-missing]" in capsys.readouterr().err


def test_release_folder_round_trip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What `write_release` indexed, `load_release` checks and `edge release show` prints."""
    paths = [pack(tmp_path, variant).path for variant in ("small", "large")]
    index = write_release(tmp_path, paths, built_at=BUILT_AT, precisions={"small": "int8"}, notes="first")
    assert load_release(tmp_path) == index
    assert [(entry.variant, entry.precision) for entry in index.variants] == [("small", "int8"), ("large", "float32")]
    for path in (tmp_path, tmp_path / "release.json"):
        assert call(release.app, "show", str(path)) == 0
        assert "digits 1.0.0, contract 1.0, built 2026-11-23" in capsys.readouterr().out
    assert call(release.app, "show", str(tmp_path), "--json") == 0
    assert json.loads(capsys.readouterr().out)["variants"][0]["variant"] == "small"


def test_a_release_with_an_exchanged_bundle_is_refused(tmp_path: Path) -> None:
    """The index names hashes: another bundle of the same name does not pass."""
    packed = pack(tmp_path, "small")
    write_release(tmp_path, [packed.path], built_at=BUILT_AT)
    other = pack(tmp_path, "large")
    other.path.replace(packed.path)
    with pytest.raises(ReleaseError) as caught:
        load_release(tmp_path)
    assert caught.value.code == "bundle-hash"


def test_bundles_that_do_not_belong_together_make_no_release(tmp_path: Path) -> None:
    """One release is one model, one version, one contract; variants have names of their own."""
    paths = [pack(tmp_path, "small").path, pack(tmp_path, "small", "2.0.0").path]
    with pytest.raises(ReleaseError, match="do not belong to one release"):
        write_release(tmp_path, paths, built_at=BUILT_AT)
    with pytest.raises(ReleaseError, match="'small' twice"):
        write_release(tmp_path, [paths[0], paths[0]], built_at=BUILT_AT)
    with pytest.raises(ReleaseError, match="does not lie in"):
        write_release(tmp_path / "..", [paths[0]], built_at=BUILT_AT)
    with pytest.raises(ReleaseError, match="no bundle"):
        write_release(tmp_path, [], built_at=BUILT_AT)


def test_targets_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    """Every profile can be read; an unknown one exits 6 and says what shows the known ones."""
    assert call(targets.app, "list", "--json") == 0
    listed = {each["name"]: each["status"] for each in json.loads(capsys.readouterr().out)["targets"]}
    deployable = [name for name, status in listed.items() if status == "deployable"]
    assert deployable == ["linux-arm64-cpu", "linux-armv7-cpu", "linux-x86_64-cpu"]
    for name, status in listed.items():
        assert call(targets.app, "show", name) == 0
        shown = capsys.readouterr().out
        assert status in shown
        assert name not in deployable or "tflite-runtime >= 2.14" in shown
    assert call(targets.app, "show", "toaster") == 6
    assert "`edge targets list` shows all" in capsys.readouterr().err


def test_targets_are_listed_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """The list is grouped by what can be done with a target, small accelerators before big ones."""
    assert call(targets.app, "list") == 0
    lines = capsys.readouterr().out.splitlines()
    heads = [line for line in lines if not line.startswith(" ")]
    assert [head.partition(":")[0] for head in heads] == ["deployable", "export-only"]
    names = [line.split()[0] for line in lines if line.startswith("  ethos-u55")]
    assert names == ["ethos-u55-32", "ethos-u55-64", "ethos-u55-128", "ethos-u55-256"]


def test_an_export_only_target_says_what_was_not_measured(capsys: pytest.CaptureFixture[str]) -> None:
    """Nobody must take a simulator's word for the chip's."""
    for name in ("ethos-u55-128", "rk3588", "jetson-orin-gpu", "qualcomm-htp"):
        assert call(targets.app, "show", name) == 0
        shown = " ".join(capsys.readouterr().out.split())
        assert "no agent picks it" in shown
        assert "Nothing was measured on" in shown


def test_a_bundle_is_extracted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What no agent deploys is taken out of its bundle by hand; a folder with something in it is left alone."""
    packed = pack(tmp_path, "linux-arm64-cpu-onnx-float")
    out = tmp_path / "out"
    assert call(bundle.app, "extract", str(packed.path), "-o", str(out), "--json") == 0
    [artifact] = json.loads(capsys.readouterr().out)["artifacts"]
    assert (out / artifact).is_file()
    assert call(bundle.app, "extract", str(packed.path), "-o", str(out)) == 2
    assert "not empty" in capsys.readouterr().err
