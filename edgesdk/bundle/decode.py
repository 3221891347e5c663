"""From bytes to a `Manifest` or `ReleaseIndex` to rely on: one encoding, known meaning, sound references."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TypeVar

import msgspec

from edgesdk.bundle.layout import MANIFEST_NAME, MAX_MANIFEST_BYTES
from edgesdk.bundle.manifest import (
    BUNDLE_SCHEMA,
    KNOWN_CRITICAL,
    RELEASE_SCHEMA,
    Manifest,
    ReleaseIndex,
)
from edgesdk.canonical import canonical_json
from edgesdk.contract import Contract, TensorSpec
from edgesdk.errors import ReleaseError

GENERATION_NAME = "generation.json"
RESERVED_NAMES = frozenset({MANIFEST_NAME, GENERATION_NAME})
MAX_RELEASE_BYTES = 1 << 20

_Document = TypeVar("_Document", bound=msgspec.Struct)


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the one encoding of `manifest`: canonical JSON.

    Raises:
        ReleaseError: ``manifest-invalid``, ``manifest-critical``, ``bundle-path`` or ``bundle-limit``: whatever a
            reader would refuse, so that nothing is written that cannot be read.
    """
    data = encode_document(manifest, "manifest-invalid", "manifest")
    decode_manifest(data)
    return data


def encode_release(index: ReleaseIndex) -> bytes:
    """Return the one encoding of a release index: canonical JSON.

    Raises:
        ReleaseError: Whatever a reader would refuse, see `decode_release`.
    """
    data = encode_document(index, "release-invalid", "release index")
    decode_release(data)
    return data


def decode_manifest(data: bytes) -> Manifest:
    """Decode and check `manifest.json`.

    Raises:
        ReleaseError: ``manifest-invalid``, ``manifest-schema``, ``manifest-critical``, ``bundle-path`` or
            ``bundle-limit``.
    """
    if len(data) > MAX_MANIFEST_BYTES:
        raise ReleaseError("bundle-limit", f"the manifest has {len(data)} bytes; {MAX_MANIFEST_BYTES} is the most")
    manifest = decode_document(data, Manifest, BUNDLE_SCHEMA, "manifest-invalid", "manifest")
    check_manifest(manifest)
    return manifest


def decode_release(data: bytes) -> ReleaseIndex:
    """Decode and check `release.json`.

    Raises:
        ReleaseError: ``release-invalid``, ``manifest-schema``, ``manifest-critical`` or ``bundle-limit``.
    """
    if len(data) > MAX_RELEASE_BYTES:
        raise ReleaseError("bundle-limit", f"release.json has {len(data)} bytes; {MAX_RELEASE_BYTES} is the most")
    index = decode_document(data, ReleaseIndex, RELEASE_SCHEMA, "release-invalid", "release index")
    for what, names in (
        ("variant", [v.variant for v in index.variants]),
        ("bundle", [v.bundle for v in index.variants]),
    ):
        for name in _repeated(names):
            raise ReleaseError("release-invalid", f"the release index names {what} {name!r} twice")
    return index


def check_manifest(manifest: Manifest) -> None:
    """Check what the schema cannot say: paths, references between the parts, the contract's sense.

    Raises:
        ReleaseError: ``bundle-path``, ``manifest-invalid`` or ``manifest-critical``.
    """
    if manifest.encryption is not None:
        scheme = manifest.encryption.scheme
        raise ReleaseError("manifest-critical", f"the bundle is encrypted with {scheme!r}, which is not known here")
    check_paths([file.path for file in manifest.files])
    roles = {file.path: file.role for file in manifest.files}
    for where, path in _references(manifest):
        if path not in roles:
            raise ReleaseError("manifest-invalid", f"{where} names {path!r}, which is not among the files")
    for stage in manifest.stages:
        if roles[stage.artifact] != "artifact":
            message = f"stage {stage.name!r} runs {stage.artifact!r}, whose role is {roles[stage.artifact]!r}"
            raise ReleaseError("manifest-invalid", f"{message}, expected 'artifact'")
    for problem in _contract_problems(manifest.contract):
        raise ReleaseError("manifest-invalid", f"the contract {problem}")
    for problem in _binding_problems(manifest):
        raise ReleaseError("manifest-invalid", problem)


def encode_document(document: _Document, code: str, what: str) -> bytes:
    """Return the canonical JSON of a document, as every reader will see it.

    Raises:
        ReleaseError: `code`.
    """
    try:
        # There and back: where a float is declared, a caller's 1 becomes 1.0, as it will be for every reader.
        return canonical_json(msgspec.convert(msgspec.to_builtins(document), type(document)))
    except (msgspec.MsgspecError, TypeError, ValueError, RecursionError) as error:
        raise ReleaseError(code, f"the {what} cannot be written: {error}") from error


def decode_document(data: bytes, kind: type[_Document], schema: str, code: str, what: str) -> _Document:
    """Decode a document that must be canonical JSON with this schema and no unknown critical extension.

    Raises:
        ReleaseError: `code`, ``manifest-schema`` or ``manifest-critical``.
    """
    try:
        # The schema and the critical names come first: "update edgesdk" is a better answer than "unknown field".
        head = msgspec.json.decode(data, type=_Head)
        _check_head(head, schema, what)
        document = msgspec.json.decode(data, type=kind)
        canonical = canonical_json(document)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise ReleaseError(code, f"the {what} is not valid: {error}") from error
    if canonical != data:
        raise ReleaseError(code, f"the {what} is not canonical JSON (sorted keys, no white space, no defaults)")
    return document


class _Head(msgspec.Struct):
    schema: str
    critical: tuple[str, ...] = ()


def _check_head(head: _Head, schema: str, what: str) -> None:
    if head.schema != schema:
        raise ReleaseError("manifest-schema", f"the {what} has schema {head.schema[:80]!r}, expected {schema!r}")
    unknown = sorted(set(head.critical) - KNOWN_CRITICAL)
    if unknown:
        raise ReleaseError("manifest-critical", f"the {what} needs {unknown[0][:80]!r}, which is not known here")


def check_paths(paths: list[str]) -> None:
    """Refuse names that are reserved, that collide, or that are a file and a folder at once.

    Raises:
        ReleaseError: ``bundle-path``.
    """
    for path in paths:
        if path.casefold() in RESERVED_NAMES:
            raise ReleaseError("bundle-path", f"{path!r} is a reserved name")
    for path in _repeated([path.casefold() for path in paths]):
        raise ReleaseError("bundle-path", f"two files are named {path!r} (upper and lower case are not told apart)")
    folded = {path.casefold() for path in paths}
    for path in sorted(folded):
        parts = path.split("/")
        for depth in range(1, len(parts)):
            parent = "/".join(parts[:depth])
            if parent in folded or parent in RESERVED_NAMES:
                raise ReleaseError("bundle-path", f"{parent!r} is a file and also the folder of {path!r}")


def _references(manifest: Manifest) -> Iterator[tuple[str, str]]:
    for stage in manifest.stages:
        yield f"stage {stage.name!r}", stage.artifact
    if manifest.reference is not None:
        yield "reference", manifest.reference
    if manifest.sbom is not None:
        yield "sbom", manifest.sbom
    if (parity := manifest.golden.parity) is not None:
        yield from (("golden.parity", path) for path in (*parity.inputs.values(), *parity.outputs.values()))
    if (truth := manifest.golden.truth) is not None:
        yield from (("golden.truth", path) for path in (*truth.inputs.values(), truth.labels))
        if truth.correct is not None:
            yield "golden.truth.correct", truth.correct


def _contract_problems(contract: Contract) -> Iterator[str]:
    for what, specs in (("inputs", contract.inputs), ("outputs", contract.outputs)):
        if not specs:
            yield f"has no {what}"
        for name in _repeated(spec.name for spec in specs):
            yield f"names {name!r} twice among its {what}"
        for spec in specs:
            yield from (f"{problem} of {spec.name!r}" for problem in _tensor_problems(spec))
    for name in _repeated(contract.labels):
        yield f"has the label {name!r} twice"
    inputs, outputs = ({spec.name for spec in specs} for specs in (contract.inputs, contract.outputs))
    for state in contract.states:
        if state.input not in inputs or state.output not in outputs:
            yield f"has a state {state.output!r} -> {state.input!r} that is not an output and an input"
    last = contract.outputs[0].shape[-1:]
    if contract.task == "classification" and contract.labels and last and last != (len(contract.labels),):
        yield f"has {len(contract.labels)} labels, but {contract.outputs[0].name!r} ends with {last[0]}"


def _tensor_problems(spec: TensorSpec) -> Iterator[str]:
    if spec.range is not None and not spec.range[0] <= spec.range[1]:
        yield f"has an empty range {list(spec.range)}"
    if spec.layout is not None and len(spec.layout) != len(spec.shape):
        yield f"has layout {spec.layout!r} for {len(spec.shape)} dimensions"
    if (norm := spec.normalisation) is not None:
        channels = spec.shape[channel_axis(spec)] if spec.shape else None
        if len(norm.mean) != len(norm.std) or (isinstance(channels, int) and len(norm.mean) not in {1, channels}):
            yield f"has {len(norm.mean)} means and {len(norm.std)} deviations for {channels} channels"
        if not all(std > 0 for std in norm.std):
            yield "has a standard deviation that is not positive"


def channel_axis(spec: TensorSpec) -> int:
    """Return the axis along which `spec.normalisation` applies: that of ``C`` in the layout, else the last one."""
    position = spec.layout.find("C") if spec.layout is not None else -1
    return position if position >= 0 else -1


def _binding_problems(manifest: Manifest) -> Iterator[str]:
    known = {spec.name for spec in manifest.contract.inputs}
    for stage in manifest.stages:
        for binding in stage.bindings.inputs:
            if binding.tensor not in known:
                yield f"stage {stage.name!r} takes {binding.tensor!r}, but neither the contract nor a stage gives it"
        for binding in (*stage.bindings.inputs, *stage.bindings.outputs):
            if binding.scale is not None and (not binding.scale > 0 or binding.zero_point is None):
                found = f"scale {binding.scale} and zero point {binding.zero_point}"
                yield f"stage {stage.name!r} binds {binding.tensor!r} with {found}"
        known |= {binding.tensor for binding in stage.bindings.outputs}
    for spec in manifest.contract.outputs:
        if spec.name not in known:
            yield f"no stage gives the contract's output {spec.name!r}"


def _repeated(names: Iterable[str]) -> list[str]:
    return sorted(name for name, count in Counter(names).items() if count > 1)
