"""`edge fleet` is typed often: it brings neither the server nor the database along."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("sqlalchemy", "fastapi", "uvicorn", "cryptography", "tuf", "numpy")


@pytest.mark.parametrize(
    ("module", "more"),
    [("edgesdk.cli.fleet", ("httpx",)), ("edgesdk.cli.hub", ("httpx",)), ("edgesdk.fleet.client", ())],
)
def test_heavy_modules_stay_out(module, more):
    """Importing the command loads none of the heavy modules."""
    code = f"import sys, {module}; print([name for name in {HEAVY + more!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_hubs_folder_is_looked_into_without_its_database():
    """`edge fleet --dir HUB` reads where the hub is and its token; SQLAlchemy cost it a third of a second."""
    server = ("sqlalchemy", "fastapi", "uvicorn")
    code = f"import sys, edgesdk.fleet.folder; print([name for name in {server!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
