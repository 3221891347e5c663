"""Where the result goes is looked at before the training, not after it."""

from __future__ import annotations

import pytest
from edgesdk_converters.compress.words import Distil, Prune, check
from edgesdk_converters.places import check_writable

from edgesdk.errors import ConfigError


@pytest.fixture
def model(tmp_path):
    """A file that is never read here."""
    path = tmp_path / "model.keras"
    path.write_bytes(b"a model")
    return path


def asked(kind, model, out, **words):
    models = {"model": model} if kind is Prune else {"teacher": model, "student": model}
    return kind(**models, out=out, data=model, validation=model, **words)


@pytest.mark.parametrize("kind", [Prune, Distil])
@pytest.mark.parametrize(
    ("place", "code"),
    [
        ("model.keras/small.keras", "folder-unwritable"),
        ("/proc/nowhere/small.keras", "folder-unwritable"),
        ("folder.keras", "file-exists"),
        ("reported.keras", "file-exists"),
    ],
)
def test_a_place_that_cannot_be_written_is_refused_first(kind, model, place, code):
    """A file as a folder, a file system that takes no files, folders where files must go: --force helps none."""
    for name in ("folder.keras", "reported.report.json"):
        (model.parent / name).mkdir()
    with pytest.raises(ConfigError) as caught:
        check(asked(kind, model, model.parent / place, force=True))
    assert caught.value.code == code
    assert place.rpartition("/")[2].partition(".")[0] in caught.value.message


def test_a_place_that_can_be_written_is_left_as_it_was(model):
    """Folders that are not there yet are made by the writing, not by the question."""
    check(asked(Prune, model, model.parent / "new" / "deep" / "small.keras"))
    check_writable(model.parent / "release")
    assert [path.name for path in model.parent.iterdir()] == ["model.keras"]
