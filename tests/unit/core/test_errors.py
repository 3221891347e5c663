from __future__ import annotations

import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgesdk.errors import CODES, FAMILIES, ConfigError, EdgeError, TrustError, error_from_dict


def test_every_family_has_its_own_exit_code() -> None:
    """A script can tell the families apart by exit code alone."""
    codes = [family.exit_code for family in FAMILIES.values()]
    assert len(set(codes)) == len(codes)
    assert not {0, 1, 130} & set(codes)


@pytest.mark.parametrize("code", sorted(CODES))
def test_a_code_is_kebab_case_with_cause_and_cure(code: str) -> None:
    """Every leaf can be documented: a name, a family, a cause and a cure."""
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", code)
    info = CODES[code]
    assert info.family in FAMILIES
    assert info.cause.endswith(".")
    assert info.cure.endswith(".")


def test_an_unregistered_code_cannot_be_raised() -> None:
    """A code that the documentation does not know is a bug of ours, found at once."""
    with pytest.raises(AssertionError, match="no-such-code"):
        EdgeError("no-such-code", "x")


def test_a_code_belongs_to_one_family() -> None:
    """A trust code cannot be raised as a configuration error."""
    with pytest.raises(AssertionError):
        ConfigError("signature-invalid", "x")


def test_an_error_survives_a_process_boundary() -> None:
    """Workers report errors as JSON or pickles; nothing is lost on the way."""
    error = TrustError("audience", "desired is for fleet a, expected b", hint="address it")
    for copy in (error_from_dict(error.to_dict()), pickle.loads(pickle.dumps(error))):
        assert type(copy) is TrustError
        assert copy.to_dict() == error.to_dict()


def test_the_documentation_lists_every_code(repository_root: Path) -> None:
    """docs/errors.md is what docs/render_errors.py prints today."""
    rendered = subprocess.run(
        [sys.executable, repository_root / "docs" / "render_errors.py"], capture_output=True, text=True, check=True
    ).stdout
    assert rendered == (repository_root / "docs" / "errors.md").read_text()
