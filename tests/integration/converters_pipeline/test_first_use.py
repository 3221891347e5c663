"""A vendor's tool that is not here yet is named before anything runs, with what it brings along."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from edgesdk_converters import convert
from edgesdk_converters.pipeline import SilentPlan
from edgesdk_converters.planning.plan import Plan
from edgesdk_converters.planning.routes import ONNX2TF
from edgesdk_converters.running.environments import RECORD

WORDS: list[tuple[dict[str, Any], str]] = [
    ({"targets": ["linux-arm64-cpu"], "formats": ("tflite",)}, "onnx2tf is downloaded first"),
    ({"targets": ["rk3588"]}, "rknn is downloaded first"),
    ({"targets": ["ethos-u55-128"], "repair": True}, "vela is downloaded first"),
]


class Interrupted(SilentPlan):
    """Somebody who reads the notes and the plan, and presses Ctrl-C."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def plan(self, plan: Plan, cached: set[str], expected: Mapping[str, float]) -> None:
        raise KeyboardInterrupt


@pytest.fixture
def environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where environments are looked for; there are none."""
    monkeypatch.setenv("EDGESDK_ENVIRONMENTS", str(tmp_path / "environments"))
    return tmp_path / "environments"


def notes(model: Path, words: Mapping[str, Any], tmp_path: Path) -> list[str]:
    """What is said before the plan of a conversion with an empty cache."""
    seen = Interrupted()
    with pytest.raises(KeyboardInterrupt):
        convert(model, **{**words, "cache_dir": tmp_path / "cache"}, out=tmp_path / "out", observer=seen)
    return [text for text in seen.notes if "downloaded" in text]


@pytest.mark.usefixtures("environments")
@pytest.mark.parametrize(("asked", "said"), WORDS, ids=["onnx2tf", "rknn", "vela"])
def test_what_is_installed_on_first_use_is_said_before_the_plan(models, words, tmp_path, asked, said):
    """Gigabytes and minutes are no surprise of a step that is running already."""
    model = models[0] if asked["targets"] == ["ethos-u55-128"] else models[1]
    [note] = notes(model, {**words, **asked}, tmp_path)
    assert note.startswith(said)
    assert "B on disk" in note


def test_what_is_here_is_not_spoken_of(models, words, tmp_path, environments):
    """An environment that was made whole costs nothing."""
    folder = environments / ONNX2TF.key
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").touch()
    (folder / RECORD).write_text("{}")
    assert notes(models[1], {**words, **WORDS[0][0]}, tmp_path) == []
