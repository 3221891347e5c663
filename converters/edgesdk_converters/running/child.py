"""The child process of `isolation`: one JSON request on standard input, one answer in the file it names."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edgesdk_converters.running.isolation import PROGRESS_FD, Call, Progress, describe_failure

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Do the request, answer, and end."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # a killed `edge convert` leaves no child behind
    request: dict[str, Any] = json.load(sys.stdin)
    sys.path[:] = request["path"]
    try:
        answer = {"result": _act(request)}
    except BaseException as error:  # noqa: BLE001 - whatever a foreign tool raises is an answer
        answer = describe_failure(error)
    Path(request["answer"]).write_text(json.dumps(answer))


def _act(request: dict[str, Any]) -> Any:
    module, _, function = request["action"].partition(":")
    action: Callable[[Call], Any] = getattr(importlib.import_module(module), function)
    call = Call(
        inputs={name: Path(path) for name, path in request["inputs"].items()},
        params=request["params"],
        out=Path(request["out"]),
        progress=_progress(int(os.environ[PROGRESS_FD])),
        timeout_s=request["timeout_s"],
    )
    return action(call)


def _progress(fd: int) -> Progress:
    os.set_inheritable(fd, False)  # what the tool starts must not keep our parent waiting

    def report(done: int, total: int) -> None:
        os.write(fd, b"%d %d\n" % (done, total))

    return report


if __name__ == "__main__":
    main()
