"""The moves of the slots on a real file system."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from edgesdk_agent.store.disk import Reserve
from edgesdk_agent.store.slots import SlotsStore
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgesdk.errors import DeploymentError
from edgesdk.generation import generation_dir, slots_file

ONE, TWO, THREE = "1" * 64, "2" * 64, "3" * 64


def store(folder: Path) -> SlotsStore:
    for generation in (ONE, TWO, THREE):
        generation_dir(folder, generation).mkdir(parents=True, exist_ok=True)
    return SlotsStore(folder, Reserve(folder / "reserve"))


def test_the_life_of_a_model(tmp_path: Path) -> None:
    """First release, second release, rollback, removal: exactly the moves of the architecture."""
    slots = store(tmp_path)
    first = slots.begin_trial("m", ONE)
    assert (first.seq, first.good, first.trial, first.serve) == (1, None, ONE, "trial")
    committed = slots.commit("m", ONE)
    assert (committed.good, committed.previous, committed.trial, committed.serve) == (ONE, None, None, "good")
    slots.begin_trial("m", TWO)
    second = slots.commit("m", TWO)
    assert (second.good, second.previous, second.serve) == (TWO, ONE, "good")
    slots.begin_trial("m", THREE)
    back = slots.roll_back("m")
    assert (back.good, back.previous, back.trial, back.serve) == (TWO, ONE, None, "good")
    gone = slots.remove("m")
    assert (gone.good, gone.previous, gone.trial, gone.serve) == (None, None, None, "none")
    assert slots.models() == ["m"]


def test_first_release_rolls_back_to_none(tmp_path: Path) -> None:
    """Without a good generation a rollback serves none."""
    slots = store(tmp_path)
    slots.begin_trial("m", ONE)
    assert slots.roll_back("m").serve == "none"


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(moves=st.lists(st.sampled_from(["trial1", "trial2", "commit1", "commit2", "back", "remove"]), max_size=12))
def test_moves_are_idempotent_and_good_comes_from_trials(tmp_path: Path, moves: list[str]) -> None:
    """Any move made twice is made once, and `good` is only ever what was on trial just before."""
    slots = store(tmp_path)
    slots.remove("m")
    act = {
        "trial1": lambda: slots.begin_trial("m", ONE),
        "trial2": lambda: slots.begin_trial("m", TWO),
        "commit1": lambda: slots.commit("m", ONE),
        "commit2": lambda: slots.commit("m", TWO),
        "back": lambda: slots.roll_back("m"),
        "remove": lambda: slots.remove("m"),
    }
    for move in moves:
        before = slots.read("m")
        try:
            after = act[move]()
        except DeploymentError:
            assert slots.read("m") == before
            continue
        assert act[move]() == after == slots.read("m")
        assert after.seq in {before.seq, before.seq + 1}
        assert after.good in {before.good, before.trial if move.startswith("commit") else before.good, None}


def test_refusals(tmp_path: Path) -> None:
    """A generation that is not here cannot be tried; what is not on trial cannot be committed."""
    slots = store(tmp_path)
    with pytest.raises(DeploymentError) as caught:
        slots.begin_trial("m", "9" * 64)
    assert caught.value.code == "generation-missing"
    with pytest.raises(DeploymentError) as caught:
        slots.commit("m", ONE)
    assert caught.value.code == "store-corrupt"
    assert slots.read("m").seq == 0


def test_restored_slots_are_seen_by_apps(tmp_path: Path) -> None:
    """Slots that were damaged come back with a `seq` that no app has seen."""
    slots = store(tmp_path)
    slots.begin_trial("m", ONE)
    before = slots.commit("m", ONE)
    slots_file(tmp_path, "m").write_bytes(b"")
    restored = slots.restore("m", ONE)
    assert slots.read("m") == restored
    assert (restored.good, restored.serve) == (ONE, "good")
    assert restored.seq > before.seq
    assert slots.restore("m", None).serve == "none"


def test_file_is_readable_by_apps_and_no_temporary_stays(tmp_path: Path) -> None:
    """Mode 0644 in folders of 0755, whatever the umask of the agent."""
    slots = store(tmp_path)
    slots.begin_trial("m", ONE)
    path = slots_file(tmp_path, "m")
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o755
    assert [each.name for each in path.parent.iterdir()] == ["slots.json"]
