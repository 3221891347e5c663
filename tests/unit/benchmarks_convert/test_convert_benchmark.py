"""The benchmark's own arithmetic: a table that flatters is worse than none."""

import hashlib
import tomllib

import msgspec
import numpy as np
import pytest
from convert import table
from convert.fetch import FetchError, check
from convert.figures import compare, median_ratio
from convert.files import PADDING, SIDE, features
from convert.run import Results
from convert.zoo import Case, Store

from edgesdk.contract import load_contract_toml

RUN = {"date": "2026-01-01", "machine": "a machine", "commit": "abc", "versions": {"tool": "1"}}


def row(tool="edgesdk", difference=0.0, interval=(-0.005, 0.005), **words):
    figures = {"value": 0.9 + difference, "float_value": 0.9, "difference": difference, "interval": list(interval)}
    head = {"case": "c", "target": "linux-x86_64-cpu", "format": "onnx", "tool": tool, "status": "made", "run": RUN}
    return {**head, **figures, "size_ratio": 0.25, **words}


def one_hot(classes, width=3):
    return {"scores": np.eye(width, dtype=np.float32)[np.asarray(classes)][:, None]}


def test_accuracy_is_paired_and_its_interval_holds_the_difference():
    """Wins and losses on the same samples make the difference; the interval is around it."""
    truth = np.arange(300) % 3
    reference, found = truth.copy(), truth.copy()
    found[:12] = (truth[:12] + 1) % 3
    reference[100:103] = (truth[100:103] + 1) % 3
    compared = compare("accuracy", one_hot(reference), one_hot(found), truth)
    assert compared.difference == pytest.approx(-9 / 300)
    assert compared.interval[0] < -9 / 300 < compared.interval[1] < 0
    assert compared.samples == 300


def test_nan_is_wrong_and_counted():
    """An artifact that answers NaN is not right by chance, and the row says so."""
    truth = np.zeros(50, np.int64)
    found = one_hot(truth)
    found["scores"][:5] = np.nan
    compared = compare("accuracy", one_hot(truth), found, truth)
    assert compared.broken_rows == 5
    assert compared.value == pytest.approx(0.9)


def test_decisions_never_gain_on_the_float_model():
    """Agreement has no upside: the interval ends at no difference."""
    reference = {"p": np.linspace(0, 1, 200)[:, None]}
    found = {"p": 1 - reference["p"]}
    assert compare("decisions", reference, reference, None).interval[1] == 0
    assert compare("decisions", reference, found, None).value == 0


def test_cells_count_what_is_missing_and_what_is_invented():
    """F1 falls with lost cells and with invented ones, and its interval holds it."""
    random = np.random.default_rng(0)
    reference = {"notes": random.random((40, 20, 8))}
    missing = {"notes": np.where(random.random((40, 20, 8)) < 0.2, 0, reference["notes"])}
    invented = {"notes": np.where(random.random((40, 20, 8)) < 0.2, 1, reference["notes"])}
    for found in (missing, invented):
        compared = compare("cells", reference, found, None)
        assert 0.8 < compared.value < 0.95
        assert compared.interval[0] < compared.value - 1 < compared.interval[1]
    assert compare("cells", reference, reference, None).difference == 0


def test_the_latency_ratio_is_that_of_rounds():
    """A machine that becomes slow half way through does not move the ratio."""
    base = np.concatenate([np.full(50, 1.0), np.full(50, 7.0)])
    ratio, low, high = median_ratio(base * 0.5, base)
    assert (ratio, low, high) == (0.5, 0.5, 0.5)


def test_a_bound_is_claimed_only_where_the_interval_shows_it():
    """A small observed drop with a wide interval is neither a held bound nor a broken artifact."""
    wide = row(difference=-0.002, interval=(-0.03, 0.02))
    assert not table.holds(wide)
    assert not table.broken(wide)
    assert table.holds(row())
    assert table.broken(row(difference=-0.05, interval=(-0.06, -0.04)))
    assert table.broken(row(status="refused"))


def test_the_summary_names_the_worst_and_what_we_did_where_others_broke():
    """Median, worst, and our answer beside each broken artifact of another tool."""
    rows = [row(), row(case="d", difference=-0.02, interval=(-0.03, -0.015))]
    theirs = row("ort", case="d", difference=-0.3, interval=(-0.32, -0.28))
    words = " ".join(table.summary([*rows, theirs]))
    assert "median 1.00 points, worst 2.00 (d, onnx)" in words
    assert "not for d (onnx)" in words
    assert "1 of 1 broken: d: loses more than a point (edgesdk: -2.00 points)" in words


def test_the_page_holds_what_ran_and_names_what_did_not():
    """Every row is on the page; a case without rows is listed as not run."""
    cases = {
        name: Case(name=name, what="a model", data="data", figure="accuracy", make=lambda _store: None)
        for name in ("c", "other")
    }
    failed = row("ort", status="failed", code="conversion-failed", words="it | fell")
    del failed["value"]
    page = table.page([row(), failed], cases)
    assert "| c (onnx) | **edgesdk** | 0.250 | 90.00 % | 90.00 % | +0.00 (-0.50 … +0.50) |" in page
    assert "conversion-failed: it / fell" in page
    assert "- the case other as onnx" in page
    assert "- the case c as tflite" in page
    assert "- the target rk3588" in page
    assert "2026-01-01" in page


def test_results_go_on_where_they_ended(tmp_path):
    """A row is found again after a restart, and a newer one of the same key replaces it."""
    first = Results(tmp_path / "results.jsonl")
    first.add(row(value=0.1))
    first.add(row(value=0.2))
    again = Results(tmp_path / "results.jsonl")
    assert again.has("c", "linux-x86_64-cpu", "onnx", "edgesdk")
    assert not again.has("c", "linux-x86_64-cpu", "onnx", "ort")
    assert [kept["value"] for kept in again.rows.values()] == [0.2]


def test_a_file_with_another_hash_is_refused(tmp_path):
    """What the index serves tomorrow is not what this benchmark was written for."""
    path = tmp_path / "model.onnx"
    path.write_bytes(b"model")
    check(path, hashlib.sha256(b"model").hexdigest())
    with pytest.raises(FetchError, match="expected SHA-256"):
        check(path, "0" * 64)


def test_magika_takes_both_ends_without_white_space():
    """A short file stands at both ends, padded inwards; of a long one the first and last bytes are taken."""
    short = features(b"  abcdefghij\n")
    assert short[:10].tolist() == list(b"abcdefghij")
    assert short[10] == PADDING
    assert short[-10:].tolist() == list(b"abcdefghij")
    long = features(b"\n" + bytes(range(65, 75)) + b"x" * 9000 + b"yz \n")
    assert long[:10].tolist() == list(range(65, 75))
    assert long[-2:].tolist() == list(b"yz")
    assert len(long) == 2 * SIDE


def test_contracts_are_written_as_toml(tmp_path):
    """What a case writes is what `edge convert` reads, and a contract with a wrong word is refused."""
    store = Store(tmp_path, tmp_path)
    contract = {
        "version": "1.0",
        "task": "regression",
        "inputs": [{"name": "x", "shape": [1, 2], "normalisation": {"mean": [0.5], "std": [2.0]}}],
        "outputs": [{"name": "y", "shape": []}],
    }
    store.contract(contract)
    text = (tmp_path / "contract.toml").read_text()
    assert tomllib.loads(text) == contract
    assert load_contract_toml(text).inputs[0].shape == (1, 2)
    with pytest.raises(msgspec.ValidationError):
        store.contract({**contract, "colour": "red"})
