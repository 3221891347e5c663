"""Tasks for development: `uv run --group dev nox -l` lists them; the environment is uv's own.

Nothing is set up twice: the sessions run in the environment that uv made.
"""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "contracts", "tests"]


@nox.session
def lint(session: nox.Session) -> None:
    """Lint and check the format."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Type-check the three packages, strictly."""
    session.run("mypy")


@nox.session
def contracts(session: nox.Session) -> None:
    """Check which room may import which."""
    session.run("lint-imports")


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests; arguments go to pytest."""
    session.run("pytest", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Render what is rendered from code: errors, states, protocol."""
    pages = {
        "render_errors.py": "errors.md",
        "render_states.py": "deployment-states.md",
        "render_asyncapi.py": "asyncapi.yaml",
        "render_lint.py": "lint.md",
    }
    for script, page in pages.items():
        with Path("docs", page).open("w") as out:
            session.run("python", f"docs/{script}", stdout=out)
