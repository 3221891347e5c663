"""The one race of a swap, made to happen."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edgesdk.app.follower import Follower
from edgesdk.app.reporter import Reporter, app_name
from edgesdk.app.view import View
from edgesdk.errors import ContractError


@pytest.fixture
def follower(tmp_path: Path) -> Iterator[Follower]:
    found = Follower(tmp_path, "tiny", None, Reporter(tmp_path, "tiny", "test"))
    yield found
    found.view = None
    found.stop()


class SwapsOnAppend(deque[None]):
    """Tokens of a view that is replaced at the very moment when a call puts its token in."""

    def __init__(self, follower: Follower, successor: View | None) -> None:
        super().__init__()
        self._follower, self._successor = follower, successor

    def append(self, token: None) -> None:
        super().append(token)
        self._follower.view = self._successor


def view(calls: deque[None] | None = None) -> View:
    loaded: Any = object()
    return View(loaded, "good") if calls is None else View(loaded, "good", None, calls)


def test_a_call_that_meets_a_swap_takes_the_new_view(follower: Follower) -> None:
    """The old view is left without a token, so it can be freed; the new one holds the call's."""
    after = view()
    before = view(SwapsOnAppend(follower, after))
    follower.view = before
    assert follower.enter() is after
    assert (len(before.calls), len(after.calls)) == (0, 1)


def test_a_call_that_meets_a_removal_is_told_so(follower: Follower) -> None:
    """No token stays behind, and the error is the one of a model that is not served."""
    before = view(SwapsOnAppend(follower, None))
    follower.view = before
    with pytest.raises(ContractError) as caught:
        follower.enter()
    assert caught.value.code == "model-none-served"
    assert len(before.calls) == 0


def test_an_apps_name_is_never_empty_nor_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argument, environment, script, in this order; cut to what a datagram may hold."""
    monkeypatch.setattr("sys.argv", ["/opt/apps/watch.py"])
    assert app_name(None) == "watch"
    monkeypatch.setenv("EDGESDK_APP", "from-env")
    assert (app_name(None), app_name("given")) == ("from-env", "given")
    monkeypatch.delenv("EDGESDK_APP")
    monkeypatch.setattr("sys.argv", [""])
    assert app_name(None) == "python"
    assert len(app_name("x" * 100)) == 64
