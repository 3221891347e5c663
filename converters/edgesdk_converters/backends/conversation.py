"""A tool that stays and answers calls: arrays go in and come out over pipes, its chatter goes to a log.

One process runs all samples, because a vendor's tool takes seconds to start; a crash, a hang or an early end of it is
the same typed error as in `environments.run_tool`.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from edgesdk.errors import ReleaseError
from edgesdk_converters.backends.tools import frames
from edgesdk_converters.running.environments import start_tool
from edgesdk_converters.running.isolation import last_words

CHUNK = 1 << 16


class Conversation:
    """Calls to a running tool.

    Args:
        child: The process, its two streams piped.
        log: Where its chatter goes.
        deadline: When the whole conversation must be over, of `time.monotonic`.
    """

    def __init__(self, child: subprocess.Popen[bytes], log: Path, deadline: float) -> None:
        self._child, self._log, self._deadline = child, log, deadline

    def ready(self) -> None:
        """Wait until it takes calls.

        Raises:
            ReleaseError: ``tool-crashed`` or ``tool-timeout``.
        """
        self._answer()

    def ask(self, arrays: Sequence[Any]) -> list[Any]:
        """Return the outputs of one call, in the artifact's order.

        Raises:
            ReleaseError: ``tool-crashed`` or ``tool-timeout``.
        """
        assert self._child.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it died: reading says more
            frames.write(cast("BinaryIO", self._child.stdin), {str(place): array for place, array in enumerate(arrays)})
        outputs = self._answer()
        return [outputs[str(place)] for place in range(len(outputs))]

    def _answer(self) -> dict[str, Any]:
        answer = frames.read(cast("BinaryIO", _Reader(self)))
        if answer is None:
            raise self._ended()
        return answer

    def receive(self, size: int) -> bytes:
        """Return `size` bytes of its answer, fewer at its end.

        Raises:
            ReleaseError: ``tool-timeout``.
        """
        assert self._child.stdout is not None
        received = bytearray()
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            while len(received) < size:
                if not selector.select(max(0.0, self._deadline - time.monotonic())):
                    raise ReleaseError("tool-timeout", f"the tool did not answer in time{last_words(self._log)}")
                chunk = os.read(self._child.stdout.fileno(), min(CHUNK, size - len(received)))
                if not chunk:
                    break
                received += chunk
        return bytes(received)

    def _ended(self) -> ReleaseError:
        status = self._child.wait()
        how = f"died of {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        return ReleaseError("tool-crashed", f"the tool {how} instead of answering{last_words(self._log)}")


class _Reader:
    def __init__(self, conversation: Conversation) -> None:
        self._conversation = conversation

    def read(self, size: int) -> bytes:
        return self._conversation.receive(size)


@contextlib.contextmanager
def converse(
    python: Path, arguments: Sequence[str], *, cwd: Path, timeout_s: float, extra: Mapping[str, str] | None = None
) -> Iterator[Conversation]:
    """Start ``python ARGUMENTS…`` and talk with it; nothing of it is left afterwards."""
    log = cwd / "conversation.log"
    with log.open("wb") as chatter:
        child = start_tool(
            [str(python), *arguments],
            cwd=cwd,
            extra=extra,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=chatter,
            bufsize=0,
        )
    try:
        with child:
            try:
                yield Conversation(child, log, time.monotonic() + timeout_s)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
    except BrokenPipeError:  # what was not sent when it died
        pass
