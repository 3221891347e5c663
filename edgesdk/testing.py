"""What tests need: a store on this machine, without an agent, a hub or a network, and tools that misbehave.

`serve_bundle` does to a folder what the agent does on a device, less the trust and the trial; `fake_tool` writes a
program that does what vendors' tools do on bad days. Both are for tests only.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from edgesdk.bundle.archive import open_bundle
from edgesdk.generation import (
    GENERATION_SCHEMA,
    SLOTS_SCHEMA,
    Generation,
    Serve,
    Slots,
    TrialPolicy,
    generation_dir,
    generation_id,
    read_slots,
    slots_file,
)


def serve_bundle(
    bundle: Path,
    store: Path,
    *,
    slot: Serve = "good",
    config: dict[str, Any] | None = None,
    policy: TrialPolicy | None = None,
) -> Generation:
    """Unpack a bundle into a store and let it serve at once, unverified and untried.

    Args:
        bundle: A bundle file.
        store: The store's folder (pass it to `edgesdk.Model` or set ``EDGESDK_STORE``); made if it is missing.
        slot: ``good``, or ``trial`` beside the good generation that is there.
        config: Configuration of the generation.
        policy: Trial policy of the generation.

    Returns:
        The generation that serves now.

    Raises:
        ReleaseError: If the bundle is not whole.
    """
    with open_bundle(bundle) as opened:
        manifest, digest = opened.manifest, opened.sha256()
        found = Generation(
            schema=GENERATION_SCHEMA,
            generation=generation_id(digest, config or {}, policy or TrialPolicy()),
            model=manifest.model,
            release=manifest.release,
            variant=manifest.variant,
            bundle_sha256=digest,
            config=config or {},
            policy=policy or TrialPolicy(),
        )
        folder = generation_dir(store, found.generation)
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            opened.extract(folder)
            (folder / "generation.json").write_bytes(msgspec.json.encode(found))
    set_slots(store, found.model, found.generation, slot)
    return found


def set_slots(store: Path, model: str, generation: str | None, slot: Serve) -> Slots:
    """Write a model's slots as a commit (``good``), the begin of a trial (``trial``) or a removal (``none``) would.

    Raises:
        DeploymentError: ``store-corrupt`` if the slots that are there cannot be read.
    """
    before = read_slots(store, model) or Slots(schema=SLOTS_SCHEMA, model=model, seq=0)
    moves: dict[Serve, dict[str, Any]] = {
        "good": {"good": generation, "previous": before.good, "trial": None},
        "trial": {"trial": generation},
        "none": {"good": None, "previous": None, "trial": None},
    }
    after = msgspec.structs.replace(before, seq=before.seq + 1, serve=slot, **moves[slot])
    path = slots_file(store, model)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(msgspec.json.encode(after))
    temporary.replace(path)
    return after


Deed = Literal["succeed", "crash", "fail", "hang"]
_DEEDS: dict[Deed, str] = {
    "succeed": "exit 0",
    "crash": "kill -FPE $$",
    "fail": "exit 3",
    "hang": "exec sleep 3600",
}


def fake_tool(path: Path, *, deed: Deed, says: str = "", writes: Mapping[str, bytes] | None = None) -> Path:
    """Write a program that says something, writes files into its working directory, and ends as asked.

    Args:
        path: The program; it ignores its arguments.
        deed: ``succeed`` (with nothing done, unless it `writes`), ``crash`` (SIGFPE), ``fail`` or ``hang`` (an hour).
        says: Printed on standard output first.
        writes: Files by their name, which may hold folders.

    Returns:
        `path`.
    """
    lines = ["#!/bin/sh", f"printf '%s\\n' {shlex.quote(says)}"]
    for number, (name, content) in enumerate((writes or {}).items()):
        kept = path.with_name(f"{path.name}.{number}")
        kept.write_bytes(content)
        lines += [f"mkdir -p {shlex.quote(str(Path(name).parent))}", f"cp {shlex.quote(str(kept))} {shlex.quote(name)}"]
    path.write_text("\n".join([*lines, _DEEDS[deed], ""]))
    path.chmod(0o755)
    return path
