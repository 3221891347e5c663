"""The report beside a compressed model travels with a release made from it, if it is about that very file."""

from __future__ import annotations

import json

from edgesdk_converters.compress.lineage import compression_of, report_beside


def test_a_report_about_this_very_file_travels(tmp_path):
    """Its hash, its words and the hashes of the models that it was made from."""
    model = tmp_path / "small.keras"
    report = {
        "command": "prune",
        "sha256": "ab",
        "words": {"amount": 0.5},
        "lineage": {"sources": {"model": {"file": "large.keras", "sha256": "cd"}}},
    }
    report_beside(model).write_text(json.dumps(report))
    told = compression_of(model, "ab")["compression"]
    assert told["sources"] == {"model": "cd"}
    assert told["words"] == {"amount": 0.5}
    assert len(told["report_sha256"]) == 64


def test_other_reports_are_left_out(tmp_path):
    """None, one of another file, and one that is no report: nothing is claimed."""
    model = tmp_path / "small.keras"
    assert compression_of(model, "ab") == {}
    for content in ("{", "[]", '{"sha256": "other"}', '{"sha256": "ab", "lineage": {"sources": []}}'):
        report_beside(model).write_text(content)
        assert compression_of(model, "ab") == {}
