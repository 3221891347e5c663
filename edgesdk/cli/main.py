"""The command `edge` (also `edgesdk`): finds its commands by entry point and prints errors one way.

A command is a Typer app in the entry-point group ``edgesdk.commands``; only the one that is called is imported, so that
`edge --help` stays instant and `edge convert` exists exactly where the converters are installed.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click
import typer

from edgesdk.errors import ConfigError, EdgeError

GROUP = "edgesdk.commands"
UNUSABLE = frozenset(
    {
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EEXIST,
        errno.ENOENT,
        errno.ENOSPC,
        errno.EDQUOT,
        errno.ENAMETOOLONG,
    }
)
"""What a path that a person gave can be wrong with; other errors of the system are ours."""
SUMMARIES = {
    "bundle": "Look into a bundle and check it.",
    "contract": "Write a first contract of a model, or check one.",
    "convert": "Convert, check and pack a model for targets.",
    "data": "Look into data before it calibrates or judges.",
    "demo": "Run the whole line on this machine: convert, sign, deploy, try, roll back.",
    "devbroker": "Run the loopback MQTT broker for demos and tests.",
    "distill": "Teach a small Keras model by a large one.",
    "fleet": "Devices and rollouts of a hub.",
    "hub": "Run a fleet hub.",
    "lint": "Say which operators will not run on a target's accelerator, and why.",
    "prune": "Make a Keras model smaller: remove channels or zero weights, then train on.",
    "release": "Look at a release.",
    "repo": "Signed storage of releases (TUF): init, publish, rotate, refresh.",
    "shrink": "Remove from a Keras model what no answer depends on.",
    "targets": "Hardware profiles that releases are built for.",
    "telemetry": "Watch what devices report.",
}


class _Lazy(click.Group):
    """A group whose commands are imported when they are called."""

    def _points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name what is installed."""
        del ctx
        return list(self._points())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        del ctx
        point = self._points().get(cmd_name)
        if point is None:
            return None
        command = typer.main.get_command(point.load())
        command.name = cmd_name
        refuse_repeats(command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing them."""
        del ctx
        rows = [(name, SUMMARIES.get(name, "")) for name in self._points()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def refuse_repeats(command: click.Command) -> None:
    """Let a command, and those below it, refuse an option given twice that counts once: click keeps the last silently.

    Flags may be repeated, and so may what takes a list.
    """
    for below in getattr(command, "commands", {}).values():
        refuse_repeats(below)
    parse = command.parse_args

    def parse_args(ctx: click.Context, args: list[str]) -> list[str]:
        given = list(args)
        rest = parse(ctx, args)
        _values, _rest, order = command.make_parser(ctx).parse_args(args=given)
        for option in order:
            if isinstance(option, click.Option) and not (option.multiple or option.is_flag or option.count):
                times = sum(each is option for each in order)
                if times > 1:
                    name = max(option.opts, key=len)
                    raise click.UsageError(f"{name} is given {times} times, and takes one value", ctx)
        return rest

    command.parse_args = parse_args  # type: ignore[method-assign] # Typer makes its commands itself


def _version(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from importlib.metadata import version  # noqa: PLC0415 - only here

        click.echo(f"edgesdk {version('edgesdk')}")
        ctx.exit()


edge = _Lazy(
    name="edge",
    help="Take a trained model to a fleet of edge devices and keep it healthy there.",
    no_args_is_help=True,
    params=[
        click.Option(
            ["--version"], is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Print it."
        )
    ],
)


def print_error(error: EdgeError, *, as_json: bool) -> None:
    """Print an error to standard error: two lines for people, one JSON object for scripts."""
    if as_json:
        print(json.dumps({"error": error.to_dict()}), file=sys.stderr)  # noqa: T201 - the command's output
        return
    print(f"error: {error.message} [{error.code}]", file=sys.stderr)  # noqa: T201 - the command's output
    if error.hint:
        print(f"  do:  {error.hint}", file=sys.stderr)  # noqa: T201 - the command's output


def _usage_error(error: click.ClickException, name: str) -> EdgeError:
    """Return what click has against a command line as one of our errors."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    asked = context.command_path if context is not None else name
    return ConfigError("argument-invalid", error.format_message(), hint=f"See `{asked} --help`.")


def _unusable(error: OSError) -> EdgeError:
    """Return what a path has against it as one of our errors; raise what no path is to blame for."""
    if error.filename is None or error.errno not in UNUSABLE:
        raise error
    return ConfigError("folder-unwritable", f"{error.filename}: {error.strerror}")


def run(command: click.Command, arguments: list[str], *, name: str) -> int:
    """Run a click command and return its exit code; every `EdgeError` is printed once.

    Exit codes: 0 done; 1 an error of ours (please report it); 2 usage or configuration; 3-8 the families of
    `edgesdk.errors`; 130 interrupted; 141 the reader of the output went away.
    """
    try:
        result: Any = command.main(args=arguments, prog_name=name, standalone_mode=False)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (EdgeError, OSError) as error:
        ours = error if isinstance(error, EdgeError) else _unusable(error)
        print_error(ours, as_json="--json" in arguments)
        return ours.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return error.exit_code
    except click.ClickException as error:
        print_error(_usage_error(error, name), as_json="--json" in arguments)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        print("interrupted", file=sys.stderr)  # noqa: T201 - the command's output
        return 130
    return result if isinstance(result, int) else 0


def main() -> None:
    """Entry point of `edge`."""
    raise SystemExit(run(edge, sys.argv[1:], name="edge"))
