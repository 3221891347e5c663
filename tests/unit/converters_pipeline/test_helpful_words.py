"""A newcomer's mistakes are answered with what to do, before any work."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from edgesdk_converters.compress.lines import lines
from edgesdk_converters.compress.run import Compressed
from edgesdk_converters.data.functions import find_function
from edgesdk_converters.progress import TerminalProgress, listed
from edgesdk_converters.recipes import find_recipe
from edgesdk_converters.request import Request, prepare
from rich.console import Console

from edgesdk.errors import ConfigError, TargetError
from edgesdk.targets.profiles import load_profile

WEARABLE = Path(__file__).parents[3] / "examples" / "wearable"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("ethos-u55-12", "ethos-u55-128"),
        ("linux-arm64", "linux-arm64-cpu"),
        ("RK3588", "rk3588"),
        ("jetson", "jetson-orin-gpu"),
        ("linux-amd64", "linux-x86_64-cpu"),
        ("linux-aarch64", "linux-arm64-cpu"),
        ("raspberry", "linux-arm64-cpu or linux-armv7-cpu"),
        ("l", None),
        ("toaster", None),
    ],
)
def test_a_misspelt_target_is_answered_with_the_one_that_was_meant(given, meant):
    """By the nearest names, or by those of whose devices it speaks; near to nothing, by the command that lists all."""
    with pytest.raises(TargetError) as caught:
        load_profile(given)
    assert caught.value.code == "target-unknown"
    assert caught.value.hint.startswith(f"Did you mean {meant}" if meant else "`edge targets list` shows all 24")
    assert len(caught.value.hint) < 160


def test_a_target_that_is_cut_short_is_answered_with_those_that_go_on():
    """`ethos-u55` is the start of four names: these, by size, and no other family."""
    with pytest.raises(TargetError) as caught:
        load_profile("ethos-u55")
    asked = caught.value.hint.partition("?")[0]
    assert asked == "Did you mean ethos-u55-32 or ethos-u55-64 or ethos-u55-128 or ethos-u55-256"


@pytest.mark.parametrize(("given", "meant"), [("int8_dynamic", "int8-dynamic"), ("int16", "int16x8"), ("zebra", None)])
def test_a_misspelt_recipe_is_answered_with_the_one_that_was_meant(given, meant):
    """As for targets."""
    with pytest.raises(ConfigError) as caught:
        find_recipe(given)
    assert ("Did you mean" in caught.value.hint) == (meant is not None)
    assert meant is None or meant in caught.value.hint.partition("?")[0]
    assert "Choose one of: float" in caught.value.hint


def request(tmp_path, **changes) -> Request:
    words = {
        "models": (WEARABLE / "models" / "v1.tflite",),
        "name": "wearable",
        "release": "1.0.0",
        "targets": ("linux-arm64-cpu",),
        "contract": WEARABLE / "contract.toml",
        "out": tmp_path / "release",
        "gate": False,
        "reason": "a test",
        "recipes": ("float",),
        "cache_dir": tmp_path / "cache",
    }
    return Request(**{**words, **changes})


def test_a_limit_of_fallback_without_an_accelerator_is_refused(tmp_path):
    """It would hold of nothing, and look as if it had been checked; beside a target that has one it stands."""
    with pytest.raises(ConfigError, match="linux-arm64-cpu has none"):
        prepare(request(tmp_path, fail_on_fallback=0.1))
    both = ("linux-arm64-cpu", "linux-x86_64-cpu")
    with pytest.raises(ConfigError, match="linux-arm64-cpu and linux-x86_64-cpu have none"):
        prepare(request(tmp_path, fail_on_fallback=0.1, targets=both))
    prepare(request(tmp_path, targets=both))
    with pytest.raises(ConfigError, match="needs calibration data"):  # what comes after it
        prepare(
            request(tmp_path, fail_on_fallback=0.1, targets=("linux-arm64-cpu", "ethos-u55-128"), recipes=("int8",))
        )


def test_a_share_is_of_macs_or_of_operators(tmp_path):
    """The limit of `--fail-on-fallback` is counted as `edge lint` counts; of anything else it is refused."""
    with pytest.raises(ConfigError, match="by expected macs or ops"):
        prepare(request(tmp_path, by="bytes"))
    prepare(request(tmp_path, by="ops"))


@pytest.mark.parametrize(
    ("target", "recipe", "why", "cure"),
    [
        ("ethos-u55-128", "float16", "float16 leaves activations in float", "Add --recipe int8 or int16x8 or"),
        (
            "linux-armv7-cpu",
            "int8-tensorrt",
            "runs nothing that int8-tensorrt (int8) makes as",
            "Add --recipe float or",
        ),
    ],
)
def test_a_target_that_runs_no_recipe_says_which_it_would(tmp_path, target, recipe, why, cure):
    """It is named with what it runs; another recipe is added for it, as each target takes what it can."""
    models = (WEARABLE / "models" / "v1.tflite", WEARABLE / "models" / "v1.onnx")
    with pytest.raises(TargetError) as caught:
        prepare(request(tmp_path, models=models, targets=(target,), recipes=(recipe,)))
    assert caught.value.code == "recipe-unfit"
    assert target in caught.value.message
    assert why in caught.value.message
    assert caught.value.hint.startswith(cure)
    assert "each target takes" in caught.value.hint


MODULE = """
import numpy as np
from math import hypot as distance
raise RuntimeError("nobody may run this")
def error_of_angle(outputs, labels):
    return 1.0
bound = lambda outputs, labels: 0.0
if True:
    def nested(outputs, labels):
        return 0.0
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module of a name of its own into the working directory."""
    monkeypatch.chdir(tmp_path)

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write


def test_a_function_that_is_not_there_is_found_before_the_work(module):
    """The file is read, never run; a near name is offered, and every way to bind a name counts."""
    name = module("metrics_of_mine", MODULE)
    for there in ("error_of_angle", "bound", "distance", "nested"):
        find_function(f"{name}:{there}", "metric")
    with pytest.raises(ConfigError, match="has no function 'error_angle'") as caught:
        find_function(f"{name}:error_angle", "metric")
    assert caught.value.hint == "Choose error_of_angle."
    assert name not in sys.modules


@pytest.mark.parametrize(
    "text", ["from math import *", "globals()['late'] = print", "def __getattr__(name): return print"]
)
def test_names_that_only_running_would_tell_are_not_refused(module, text):
    """Who imports all of another module, or makes names at run time, is asked later."""
    find_function(f"{module('dynamic_names', text)}:late", "metric")


def test_a_file_that_is_no_python_is_told_with_its_line(module):
    """Half a line is an error of the module's own file."""
    with pytest.raises(ConfigError, match=r"half_written\.py:1"):
        find_function(f"{module('half_written', 'def (')}:f", "metric")


def test_the_plan_is_told_once_and_shortly(tmp_path):
    """One line of what is left and one of how much; each step's own line comes when it runs, not before."""
    plan = prepare(request(tmp_path)).plan
    screen = io.StringIO()
    TerminalProgress(Console(file=screen, width=200)).plan(plan, {plan.steps[0].name}, {})
    told = screen.getvalue().splitlines()
    assert len(told) == 3
    assert f"{len(plan.steps)} steps, 1 of them at hand" in told[1]
    assert [name.strip() for name in told[2].split(",")] == [step.name for step in plan.steps[1:]]
    narrow = listed([step.name for step in plan.steps], 40).splitlines()
    assert len(narrow) > 1
    assert all(len(line) <= 40 for line in narrow)
    assert [name.strip() for name in " ".join(narrow).split(",")] == [step.name for step in plan.steps]


def test_a_drafted_contract_that_nobody_checked_is_told(tmp_path):
    """Lines that are still marked are counted and named, before the work; of a checked contract nothing is said."""
    drafted = (WEARABLE / "contract.toml").read_text().replace('layout = "NTC"', 'layout = "NTC"  # CHECK: a letter')
    (tmp_path / "contract.toml").write_text(f"{drafted}# range = [0.0, 1.0]  # CHECK: what it gives\n")
    [note] = prepare(request(tmp_path, contract=tmp_path / "contract.toml")).notes
    assert "contract.toml: 2 lines are still marked CHECK: layout (line 11), range (line 24)" in note
    screen = io.StringIO()
    TerminalProgress(Console(file=screen, width=200)).note(note)
    assert screen.getvalue() == f"note: {note}\n"
    assert prepare(request(tmp_path)).notes == ()


def shrunk(removed) -> Compressed:
    figures = {"parameters": 10, "nonzero": 10, "macs": 10, "bytes": 10, "compressed_bytes": 10}
    report = {
        "command": "prune",
        "words": {"amount": 0.0},
        "before": {"figures": figures},
        "after": {"figures": figures},
        "evaluation": None,
        "training": None,
        "removed": removed,
    }
    return Compressed(path=Path("a.keras"), report_path=Path("a.json"), report=report, cached=False)


def test_shrinking_that_removes_nothing_says_so():
    """A file is written all the same; nobody must read figures to see that it is the same model."""
    assert any("nothing was removed" in line for line in lines(shrunk({})))
    assert not any("nothing was removed" in line for line in lines(shrunk({"conv": 3})))


@pytest.mark.parametrize("value", [float("-inf"), float("inf"), float("nan")])
def test_infinity_in_calibration_data_never_reaches_a_converter(tmp_path, value):
    """Converters have crashed on -inf; with the doctor off too it is one error that names the row."""
    x = np.random.default_rng(0).uniform(-1, 1, (60, 128, 6)).astype(np.float32)
    x[7, 3, 2] = value
    np.savez(tmp_path / "calibration.npz", x=x)
    asked = {"calibration": tmp_path / "calibration.npz", "recipes": ("int8",), "doctor": False}
    with pytest.raises(ConfigError, match="row 7 of 'window' holds NaN or infinity"):
        prepare(request(tmp_path, **asked))


def test_a_value_beyond_the_contract_is_told_by_the_line_of_the_csv(tmp_path):
    """It is found in the file that was made of the table; the empty second line counts as one of the table's."""
    rows = [",".join(["0.5"] * 768)] * 3 + [",".join(["nan"] + ["0.5"] * 767)]
    text = "\n".join([",".join(f"v{index}" for index in range(768)), "", *rows])
    (tmp_path / "calibration.csv").write_text(text)
    asked = {"calibration": tmp_path / "calibration.csv", "recipes": ("int8",), "doctor": False}
    with pytest.raises(ConfigError, match=r"calibration\.csv: line 6 of 'window' holds NaN"):
        prepare(request(tmp_path, **asked))
    (tmp_path / "evaluation.csv").write_text(text.replace("v0,v1,", "v1,v0,", 1))
    with pytest.raises(ConfigError, match=r"calibration\.csv has the columns of .*evaluation\.csv in another order"):
        prepare(request(tmp_path, **asked, evaluation=tmp_path / "evaluation.csv"))


@pytest.mark.parametrize(("place", "code"), [("file/release", "folder-unwritable"), ("file", "file-exists")])
def test_a_release_folder_that_cannot_be_is_refused_before_the_work(tmp_path, place, code):
    """A file stands where the folder or its parent should be; `force` replaces releases, not files."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError) as caught:
        prepare(request(tmp_path, out=tmp_path / place, force=True))
    assert caught.value.code == code
    assert (tmp_path / "file").read_text() == "mine"
