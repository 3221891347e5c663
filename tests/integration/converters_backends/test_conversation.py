"""A tool that stays: its answers, and its crash, hang or silence as typed errors."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from edgesdk_converters.backends.conversation import converse
from edgesdk_converters.backends.remote import TOOLS

from edgesdk.errors import ReleaseError

DOUBLER = """
import os, sys, time
sys.path.insert(0, sys.argv[1])
import frames
calls, answers = frames.pipes()
print("chatter on standard output")
frames.write(answers, {})
while (inputs := frames.read(calls)) is not None:
    match float(inputs["0"].flat[0]):
        case -1: os.abort()
        case -2: sys.exit(3)
        case -3: time.sleep(3600)
    frames.write(answers, {name: 2 * array for name, array in inputs.items()})
"""


@pytest.fixture
def talk(tmp_path):
    """Start the doubler and wait for it."""
    script = tmp_path / "doubler.py"
    script.write_text(DOUBLER)

    def start(timeout_s: float = 60.0):
        return converse(Path(sys.executable), [str(script), str(TOOLS)], cwd=tmp_path, timeout_s=timeout_s)

    return start


def test_arrays_come_back_in_their_order_and_chatter_stays_out(talk):
    """Big and small, of any dtype; what the tool prints does not get among them."""
    with talk() as conversation:
        conversation.ready()
        big, small = np.arange(300_000, dtype=np.float32), np.array([[5]], np.int8)
        for _ in range(3):
            first, second = conversation.ask([big, small])
            np.testing.assert_array_equal(first, 2 * big)
            assert (second.dtype, second.shape, second.item()) == (np.int8, (1, 1), 10)


@pytest.mark.parametrize(
    ("deed", "code", "words"),
    [
        (-1, "tool-crashed", "died of SIGABRT instead of answering; its last words: .*chatter"),
        (-2, "tool-crashed", "ended with status 3 instead of answering; its last words: .*chatter"),
        (-3, "tool-timeout", "did not answer in time; its last words: .*chatter"),
    ],
)
def test_no_answer_is_a_typed_error(talk, deed, code, words):
    """A crash, an end and a hang in the middle, each with what the tool said."""
    with talk(5.0 if deed == -3 else 60.0) as conversation:
        conversation.ready()
        with pytest.raises(ReleaseError, match=words) as caught:
            conversation.ask([np.full(3, deed, np.float32)])
    assert caught.value.code == code
