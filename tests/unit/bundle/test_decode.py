"""What a manifest must and must not say."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgesdk.bundle.decode import decode_manifest, decode_release, encode_manifest
from edgesdk.bundle.manifest import Encryption, GoldenSet, Manifest, Parity, Tolerance
from edgesdk.canonical import canonical_json
from edgesdk.contract import Normalisation, TensorSpec
from edgesdk.errors import ReleaseError


def refused(data: bytes) -> ReleaseError:
    with pytest.raises(ReleaseError) as caught:
        decode_manifest(data)
    return caught.value


def changed(manifest: Manifest, **fields: Any) -> bytes:
    return canonical_json({**msgspec.to_builtins(manifest), **fields})


def test_round_trip(manifest: Manifest) -> None:
    """What is encoded is what is decoded."""
    assert decode_manifest(encode_manifest(manifest)) == manifest


def test_integers_where_floats_are_declared_are_the_same_manifest(manifest: Manifest) -> None:
    """A range of (0, 1) and one of (0.0, 1.0) give the same bytes, so the same hash."""
    data = []
    for limits in ((0, 1), (0.0, 1.0)):
        spec = msgspec.structs.replace(manifest.contract.inputs[0], range=limits)
        contract = msgspec.structs.replace(manifest.contract, inputs=(spec,))
        data.append(encode_manifest(msgspec.structs.replace(manifest, contract=contract)))
    assert data[0] == data[1]


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"surprise": 1}, "manifest-invalid"),
        ({"schema": "edge.bundle/2"}, "manifest-schema"),
        ({"schema": "edge.bundle/2", "surprise": 1}, "manifest-schema"),
        ({"critical": ["sealed"]}, "manifest-critical"),
        ({"critical": ["sealed"], "sealed": {}}, "manifest-critical"),
        ({"model": "digits\n"}, "manifest-invalid"),
        ({"model": "../digits"}, "manifest-invalid"),
        ({"release": "1.2"}, "manifest-invalid"),
        ({"reference": "absent.json"}, "manifest-invalid"),
        ({"sbom": "../../etc/passwd"}, "manifest-invalid"),
    ],
)
def test_unknown_meaning_is_refused(manifest: Manifest, fields: dict[str, Any], code: str) -> None:
    """Unknown fields, schemas, critical extensions and malformed names each have their code."""
    assert refused(changed(manifest, **fields)).code == code


def test_extensions_are_room_for_later(manifest: Manifest) -> None:
    """What stands in `extensions` and is not critical is carried along."""
    found = decode_manifest(changed(manifest, extensions={"vendor": {"x": [1, 2.5, None]}}))
    assert found.extensions == {"vendor": {"x": [1, 2.5, None]}}


def test_encryption_is_refused_until_it_is_known(manifest: Manifest) -> None:
    """A device that does not know the scheme must not run what it cannot read."""
    sealed = msgspec.structs.replace(manifest, encryption=Encryption(scheme="age", key_id="k"))
    assert refused(canonical_json(sealed)).code == "manifest-critical"


@pytest.mark.parametrize(
    "paths",
    [
        ["Model.tflite", "golden/x.npy", "labels.txt", "model.tflite"],
        ["model.tflite", "manifest.json"],
        ["model.tflite", "Generation.JSON"],
        ["model.tflite", "model.tflite/inner"],
        ["model.tflite", "manifest.json/inner"],
        ["model.tflite", "model.tflite"],
    ],
)
def test_paths_that_collide_are_refused(manifest: Manifest, paths: list[str]) -> None:
    """No two names may meet in a file system, whatever its case rules, nor in a generation's folder."""
    template = msgspec.to_builtins(manifest.files[0])
    files = [{**template, "path": path} for path in paths]
    assert refused(changed(manifest, files=files)).code == "bundle-path"


@pytest.mark.parametrize(
    "path", ["/abs", "../up", "a/../b", "a//b", ".hidden", "a\\b", "a b", "é", "a\n", "x" * 201, ""]
)
def test_paths_that_escape_cannot_be_written(manifest: Manifest, path: str) -> None:
    """The schema itself refuses what is no plain relative path."""
    files = [{**msgspec.to_builtins(manifest.files[0]), "path": path}]
    assert refused(changed(manifest, files=files)).code == "manifest-invalid"


def test_only_one_encoding_is_a_manifest(manifest: Manifest) -> None:
    """White space, another order, an explicit default or a repeated key is another encoding and refused."""
    data = encode_manifest(manifest)
    document = json.loads(data)
    variants = [
        json.dumps(document, indent=1).encode(),
        json.dumps(dict(reversed(document.items())), separators=(",", ":")).encode(),
        canonical_json({**document, "licence": None}),
        data.replace(b'"model":"digits"', b'"model":"digits","model":"digits"'),
        data + b"\n",
        data.replace(b"digits", b"d\\u0069gits"),
    ]
    for variant in variants:
        assert variant != data
        assert refused(variant).code == "manifest-invalid"


def contract_with(manifest: Manifest, **fields: Any) -> bytes:
    return canonical_json(
        msgspec.structs.replace(manifest, contract=msgspec.structs.replace(manifest.contract, **fields))
    )


X = TensorSpec(name="x", shape=(1, 4))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"inputs": ()}, "has no inputs"),
        ({"inputs": (X, X)}, "'x' twice"),
        ({"labels": ("a", "a")}, "label 'a' twice"),
        ({"labels": ("a", "b", "c")}, "3 labels, but 'y' ends with 2"),
        ({"inputs": (msgspec.structs.replace(X, range=(1.0, 0.0)),)}, "empty range"),
        ({"inputs": (msgspec.structs.replace(X, layout="NHWC"),)}, "'NHWC' for 2 dimensions"),
        (
            {"inputs": (msgspec.structs.replace(X, normalisation=Normalisation(mean=(0.0,) * 3, std=(1.0,) * 3)),)},
            "3 means",
        ),
        (
            {"inputs": (msgspec.structs.replace(X, normalisation=Normalisation(mean=(0.0,), std=(0.0,))),)},
            "not positive",
        ),
        ({"outputs": (TensorSpec(name="z", shape=(1, 2)),)}, "no stage gives the contract's output 'z'"),
        ({"inputs": (TensorSpec(name="w", shape=(1, 4)),)}, "takes 'x'"),
    ],
)
def test_contracts_without_sense_are_refused(manifest: Manifest, fields: dict[str, Any], words: str) -> None:
    """A contract that no call could satisfy is found when the bundle is made, not on the device."""
    error = refused(contract_with(manifest, **fields))
    assert error.code == "manifest-invalid"
    assert words in error.message


def test_a_golden_set_names_files_of_the_bundle(manifest: Manifest) -> None:
    """A reference to a file that is not packed is refused."""
    parity = Parity(count=1, inputs={"x": "absent.npy"}, outputs={}, tolerances={"y": Tolerance(absolute=0.0)})
    error = refused(canonical_json(msgspec.structs.replace(manifest, golden=GoldenSet(parity=parity))))
    assert "'absent.npy', which is not among the files" in error.message


def test_what_json_cannot_hold_is_refused_when_written(manifest: Manifest) -> None:
    """NaN in the contract, or a foreign object in the options, never reaches a bundle."""
    for fields in ({"options": {"x": object()}}, {"options": {"x": float("nan")}}):
        with pytest.raises(ReleaseError) as caught:
            encode_manifest(msgspec.structs.replace(manifest, **fields))
        assert caught.value.code == "manifest-invalid"


@given(st.binary(max_size=300))
def test_noise_is_refused_and_nothing_else_happens(data: bytes) -> None:
    """Arbitrary bytes give a ReleaseError from both decoders."""
    for decode in (decode_manifest, decode_release):
        with pytest.raises(ReleaseError):
            decode(data)


def test_deep_nesting_and_great_size_are_refused() -> None:
    """Neither a tower of brackets nor a megabyte of it harms the reader."""
    tower = b'{"extensions":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b',"schema":"edge.bundle/1"}'
    assert refused(tower).code == "manifest-invalid"
    assert refused(b" " * ((1 << 20) + 1)).code == "bundle-limit"
