"""A release folder: `release.json` beside the bundles it indexes, as `edge convert -o DIR` makes it.

DIR/release.json                   canonical JSON of a `ReleaseIndex`
DIR/MODEL-RELEASE-VARIANT.edge     one bundle per variant
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from edgesdk.bundle.archive import Bundle, open_bundle
from edgesdk.bundle.decode import MAX_RELEASE_BYTES, decode_release, encode_release
from edgesdk.bundle.manifest import RELEASE_SCHEMA, Lineage, ReleaseIndex, VariantEntry
from edgesdk.durable import atomic_file
from edgesdk.errors import ConfigError, ReleaseError

RELEASE_NAME = "release.json"


def bundle_name(model: str, release: str, variant: str) -> str:
    """Return the file name of a bundle within a release folder."""
    return f"{model}-{release}-{variant}.edge".lower()


def write_release(
    folder: Path,
    bundles: Sequence[Path],
    *,
    built_at: str,
    precisions: Mapping[str, str] | None = None,
    lineage: Lineage | None = None,
    notes: str = "",
) -> ReleaseIndex:
    """Index the `bundles` of `folder`, best first, and write `release.json` atomically.

    Args:
        folder: Where `release.json` goes; the bundles lie there already.
        bundles: Paths of the bundles; all of one model, release and contract version.
        built_at: RFC 3339 time of the build; a device may take it as proof that this time has passed.
        precisions: Precision by variant name; ``float32`` where it says nothing.
        lineage: Where the release came from.
        notes: Free text for people.

    Raises:
        ReleaseError: ``release-invalid`` if the bundles do not belong together; what `open_bundle` raises.
    """
    if not bundles:
        raise ReleaseError("release-invalid", f"{folder} holds no bundle: a release has at least one variant")
    entries: list[VariantEntry] = []
    kinds: set[tuple[str, str, str]] = set()
    for path in bundles:
        if path.resolve().parent != folder.resolve():
            raise ReleaseError("release-invalid", f"{path} does not lie in {folder}")
        with open_bundle(path) as bundle:
            manifest = bundle.manifest
            kinds.add((manifest.model, manifest.release, manifest.contract.version))
            entries.append(_variant(path.name, bundle, (precisions or {}).get(manifest.variant, "float32")))
    if len(kinds) != 1:
        found = " and ".join(f"{model} {release} (contract {version})" for model, release, version in sorted(kinds))
        raise ReleaseError("release-invalid", f"the bundles do not belong to one release: {found}")
    [(model, release, version)] = kinds
    index = ReleaseIndex(
        schema=RELEASE_SCHEMA,
        model=model,
        release=release,
        built_at=built_at,
        contract_version=version,
        variants=tuple(entries),
        lineage=lineage,
        notes=notes,
    )
    data = encode_release(index)
    with atomic_file(folder / RELEASE_NAME) as out:
        out.write(data)
    return decode_release(data)


def read_index(path: Path) -> ReleaseIndex:
    """Read `release.json` (or the folder that holds it) without looking at the bundles.

    Raises:
        ConfigError: ``file-missing``.
        ReleaseError: What `decode_release` raises.
    """
    file = path / RELEASE_NAME if path.is_dir() else path
    try:
        with file.open("rb") as source:
            return decode_release(source.read(MAX_RELEASE_BYTES + 1))
    except FileNotFoundError as error:
        raise ConfigError("file-missing", f"there is no file {file}") from error


def load_release(folder: Path) -> ReleaseIndex:
    """Read a release folder and check every bundle: its hash, its contents, and that the index says the same.

    Raises:
        ConfigError: ``file-missing``.
        ReleaseError: ``release-invalid``, ``bundle-hash``, and what `open_bundle` raises.
    """
    index = read_index(folder)
    for entry in index.variants:
        with open_bundle(folder / entry.bundle) as bundle:
            _check(entry, bundle, index)
    return index


def _variant(name: str, bundle: Bundle, precision: str) -> VariantEntry:
    manifest = bundle.manifest
    return VariantEntry(
        variant=manifest.variant,
        target=manifest.target,
        bundle=name,
        size=bundle.size,
        sha256=bundle.sha256(),
        requirements=manifest.requirements,
        precision=precision,
        evaluation=manifest.evaluation,
    )


def _check(entry: VariantEntry, bundle: Bundle, index: ReleaseIndex) -> None:
    digest = bundle.sha256()
    if (digest, bundle.size) != (entry.sha256, entry.size):
        message = f"{entry.bundle} has SHA-256 {digest} and {bundle.size} bytes"
        raise ReleaseError("bundle-hash", f"{message}, expected {entry.sha256} and {entry.size}")
    bundle.verify()
    manifest = bundle.manifest
    found = (manifest.model, manifest.release, manifest.contract.version, manifest.variant, manifest.target)
    expected = (index.model, index.release, index.contract_version, entry.variant, entry.target)
    if found != expected or manifest.requirements != entry.requirements:
        raise ReleaseError("release-invalid", f"{entry.bundle} is {found}, the release index says {expected}")
