"""Mutations: of bytes, and of JSON documents by what their parts mean."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

from edgesdk.canonical import canonical_json

MAX_GROWTH = 4096
DEPTH = 1200
NUMBERS = (0, -1, 1, 127, 128, 255, 256, 65535, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64, -(2**63), 10**400)
FLOATS = (0.0, -0.0, 5e-324, 1e308, -1e308, 0.1)
TEXTS = (
    "", "\x00", "..", "../x", "/etc/passwd", "a\n", "é", "é", "٣", "𐀀", "\ud800", "A" * 300, "CON", "1.0.0",
    "9" * 400, "NaN", "-inf", "2026-13-45T99:99:99Z", "0" * 64, "{}", "a/b/../c", "manifest.json",
)  # fmt: skip


def mutate_bytes(data: bytes, rng: random.Random, others: tuple[bytes, ...]) -> bytes:
    """Return `data` with one to four places changed."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        rng.choice(_BYTE_EDITS)(changed, rng, others)
    return bytes(changed[: len(data) + MAX_GROWTH])


def mutate_json(data: bytes, rng: random.Random) -> bytes:
    """Return the document with one to three parts replaced, removed, repeated or renamed; bytes if it is no JSON."""
    tree = json.loads(data)
    for _ in range(rng.choice((1, 1, 2, 3))):
        tree = _edit(tree, rng)
    try:
        encoded = canonical_json(tree)
    except (ValueError, RecursionError, TypeError):
        encoded = json.dumps(tree).encode()
    return encoded


def _flip(data: bytearray, rng: random.Random, _: tuple[bytes, ...]) -> None:
    if data:
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def _set(data: bytearray, rng: random.Random, _: tuple[bytes, ...]) -> None:
    if data:
        data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))


def _number(data: bytearray, rng: random.Random, _: tuple[bytes, ...]) -> None:
    width = rng.choice((2, 4, 8))
    if len(data) >= width:
        at = rng.randrange(len(data) - width + 1)
        value = rng.choice(NUMBERS[:-1]) % (1 << (8 * width))
        data[at : at + width] = value.to_bytes(width, rng.choice(("little", "big")))  # type: ignore[arg-type]


def _insert(data: bytearray, rng: random.Random, _: tuple[bytes, ...]) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = rng.choice(
        (rng.randbytes(rng.choice((1, 4, 40))), b"[" * DEPTH, b'{"a":' * DEPTH, b"\xff\xfe", b"\n")
    )


def _delete(data: bytearray, rng: random.Random, _: tuple[bytes, ...]) -> None:
    at = rng.randrange(len(data) + 1)
    del data[at : at + rng.choice((1, 2, 8, 64, 1024))]


def _repeat(data: bytearray, rng: random.Random, _: tuple[bytes, ...]) -> None:
    at = rng.randrange(len(data) + 1)
    data[at:at] = data[at : at + rng.choice((1, 8, 64, 512))]


def _truncate(data: bytearray, rng: random.Random, _: tuple[bytes, ...]) -> None:
    del data[rng.randrange(len(data) + 1) :]


def _splice(data: bytearray, rng: random.Random, others: tuple[bytes, ...]) -> None:
    other = rng.choice(others)
    start = rng.randrange(len(other) + 1)
    at = rng.randrange(len(data) + 1)
    data[at : at + rng.choice((0, 8, 64))] = other[start : start + rng.choice((4, 32, 256))]


_BYTE_EDITS: tuple[Callable[[bytearray, random.Random, tuple[bytes, ...]], None], ...] = (
    _flip, _flip, _set, _number, _insert, _delete, _repeat, _truncate, _splice,
)  # fmt: skip


def _edit(tree: Any, rng: random.Random) -> Any:
    places = list(_places(tree))
    if not places:
        return _odd(rng, tree)
    holder, key = rng.choice(places)
    what = rng.choice(("remove", "rename", "repeat", "move", "replace", "replace", "replace"))
    if what == "remove":
        del holder[key]
    elif what == "rename" and isinstance(holder, dict):
        holder[rng.choice(TEXTS)] = holder.pop(key)
    elif what == "repeat" and isinstance(holder, list):
        holder.extend([holder[key]] * rng.choice((1, 2, 40)))
    elif what == "move":
        other, there = rng.choice(places)
        if there in other if isinstance(other, dict) else there < len(other):
            holder[key] = json.loads(json.dumps(other[there]))
    else:
        holder[key] = _odd(rng, holder[key])
    return tree


def _places(tree: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    left = [tree]
    while left:
        node = left.pop()
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            found.append((node, key))
            left.append(node[key])
    return found


def _odd(rng: random.Random, value: Any) -> Any:
    if isinstance(value, str) and value and rng.random() < 0.4:  # noqa: PLR2004 - often near to what it was
        at = rng.randrange(len(value))
        return value[:at] + rng.choice(TEXTS) + value[at + 1 :]
    if isinstance(value, int) and rng.random() < 0.4:  # noqa: PLR2004 - as above
        return value + rng.choice((-1, 1, 2**31))
    kinds: tuple[Any, ...] = (rng.choice(NUMBERS), rng.choice(FLOATS), rng.choice(TEXTS), None, True, [], {}, [[]])
    return rng.choice((*kinds, [value], {"x": value}))
