"""What the gate and the checks refuse, on the wearable's real models."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from edgesdk_converters import convert

from edgesdk.bundle.archive import open_bundle
from edgesdk.bundle.release import load_release
from edgesdk.errors import ConfigError, EdgeError, ReleaseError, TargetError


def npz(path: Path, source: Path, **changes) -> Path:
    """Copy a data file with some arrays changed."""
    with np.load(source) as arrays:
        kept = {name: arrays[name] for name in arrays.files}
    np.savez(path, **{name: value for name, value in {**kept, **changes}.items() if value is not None})
    return path


@pytest.fixture(scope="module")
def quiet_calibration(data, tmp_path_factory):
    """Calibration windows of a watch that hardly moves: every range comes out far too small."""
    source = data / "calibration.npz"
    with np.load(source) as arrays:
        x = arrays["x"] * np.float32(0.02)
    return npz(tmp_path_factory.mktemp("quiet") / "calibration.npz", source, x=x)


@pytest.mark.parametrize("artifact_format", ["tflite", "onnx"])
def test_a_badly_calibrated_artifact_is_refused_and_nothing_is_written(
    models, words, quiet_calibration, artifact_format, tmp_path
):
    """An int8 artifact that lost its accuracy never becomes a release; the message holds the figures."""
    out = tmp_path / "release"
    undoctored = {"doctor": False, "reason": "the gate is tested, not the doctor"}
    changes = {"calibration": quiet_calibration, "formats": (artifact_format,), **undoctored}
    with pytest.raises(ReleaseError, match=r"accuracy changes by -\d+\.\d+ points .* on 378 samples") as caught:
        convert(*models, **{**words, **changes}, out=out)
    assert caught.value.code == "accuracy-gate"
    assert "the error starts at " in caught.value.message
    assert caught.value.exit_code == 4
    assert "--repair" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["release.refused"]


def test_a_refusal_leaves_its_report_and_nothing_that_is_a_release(models, words, quiet_calibration, tmp_path):
    """Beside the release that there is not: the reason, the figures, the layers; a later success takes it away."""
    out, left = tmp_path / "release", tmp_path / "release.refused"
    changes = {"calibration": quiet_calibration, "formats": ("tflite",), "doctor": False, "reason": "a test"}
    with pytest.raises(ReleaseError) as caught:
        convert(*models, **{**words, **changes}, out=out)
    assert str(left / "report.html") in caught.value.hint
    assert {path.name for path in left.iterdir()} == {"report.json", "report.html"}
    report = json.loads((left / "report.json").read_bytes())
    assert report["schema"] == "edge.refusal/1"
    assert report["refused"]["code"] == "accuracy-gate"
    assert report["refused"]["message"] == caught.value.message
    assert len(report["variants"]) == len(words["targets"])
    for variant in report["variants"]:
        assert variant["evaluation"]["value"] < variant["evaluation"]["source_value"] - 0.2
        assert variant["layers"]["sentence"] in caught.value.message
        assert not {"bundle", "sha256", "requirements"} & set(variant)
    page = (left / "report.html").read_text()
    assert "Refused (accuracy-gate)" in page
    assert "starts here" in page
    with pytest.raises(EdgeError):
        load_release(left)
    (left / "mine.txt").write_text("a note")
    convert(*models, **{**words, "formats": ("tflite",)}, out=out)
    assert left.exists(), "what somebody put there is not ours to remove"
    (left / "mine.txt").unlink()
    convert(*models, **{**words, "formats": ("tflite",), "force": True}, out=out)
    assert not left.exists()


def test_without_the_gate_a_bad_artifact_is_packed_with_its_true_figures_and_the_reason(
    models, words, quiet_calibration, tmp_path
):
    """`--no-gate --reason` builds it, and the bundle tells how bad it is and why nobody stopped it."""
    off = {"gate": False, "doctor": False, "reason": "a rollback drill"}
    changes = {"calibration": quiet_calibration, "formats": ("tflite",), **off}
    made = convert(*models, **{**words, **changes}, out=tmp_path / "release")
    assert "a rollback drill" in made.index.notes
    with open_bundle(next(made.folder.glob("*.edge"))) as bundle:
        evaluation = bundle.manifest.evaluation
    assert evaluation.value < evaluation.source_value - 0.2
    gate = evaluation.details["gate"]
    assert (gate["on"], gate["reason"]) == (False, "a rollback drill")
    assert {verdict["outcome"] for verdict in gate["verdicts"].values()} == {"refuse"}


def test_too_few_samples_are_refused_with_about_how_many_would_do(models, words, data, tmp_path):
    """Twenty samples cannot show a loss below one point; the message says how many could."""
    with np.load(data / "evaluation.npz") as arrays:
        few = {name: arrays[name][::20] for name in ("x", "y")}
    evaluation = npz(tmp_path / "few.npz", data / "evaluation.npz", **few)
    with pytest.raises(ConfigError, match=r"about \d+ samples would decide") as caught:
        convert(*models, **{**words, "evaluation": evaluation, "max_drop": 0.01}, out=tmp_path / "release")
    assert caught.value.code == "accuracy-thin"
    assert "want of proof, not for a loss" in caught.value.hint


def test_few_samples_are_enough_for_the_source_itself(models, words, data, tmp_path):
    """A float release of a float file that runs where its source ran is that source: nothing is left to show."""
    with np.load(data / "evaluation.npz") as arrays:
        few = {name: arrays[name][::20] for name in ("x", "y")}
    evaluation = npz(tmp_path / "few.npz", data / "evaluation.npz", **few)
    own = [model for model in models if model.suffix == ".onnx"]
    changes = {"evaluation": evaluation, "max_drop": 0.01, "recipes": ("float",), "formats": ("onnx",)}
    made = convert(*own, **{**words, **changes}, out=tmp_path / "release")
    assert {each.evaluation.difference for each in made.index.variants} == {0.0}


def test_unlabelled_data_gives_agreement_and_never_calls_it_accuracy(models, words, data, tmp_path):
    """Without labels the artifact is compared with the float source, under the name agreement."""
    evaluation = npz(tmp_path / "unlabelled.npz", data / "evaluation.npz", y=None, labels=None)
    changes = {"evaluation": evaluation, "formats": ("tflite",)}
    made = convert(*models, **{**words, **changes}, out=tmp_path / "release")
    assert {entry.evaluation.metric for entry in made.index.variants} == {"agreement"}
    assert {entry.evaluation.source_value for entry in made.index.variants} == {1.0}


def test_an_artifact_that_answers_nan_is_refused(words, models, full_data, tmp_path):
    """Version 4 gives NaN on forceful movements: judged on those, it is refused though it is float."""
    v4 = [model.with_name(model.name.replace("v1", "v4")) for model in models]
    changes = {"evaluation": full_data / "replay.npz", "recipes": ("float",), "calibration": None, "truth": None}
    with pytest.raises(ReleaseError, match=r"NaN or infinity on \d+ of 512 samples") as caught:
        convert(*v4, **{**words, **changes}, out=tmp_path / "release")
    assert caught.value.code == "accuracy-gate"


def test_a_runtime_that_cannot_load_an_artifact_is_left_out_of_its_requirements(words, models, tmp_path):
    """int8 version 4 does not load in tflite-runtime 2.14: the bundle asks for LiteRT, and the figures say why."""
    v4 = models[0].with_name("v4.tflite")
    made = convert(v4, **words, out=tmp_path / "release")
    for entry in made.index.variants:
        assert {runtime.package for runtime in entry.requirements.runtimes} == {"ai-edge-litert"}
        assert entry.evaluation.runtime.startswith("ai-edge-litert")
        assert entry.evaluation.details["unloadable"]["tflite-runtime"]["code"] == "artifact-unloadable"


def test_data_that_calibrates_may_not_judge(models, words, data, tmp_path):
    """Samples in both sets are refused before anything is converted."""
    with pytest.raises(ConfigError, match=r"\d+ samples of .*evaluation") as caught:
        convert(*models, **{**words, "calibration": data / "evaluation.npz"}, out=tmp_path / "release")
    assert caught.value.code == "data-overlap"


def test_an_onnx_file_newer_than_the_target_reads_is_refused(models, words, tmp_path):
    """A file with an operator that only newer runtimes know is refused, not shipped to fail on the device."""
    graph = onnx.load(models[1])
    graph.opset_import[0].version = onnx.defs.onnx_opset_version()
    answer = graph.graph.output[0].name
    last = next(node for node in graph.graph.node if answer in node.output)
    last.output[list(last.output).index(answer)] = "before"
    graph.graph.node.append(onnx.helper.make_node("Swish", ["before"], [answer]))
    newest = tmp_path / "v1.onnx"
    onnx.save(graph, newest)
    with pytest.raises(TargetError, match="expected at most 21") as caught:
        convert(newest, **words, out=tmp_path / "release")
    assert caught.value.code == "opset-ceiling"


def test_a_model_that_does_not_fit_the_contract_is_refused(models, words, tmp_path):
    """A contract with other shapes is named as the cause."""
    contract = tmp_path / "contract.toml"
    text = words["contract"].read_text().replace("shape = [1, 7]", "shape = [1, 9]").replace('"ROW"', '"ROW", "X", "Y"')
    contract.write_text(text)
    with pytest.raises(ConfigError, match="expects shape") as caught:
        convert(*models, **{**words, "contract": contract}, out=tmp_path / "release")
    assert caught.value.code == "contract-mismatch"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"release": "one"}, "argument-invalid"),
        ({"targets": ()}, "argument-invalid"),
        ({"max_drop": 1.5}, "argument-invalid"),
        ({"gate": False}, "argument-invalid"),
        ({"evaluation": None}, "argument-invalid"),
        ({"recipes": ("int9",)}, "argument-invalid"),
        ({"contract": "nowhere.toml"}, "file-missing"),
        ({"built_at": "yesterday"}, "argument-invalid"),
        ({"colour": "red"}, "argument-invalid"),
    ],
)
def test_a_wrong_request_is_refused_before_any_work(models, words, tmp_path, changes, code):
    """Each wrong word has one error, and neither a release nor a cache entry comes of it."""
    with pytest.raises(ConfigError) as caught:
        convert(*models, **{**words, "cache_dir": tmp_path / "cache", **changes}, out=tmp_path / "release")
    assert caught.value.code == code
    assert not (tmp_path / "cache").exists()
    assert not (tmp_path / "release").exists()


def test_the_command_prints_one_json_object_and_one_error(models, words, tmp_path):
    """`edge convert --json` prints the report; refused, the error as JSON, with the family's exit code."""
    edge = Path(sys.executable).with_name("edge")
    command = [edge, "convert", *models, "--name", "wearable", "--release", "1.0.0", "--contract", words["contract"]]
    command += ["--target", "linux-x86_64-cpu", "--evaluation", words["evaluation"], "--recipe", "float"]
    command += ["--max-drop", "0.08", "--cache-dir", words["cache_dir"], "-o", tmp_path / "release", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    report = json.loads(done.stdout)
    assert (report["model"], len(report["variants"]), report["folder"]) == ("wearable", 2, str(tmp_path / "release"))
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.returncode == 2
    assert json.loads(refused.stderr)["error"]["code"] == "file-exists"
    assert refused.stdout == ""


def test_a_recipe_that_saturates_on_old_x86_is_refused_with_the_layers_and_the_cure(models, words, tmp_path):
    """8-bit per-channel weights with symmetric activations lose accuracy without VNNI; this machine may not show it."""
    with pytest.raises(ReleaseError, match=r"x86 without VNNI: 16-bit sums saturate in .*% of sums") as caught:
        convert(models[1], **{**words, "recipes": ("int8-per-channel-fast",)}, out=tmp_path / "release")
    assert caught.value.code == "accuracy-gate"
    assert re.search(r"accuracy changes by -2\d\.\d\d points", caught.value.message)
    assert "recipe int8" in caught.value.hint


def test_an_error_speaks_of_what_was_given(models, words, data, tmp_path):
    """A folder or a .npy becomes a file in the cache; an error names what the user gave, never that file."""
    with np.load(data / "evaluation.npz") as arrays:
        np.save(tmp_path / "mine.npy", np.where(np.arange(len(arrays["x"]))[:, None, None] == 3, 99.0, arrays["x"]))
    with pytest.raises(
        ConfigError, match=r"mine\.npy: row 3 of 'window' expected values in \[-40.0, 40.0\], got 99"
    ) as found:
        convert(*models, **{**words, "evaluation": tmp_path / "mine.npy"}, out=tmp_path / "release")
    assert str(words["cache_dir"]) not in found.value.message
