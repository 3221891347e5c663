"""The compression benchmark: every seed is told, and what the results file holds is not run again."""

from __future__ import annotations

import json

import compress
import pytest


def row(seed, after, parameters=100, case="channels 50 %"):
    figures = {"parameters": parameters, "nonzero": 90, "macs": 1000, "bytes": 4000, "compressed_bytes": 3000}
    judged = {"before": 0.9, "after": after, "difference": after - 0.9, "interval": [after - 0.92, after - 0.88]}
    head = {
        "teacher": "t",
        "epochs": 2,
        "case": case,
        "seed": seed,
        "before": {**figures, "parameters": 200},
        "after": figures,
    }
    return {**head, "judged": {**judged, "untrained": 0.5, "samples": 10}}


def test_a_line_has_the_mean_the_range_and_every_seeds_change():
    """Nothing is averaged away: the worst seed stands beside the best, each with its own interval."""
    lines = list(compress.table([row(1, 0.86, parameters=120), row(0, 0.88)]))
    assert lines[2].startswith("| teacher | 200 |")
    assert "| 0.9000 |" in lines[2]
    assert lines[3].startswith("| channels 50 % | 100 to 120 | 90 |")
    assert "| 0.8700 (0.8600 to 0.8800) |" in lines[3]
    assert "-2.00 (-4.00 to +0.00); -4.00 (-6.00 to -2.00)" in lines[3]
    assert len(lines) == 4


def test_what_is_in_the_results_is_not_run_again(tmp_path):
    """A run that was stopped goes on behind the rows that it has."""
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row(seed, 0.9)) + "\n" for seed in (0, 1)))
    bench = compress.Bench(tmp_path, tmp_path / "rows.jsonl")
    teacher = compress.Teacher(name="t", epochs=2, prepare=lambda *_: pytest.fail("there was nothing to do"))
    students = [case for case in compress.CASES if case.student]
    bench.run(teacher, [case for case in compress.CASES if case.name == "channels 50 %"] + students, 2)
    assert len(bench.rows) == 2
