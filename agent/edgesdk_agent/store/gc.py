"""Garbage collection: what no slot names, no deployment needs and no app holds is removed.

Apps hold a shared lock on the folder of the generation that they run (`edgesdk.model`); without the exclusive lock
nothing is removed.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgesdk_agent.store.generations import GenerationStore, remove_tree


@contextmanager
def unheld(folder: Path) -> Iterator[bool]:
    """Yield whether nobody holds `folder`; while the block runs nobody can take hold of it."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


def collect(generations: GenerationStore, *, keep: set[str], staging: Path) -> list[str]:
    """Remove the generations that are not to be kept and not held by an app; return the removed ones.

    Args:
        generations: The store's generations.
        keep: Every slot's good, previous and trial, and what deployments under way need.
        staging: The private folder through which they leave.
    """
    removed = []
    for generation in generations.ids():
        if generation in keep:
            continue
        with unheld(generations.path(generation)) as free:
            if free:
                generations.remove(generation, staging / f"gone-{generation}")
                removed.append(generation)
    return removed


def sweep(folder: Path, *, keep: set[str]) -> None:
    """Remove everything in a private folder (downloads, staging) whose name is not to be kept."""
    for path in folder.iterdir():
        if path.name in keep:
            continue
        if path.is_dir():
            remove_tree(path)
        else:
            path.unlink(missing_ok=True)
