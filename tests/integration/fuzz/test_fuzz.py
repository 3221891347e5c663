"""A bounded part of `benchmarks/fuzz.py`: every parser of foreign bytes, with a seed of its own, always the same."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

import fuzz

from edgesdk.errors import DeploymentError
from edgesdk.generation import decode_generation, decode_slots

EXECUTIONS = 20_000


@pytest.mark.slow
def test_only_documented_errors_come_out_of_parsers() -> None:
    """Mutated bundles, documents, envelopes, arrays, packets and configurations end in a typed refusal or are read."""
    tallies = fuzz.fuzz(EXECUTIONS, seed=7)
    assert {name: tally.findings for name, tally in tallies.items() if tally.findings} == {}
    assert sum(tally.executions for tally in tallies.values()) >= EXECUTIONS
    for name, tally in tallies.items():
        assert 0 < tally.accepted < tally.executions, f"{name}: mutations that all pass or all fail find nothing"


@pytest.mark.parametrize("damaged", [b'{"schema":"\xff"}', b'{"model":' + b"[" * 5000])
def test_damaged_files_of_the_store_are_corrupt_not_a_crash(damaged: bytes) -> None:
    """Bytes that are no text, and endless nesting, in the files that agent and apps read at every start."""
    for decode in (decode_slots, decode_generation):
        with pytest.raises(DeploymentError) as caught:
            decode(damaged, where="test")
        assert caught.value.code == "store-corrupt"
