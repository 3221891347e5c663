"""A conversion of the wearable's real model, from float exports to a release folder."""

from __future__ import annotations

import json
import platform

import numpy as np
import pytest
from edgesdk_converters import convert

from edgesdk.bundle.archive import open_bundle
from edgesdk.bundle.golden import load_parity, load_truth
from edgesdk.bundle.release import load_release
from edgesdk.errors import ConfigError
from edgesdk.runtime import open_session
from edgesdk.telemetry.sketches import DDSketch


def bundles(released):
    return sorted(released.folder.glob("*.edge"))


def test_the_folder_is_a_release_that_verifies(released):
    """`load_release` accepts every bundle; there is one per target and format, and nothing else is left beside them."""
    index = load_release(released.folder)
    assert index == released.index
    assert [(entry.target, entry.precision) for entry in index.variants] == [
        ("linux-x86_64-cpu", "int8"),
        ("linux-x86_64-cpu", "int8"),
        ("linux-arm64-cpu", "int8"),
        ("linux-arm64-cpu", "int8"),
    ]
    beside = {path.name for path in released.folder.iterdir() if path.suffix != ".edge"}
    assert beside == {"release.json", "report.json", "report.html"}
    assert len(bundles(released)) == len(index.variants)
    assert not [path for path in released.folder.parent.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("runtime", ["ai-edge-litert", "onnxruntime"])
def test_a_session_on_the_bundle_reproduces_its_golden_outputs(released, tmp_path, runtime):
    """The unpacked bundle runs through `edgesdk.runtime` and gives its own parity outputs within tolerance."""
    suffix = "onnx" if runtime == "onnxruntime" else "tflite"
    [path] = [path for path in bundles(released) if f"x86_64-cpu-{suffix}" in path.name]
    with open_bundle(path) as bundle:
        bundle.extract(tmp_path / "unpacked")
        manifest, parity = bundle.manifest, load_parity(bundle.read, bundle.manifest)
    assert parity is not None
    with open_session(tmp_path / "unpacked", manifest, options={"package": runtime}) as session:
        for index in range(len(parity.inputs["window"])):
            got = session.run({"window": parity.inputs["window"][index]})["probabilities"]
            tolerance = manifest.golden.parity.tolerances["probabilities"].absolute
            np.testing.assert_allclose(got, parity.outputs["probabilities"][index], atol=tolerance)


def test_the_truth_set_is_the_given_one_with_this_release_s_own_marks(released, data):
    """All given examples travel, right or wrong, with each one's correctness under this artifact."""
    with np.load(data / "truth.npz") as arrays:
        x, y = arrays["x"], arrays["y"]
    for path in bundles(released):
        with open_bundle(path) as bundle:
            truth = load_truth(bundle.read, bundle.manifest)
            score = bundle.manifest.golden.truth.score
        np.testing.assert_array_equal(truth.inputs["window"][:, 0], x)
        np.testing.assert_array_equal(truth.labels, y)
        assert score == pytest.approx(truth.correct.mean())
        assert 0.7 < score < 1.0


def test_figures_are_measured_on_the_artifact_and_say_where(released, data):
    """Accuracy, per-class figures and the confusion matrix belong together; another architecture is marked."""
    with np.load(data / "evaluation.npz") as arrays:
        count = len(arrays["y"])
    for entry in released.index.variants:
        evaluation = entry.evaluation
        confusion = np.array(evaluation.details["artifact"]["confusion"])
        assert confusion.sum() == evaluation.samples == count
        assert np.trace(confusion) / count == pytest.approx(evaluation.value)
        assert evaluation.interval[0] <= evaluation.difference <= evaluation.interval[1]
        assert evaluation.on_target == (platform.machine() in entry.requirements.architectures)
        judged_in = "tflite-runtime 2.14" if "tflite" in entry.variant else "onnxruntime"
        assert evaluation.runtime.startswith(judged_in)


def test_requirements_name_only_runtimes_that_loaded_the_artifact(released):
    """A TFLite bundle may run in both implementations, as both were tried."""
    [entry] = [entry for entry in released.index.variants if entry.variant == "linux-arm64-cpu-tflite-int8"]
    assert {runtime.package for runtime in entry.requirements.runtimes} == {"tflite-runtime", "ai-edge-litert"}


def test_requirements_name_what_a_runtime_must_read(released):
    """An ONNX bundle says its operator set and IR version, within the target's ceiling; a TFLite one has none."""
    for entry in released.index.variants:
        found = (entry.requirements.opset, entry.requirements.ir_version)
        if "onnx" in entry.variant:
            assert found[0] <= 21
            assert found[1] <= 10
        else:
            assert found == (None, None)


def test_lineage_names_everything_that_made_it(released):
    """Source, data, tools and recipe are recorded; no time, so that bytes repeat."""
    with open_bundle(bundles(released)[0]) as bundle:
        lineage = bundle.manifest.lineage
    assert set(lineage.data_sha256) == {"calibration", "evaluation", "truth"}
    assert {"litert-quantizer", "onnxruntime", "edgesdk-converters"} <= set(lineage.tools)
    assert lineage.recipe["name"] == "int8"
    assert lineage.built_at is None
    assert released.index.built_at == "2026-01-02T03:04:05.000Z"


def test_reference_statistics_describe_the_answers(released):
    """Class counts add up to the evaluation set and the confidence sketch holds as many values."""
    with open_bundle(bundles(released)[0]) as bundle:
        reference = json.loads(bundle.read(bundle.manifest.reference))
    assert sum(reference["classes"].values()) == reference["samples"]
    sketch = DDSketch.from_dict(reference["confidence"])
    assert sketch.count == reference["samples"]
    assert 0.3 < sketch.quantile(0.5) <= 1.01


def test_a_repetition_is_served_from_the_cache_with_the_same_bytes(released, models, words, tmp_path):
    """Converting again runs no step, gives the same bundles byte for byte and the same index."""
    again = convert(*models, **words, out=tmp_path / "again")
    assert all(step["cached"] for step in again.report["steps"])
    for path in bundles(released):
        assert (again.folder / path.name).read_bytes() == path.read_bytes()
    assert again.index == released.index


def test_a_fresh_conversion_gives_the_same_bytes(released, models, words, tmp_path):
    """Without the cache, in new processes, every tool writes the same bytes again."""
    again = convert(*models, **{**words, "cache_dir": tmp_path / "cache"}, out=tmp_path / "again")
    assert not any(step["cached"] for step in again.report["steps"])
    assert [entry.sha256 for entry in again.index.variants] == [entry.sha256 for entry in released.index.variants]


def test_the_report_holds_no_path_of_this_machine(released, data):
    """Reports travel: files appear by name only."""
    text = (released.folder / "report.json").read_text()
    assert str(data) not in text
    assert "/tmp" not in text
    assert json.loads(text) == json.loads(json.dumps(released.report))


def test_an_existing_folder_is_refused_and_replaced_only_by_force(released, models, words, tmp_path):
    """A release is immutable: its folder is overwritten on request only, and then whole."""
    out = tmp_path / "release"
    out.mkdir()
    (out / "old.txt").write_text("old")
    with pytest.raises(ConfigError) as caught:
        convert(*models, **words, out=out)
    assert caught.value.code == "file-exists"
    convert(*models, **words, out=out, force=True)
    assert not (out / "old.txt").exists()
    assert load_release(out) == released.index
