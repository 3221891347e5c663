"""The benchmark on targets with compilers of their own: fewer samples, an end for every row, and what a row says."""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import pytest
from convert import onchip, table
from convert.limits import CAPS, RowTimeoutError, capped, limited, most_samples
from convert.run import Bench, Made, Results, _Place
from convert.zoo import Case

from edgesdk.errors import ReleaseError, TargetError

CASE = Case(name="c", what="a model", data="data", figure="accuracy", make=lambda _store: None)
RUN = {"date": "2026-01-01", "machine": "a machine", "commit": "abc", "versions": {"tool": "1"}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A case of fifty samples, each labelled with its own number, and three names of classes."""
    made = tmp_path / "case"
    made.mkdir()
    (made / "model.onnx").write_bytes(b"model")
    x = np.arange(50, dtype=np.float32)[:, None]
    np.savez(made / "evaluation.npz", x=x, y=np.arange(50), labels=np.array(["a", "b", "c"]))
    return made


def test_fewer_samples_keep_their_labels_and_are_always_the_same(folder, tmp_path):
    """Rows are drawn with their labels, once; what is no row stays whole, and the rest of the case is its own."""
    few = capped(folder, 20, tmp_path / "few")
    with np.load(few / "evaluation.npz") as arrays:
        held = {name: arrays[name] for name in arrays.files}
    assert held["x"][:, 0].tolist() == held["y"].tolist() == sorted(set(held["y"].tolist()))
    assert len(held["y"]) == 20
    assert held["labels"].tolist() == ["a", "b", "c"]
    assert (few / "model.onnx").read_bytes() == b"model"
    again = capped(folder, 20, tmp_path / "again")
    assert (again / "evaluation.npz").read_bytes() == (few / "evaluation.npz").read_bytes()


def test_enough_samples_are_left_alone(folder, tmp_path):
    """Without a limit, or below it, the case's own folder is used."""
    assert capped(folder, None, tmp_path / "few") == folder
    assert capped(folder, 50, tmp_path / "few") == folder
    assert not (tmp_path / "few").exists()


def test_a_row_that_does_not_end_is_ended():
    """The time of a row is over while it waits, and nothing is left that would strike later."""
    with pytest.raises(RowTimeoutError, match=r"0\.05 s"), limited(0.05):
        signal.pause()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


@pytest.fixture
def guarded(folder, tmp_path):
    """Return the row of something that goes wrong on the way."""
    bench = Bench(tmp_path, Results(tmp_path / "results.jsonl"), print, row_s=0.05)
    place = _Place(bench, CASE, folder, "linux-x86_64-cpu", "onnx")

    def run(error: BaseException | None) -> dict:
        def make() -> Made:
            if error is None:
                signal.pause()
            raise error or AssertionError

        return place._guarded(make).row

    return run


def test_what_a_target_does_not_take_is_refused_with_the_cure(guarded):
    """The row has the reason and what to do; the page prints both."""
    row = guarded(TargetError("runtime-missing", "it takes no int4", hint="Give int8."))
    assert (row["status"], row["code"], row["cure"]) == ("refused", "runtime-missing", "Give int8.")
    head = {"case": "c", "target": "qualcomm-htp", "format": "onnx", "tool": "edgesdk", "run": RUN}
    words = " ".join(table.cells({**head, **row}))
    assert "it takes no int4" in words
    assert "Cure: Give int8." in words


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (ReleaseError("tool-did-nothing", "nothing went to the NPU"), "refused", "tool-did-nothing"),
        (ReleaseError("tool-crashed", "the builder failed: no kernel"), "refused", "tool-crashed"),
        (ReleaseError("tool-timeout", "no end"), "failed", "tool-timeout"),
        (ReleaseError("conversion-failed", "'y' has open sizes"), "refused", "conversion-failed"),
        (ReleaseError("conversion-failed", "a:b: ValueError: x"), "failed", "conversion-failed"),
        (KeyError("rknn"), "failed", "exception"),
        (None, "failed", "row-timeout"),
    ],
)
def test_nothing_that_one_row_does_ends_the_run(guarded, error, status, code):
    """A crash of a tool, a mistake of ours and no end at all are rows like others."""
    row = guarded(error)
    assert (row["status"], row["code"]) == (status, code)
    assert row["words"]


def test_a_placement_says_what_runs_beside_the_accelerator_and_what_the_parser_refuses():
    """Operators beside it are named in the table; a file that a parser does not take whole is refused there."""
    fallback = [{"name": "r", "op": "Reshape", "why": "the toolkit puts it on the CPU"}]
    placed = {"accelerator": 3, "cpu": 1, "macs_share": 1.0, "fallback": fallback}
    row = {"target": "rk3588", "placement": onchip.placement({"placement": placed, "tool": "rknn-toolkit2"})}
    assert table.placement(row) == "3 of 4 operators, 100.0% of MACs; beside it: Reshape"
    assert not row["placement"]["refused"]
    parsed = onchip.placement({"placement": placed, "tool": "the parser of tensorrt-rtx", "whole": False})
    assert parsed["refused"]
    assert table.broken({"status": "made", "placement": parsed}) == "the target refuses it"


def test_a_target_says_who_answered_and_to_how_many():
    """Where a simulator is slow, the page states the limit."""
    row = {"case": "c", "target": "rk3588", "format": "onnx", "tool": "edgesdk", "status": "refused"}
    [line, *_] = table.summary([{**row, "judged": "a simulator"}])
    assert line == f"Judged by a simulator; at most {CAPS['rk3588']:,} evaluation samples of a case, drawn once."
    assert most_samples("ocr-reading", "rk3588") == 1000
    assert most_samples("ocr-angle", "ethos-u55-128") is None


def test_a_jetson_is_asked_with_its_parser():
    """The benchmark's own profile compiles; every other target's is the one that we ship."""
    backend = onchip.backend_of("jetson-orin-gpu", "fashion")
    assert backend is not None
    assert backend.name == "tensorrt"
    assert onchip.profile_of("jetson-orin-gpu", "fashion").endswith(".toml")
    assert onchip.profile_of("rk3588", "magika") == "rk3588"
    assert onchip.backend_of("linux-arm64-cpu", "fashion") is None


def test_a_simulator_that_is_too_slow_for_a_case_only_compiles():
    """The HTP back end takes seconds a call of Magika: the portable file answers, the tool places."""
    slow, fast = (onchip.backend_of("qualcomm-htp", case) for case in ("magika", "wearable"))
    assert slow is not None
    assert fast is not None
    assert (slow.name, slow.judged, slow.measure) == ("qnn", "source", None)
    assert (fast.judged, fast.measure is None) == ("artifact", False)
