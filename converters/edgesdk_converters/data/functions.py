"""A user's own Python functions, named ``module:function``: where they are, and what to say when they fail."""

from __future__ import annotations

import ast
import contextlib
import difflib
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from edgesdk.errors import ConfigError, EdgeError

NAMED = 8
"""Functions of a module that a message names at most."""


def find_module(name: str, what: str) -> str | None:
    """Look for the module of a ``module:function`` without importing it; return its file, None if it has none.

    Raises:
        ConfigError: ``file-missing``; `what` says what the function is for.
    """
    module = name.partition(":")[0]
    with _working_directory():
        try:
            found = importlib.util.find_spec(module)
        except (ImportError, ValueError):
            found = None
    if found is None:
        raise _no_module(name, what)
    return found.origin


def find_function(name: str, what: str) -> None:
    """Look for a ``module:function`` without running anything: its file is read, not imported.

    Only what cannot be is refused: a module that imports all of another, or makes names as it runs, may have it.

    Raises:
        ConfigError: ``file-missing`` if there is no such module, ``argument-invalid`` if its file names no such
            function.
    """
    file = find_module(name, what)
    if file is None or not file.endswith(".py"):
        return
    with reported(name, what, file):
        tree = ast.parse(Path(file).read_text(), filename=file)
    names, wanted = _names(tree), name.partition(":")[2]
    if names is not None and wanted not in names:
        raise _no_function(name, what, name.partition(":")[0], _defined(tree))


def _names(tree: ast.Module) -> set[str] | None:
    """Return the names that statements of a module bind, wherever they stand; None if there may be others."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.alias(name="*") | ast.Name(id="globals") | ast.FunctionDef(name="__getattr__"):
                return None
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                found.add(name)
            case ast.alias(name=name, asname=other):
                found.add(other or name)
    return found


def _defined(tree: ast.Module) -> list[str]:
    """Return the functions and classes that a module's own statements define, in their order."""
    kinds = ast.FunctionDef | ast.ClassDef
    return [node.name for node in tree.body if isinstance(node, kinds)]


def load_function(name: str, what: str) -> Callable[..., Any]:
    """Import a user's ``module:function``, the working directory first.

    Raises:
        ConfigError: ``file-missing`` if there is no such module, ``argument-invalid`` if it has no such function or
            cannot be imported; `what` says what the function is for.
    """
    file = find_module(name, what)
    with _working_directory(), reported(name, what, file):
        module = importlib.import_module(name.partition(":")[0])
    found: Callable[..., Any] | None = getattr(module, name.partition(":")[2], None)
    if not callable(found):
        own = vars(module).items()
        there = [key for key, value in own if callable(value) and getattr(value, "__module__", "") == module.__name__]
        raise _no_function(name, what, module.__name__, there)
    return found


@contextlib.contextmanager
def reported(name: str, what: str, file: str | None) -> Iterator[None]:
    """Say which line of a user's `file` raised, where anything but our own errors is raised within.

    Raises:
        ConfigError: ``argument-invalid``.
    """
    try:
        yield
    except EdgeError:
        raise
    except Exception as error:
        said = f"{type(error).__name__}: {error}".removesuffix(": ")
        message = f"the {what} {name} failed{_place(error, file)}: {said}"
        raise ConfigError("argument-invalid", message, hint=f"Correct your {what} function.") from error


def file_of(function: Callable[..., Any]) -> str | None:
    """Return the file that defines a function; None if it is not written in Python."""
    code = getattr(function, "__code__", None)
    return None if code is None else str(code.co_filename)


def _place(error: Exception, file: str | None) -> str:
    if isinstance(error, SyntaxError) and error.filename:
        return f" at {_short(error.filename)}:{error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f" at {_short(frames[-1].filename)}:{frames[-1].lineno}" if frames else ""


def _short(file: str) -> str:
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def _no_module(name: str, what: str) -> ConfigError:
    hint = "Give module:function; modules are looked for in the working directory first."
    return ConfigError("file-missing", f"no {what} function {name}: there is no such module", hint=hint)


def _no_function(name: str, what: str, module: str, names: Iterable[str]) -> ConfigError:
    wanted = name.partition(":")[2]
    there = [key for key in names if not key.startswith("_")]
    near = difflib.get_close_matches(wanted, there) or there[:NAMED]
    hint = f"Choose {' or '.join(near)}." if near else f"Define a function in {module}."
    message = f"no {what} function {name}: the module {module} has no function {wanted!r}"
    return ConfigError("argument-invalid", message, hint=hint)


@contextlib.contextmanager
def _working_directory() -> Iterator[None]:
    """Look for modules in the working directory first, as `python -m` does."""
    sys.path.insert(0, os.getcwd())  # noqa: PTH109 - as above
    try:
        yield
    finally:
        sys.path.pop(0)
