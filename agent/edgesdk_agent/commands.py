"""What a verified command does. Commands are only for immediacy: nothing here changes what should run."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from edgesdk.errors import ConfigError, DeploymentError, EdgeError
from edgesdk.protocol.messages import Command, Reason

MAX_LINES = 500
DEFAULT_LINES = 100
MAX_LINE = 300

Answer = dict[str, Any]
Action = Callable[[Mapping[str, Any]], Answer]


class LogTail(logging.Handler):
    """Keeps the last lines of the log for the command `logs`; no secret is ever logged."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._lines: deque[str] = deque(maxlen=MAX_LINES)
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line."""
        self._lines.append(self.format(record)[:MAX_LINE])

    def last(self, count: int) -> list[str]:
        """Return the last lines, oldest first."""
        return list(self._lines)[-count:]


class Commands:
    """Carries commands out.

    Args:
        status: What the agent says about itself.
        deploy_now: Looks at the repository and the desired document at once.
        benchmark: Measures the good generation of a model.
        logs: The tail of the log.
    """

    def __init__(
        self,
        *,
        status: Callable[[], Answer],
        deploy_now: Callable[[], None],
        benchmark: Callable[[str], Answer],
        logs: LogTail,
    ) -> None:
        self._status = status
        self._deploy_now = deploy_now
        self._benchmark = benchmark
        self._logs = logs

    def carry_out(self, command: Command) -> tuple[Answer, Reason | None]:
        """Return the result, or why there is none; never raises."""
        actions: dict[str, Action] = {
            "ping": lambda _: {"pong": True},
            "status": lambda _: self._status(),
            "deploy-now": self._do_deploy_now,
            "logs": self._do_logs,
            "benchmark": self._do_benchmark,
            "capture": _no_capture,
        }
        try:
            return actions[command.name](command.arguments), None
        except EdgeError as error:
            return {}, Reason(code=error.code, message=error.message, hint=error.hint)

    def _do_deploy_now(self, _arguments: Mapping[str, Any]) -> Answer:
        self._deploy_now()
        return {"started": True}

    def _do_logs(self, arguments: Mapping[str, Any]) -> Answer:
        lines = arguments.get("lines", DEFAULT_LINES)
        if type(lines) is not int or not 1 <= lines <= MAX_LINES:
            raise ConfigError("argument-invalid", f"lines: expected 1 to {MAX_LINES}, got {lines!r}")
        return {"lines": self._logs.last(lines)}

    def _do_benchmark(self, arguments: Mapping[str, Any]) -> Answer:
        model = arguments.get("model")
        if not isinstance(model, str):
            raise ConfigError("argument-invalid", f"model: expected a model's name, got {model!r}")
        return self._benchmark(model)


def _no_capture(_arguments: Mapping[str, Any]) -> Answer:
    raise DeploymentError("command-unsupported", "this agent keeps no inputs, so that it has none to capture")
