"""What commands do, and what they refuse."""

import logging
from typing import Any

from edgesdk_agent.commands import MAX_LINES, Commands, LogTail

from edgesdk.protocol.messages import Command


def command(name: str, **arguments: Any) -> Command:
    return Command(
        fleet="lab",
        device="dev-1",
        id="command-1",
        name=name,
        issued_at="2026-11-23T00:00:00Z",
        expires_at="2026-11-23T00:01:00Z",
        arguments=arguments,
    )


def commands(*, looked: list[str] | None = None, tail: LogTail | None = None) -> Commands:
    return Commands(
        status=lambda: {"agent": "x"},
        deploy_now=lambda: (looked if looked is not None else []).append("looked"),
        benchmark=lambda model: {"model": model},
        logs=tail or LogTail(),
    )


def test_commands_answer() -> None:
    """Each command gives its result; `deploy-now` looks at the repository."""
    looked: list[str] = []
    them = commands(looked=looked)
    assert them.carry_out(command("ping")) == ({"pong": True}, None)
    assert them.carry_out(command("status")) == ({"agent": "x"}, None)
    assert them.carry_out(command("benchmark", model="tiny")) == ({"model": "tiny"}, None)
    assert them.carry_out(command("deploy-now"))[1] is None
    assert looked == ["looked"]


def test_logs_are_bounded() -> None:
    """The last lines come, never more than are kept; a silly number is refused."""
    tail = LogTail()
    log = logging.Logger("test")  # noqa: LOG001 - one that no other test sees
    log.addHandler(tail)
    for number in range(MAX_LINES + 10):
        log.warning("line %d %s", number, "x" * 1000)
    result, _ = commands(tail=tail).carry_out(command("logs", lines=2))
    assert [f"line {number}" in line for number, line in zip((508, 509), result["lines"], strict=True)] == [True, True]
    assert all(len(line) <= 300 for line in result["lines"])
    for lines in (0, MAX_LINES + 1, "5", True):
        _, reason = commands(tail=tail).carry_out(command("logs", lines=lines))
        assert reason is not None
        assert reason.code == "argument-invalid"


def test_what_is_not_supported_is_said() -> None:
    """`capture` is refused with a reason, and a benchmark without a model too."""
    for name, code in (("capture", "command-unsupported"), ("benchmark", "argument-invalid")):
        result, reason = commands().carry_out(command(name))
        assert result == {}
        assert reason is not None
        assert reason.code == code
