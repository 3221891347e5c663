from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.errors import DeploymentError
from edgesdk.generation import (
    GENERATION_SCHEMA,
    SLOTS_SCHEMA,
    Generation,
    Slots,
    TrialPolicy,
    decode_generation,
    decode_slots,
    empty_slots,
    generation_id,
    read_slots,
    slots_file,
    store_path,
)

BUNDLE = "a" * 64


def test_everything_that_changes_behaviour_changes_the_identity() -> None:
    """Bundle, config and policy each make another generation; nothing else does."""
    base = generation_id(BUNDLE, {"threshold": 0.5}, TrialPolicy())
    assert base == generation_id(BUNDLE, {"threshold": 0.5}, TrialPolicy())
    others = {
        generation_id("b" * 64, {"threshold": 0.5}, TrialPolicy()),
        generation_id(BUNDLE, {"threshold": 0.6}, TrialPolicy()),
        generation_id(BUNDLE, {"threshold": 0.5}, TrialPolicy(min_calls=1)),
    }
    assert len({base, *others}) == 4


def test_a_generation_that_was_edited_is_refused() -> None:
    """generation.json whose identity does not follow from its contents is corruption, not truth."""
    identity = generation_id(BUNDLE, {}, TrialPolicy())
    good = Generation(
        schema=GENERATION_SCHEMA,
        generation=identity,
        model="m",
        release="1.0.0",
        variant="v",
        bundle_sha256=BUNDLE,
        config={},
        policy=TrialPolicy(),
    )
    assert decode_generation(msgspec.json.encode(good), where="x") == good
    edited = msgspec.structs.replace(good, config={"threshold": 0.1})
    with pytest.raises(DeploymentError, match="expected"):
        decode_generation(msgspec.json.encode(edited), where="x")


def test_serving_follows_the_serve_field() -> None:
    """Apps run exactly what `serve` names."""
    slots = Slots(schema=SLOTS_SCHEMA, model="m", seq=1, good="a" * 64, trial="b" * 64, serve="trial")
    assert slots.serving == "b" * 64
    assert msgspec.structs.replace(slots, serve="good").serving == "a" * 64
    assert empty_slots("m").serving is None


@pytest.mark.parametrize("serve", ["good", "trial"])
def test_slots_that_serve_an_empty_slot_are_corrupt(serve: str) -> None:
    """A half-made slots file can never be read as if something served."""
    data = msgspec.json.encode({"schema": SLOTS_SCHEMA, "model": "m", "seq": 1, "serve": serve})
    with pytest.raises(DeploymentError, match="empty"):
        decode_slots(data, where="slots.json")


@given(st.binary(max_size=300))
def test_garbage_is_never_read_as_slots(data: bytes) -> None:
    """Any bytes give slots or one typed error."""
    try:
        decode_slots(data, where="x")
    except DeploymentError as error:
        assert error.code == "store-corrupt"


def test_a_model_that_was_never_deployed_has_no_slots(tmp_path: Path) -> None:
    """Absence is not an error of the store."""
    assert read_slots(tmp_path, "m") is None
    slots_file(tmp_path, "m").parent.mkdir(parents=True)
    slots_file(tmp_path, "m").write_bytes(msgspec.json.encode(empty_slots("m")))
    assert read_slots(tmp_path, "m") == empty_slots("m")


def test_the_store_is_found_by_argument_then_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """An explicit path wins over EDGESDK_STORE, which wins over the default."""
    monkeypatch.setenv("EDGESDK_STORE", "/from/environment")
    assert store_path("/explicit") == Path("/explicit")
    assert store_path() == Path("/from/environment")
    monkeypatch.delenv("EDGESDK_STORE")
    assert store_path() == Path("/var/lib/edge-agent/store")
