"""`kill -9` of a real process in every state of the table and around every move of the slots."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from agent_ota_world import MODEL
from edgesdk_agent.ota.holdings import MOVES
from edgesdk_agent.ota.table import STATES

from edgesdk.generation import generation_dir, read_slots

CHILD = Path(__file__).with_name("agent_ota_child.py")
WAY = ("offered", "downloading", "verified", "staged", "testing")
INTO_TRIAL = ("begin trial: journalled", "begin trial: made", "trial")
COMMIT = ("commit: journalled", "commit: made", "committed")
ROLL_BACK = ("roll back: journalled", "roll back: made", "rolled_back")
CASES = [
    *(("good", label) for label in (*WAY, *INTO_TRIAL, *COMMIT)),
    *(("nan", label) for label in ROLL_BACK),
    *(("first-nan", label) for label in (*INTO_TRIAL, *ROLL_BACK)),
    ("worse", "failed"),
    *(("superseded", label) for label in ("withdraw: journalled", "withdraw: made", "rolled_back")),
    *(("removed", label) for label in ("remove: journalled", "remove: made", "idle")),
]
ENDS = {
    "good": {"state": "committed", "good": "2.0.0", "serve": "good", "trial": None},
    "nan": {"state": "rolled_back", "good": "1.0.0", "serve": "good", "trial": None},
    "worse": {"state": "failed", "good": "1.0.0", "serve": "good", "trial": None},
    "first-nan": {"state": "rolled_back", "good": None, "serve": "none", "trial": None},
    "superseded": {"state": "committed", "good": "3.0.0", "serve": "good", "trial": None},
    "removed": {"state": "idle", "good": None, "serve": "none", "trial": None},
}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, CHILD, *arguments], capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize(("scenario", "label"), CASES)
def test_killed_there_it_serves_a_whole_generation_and_ends_right(tmp_path: Path, scenario: str, label: str) -> None:
    """After SIGKILL at this point what is served is whole, and the next run ends where an unbroken one would."""
    killed = run(str(tmp_path), scenario, label)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    store = tmp_path / "agent" / "store"
    slots = read_slots(store, MODEL)
    if slots and slots.serving:
        folder = generation_dir(store, slots.serving)
        record = json.loads((folder / "generation.json").read_bytes())
        assert record["generation"] == slots.serving
        assert (folder / "model.json").is_file()
    again = run(str(tmp_path), scenario)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == ENDS[scenario]


def test_every_state_and_every_move_is_among_the_cases() -> None:
    """The cases above pull the plug in every state (refused has no work and moves nothing) and around every move."""
    labels = {label for _, label in CASES}
    assert set(STATES) - {"refused"} <= labels
    assert {f"{move}: {when}" for move in MOVES for when in ("journalled", "made")} <= labels
