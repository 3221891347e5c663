"""Canonical JSON: one byte string per value, so that a hash or a signature over it means something."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec


def canonical_json(value: Any) -> bytes:
    """Encode `value` with sorted keys, no white space, UTF-8, no NaN.

    msgspec structs are turned into built-in types first. The encoding is RFC 8785 for the values that we hash
    (strings, integers, booleans, null, and floats that Python and ECMAScript print alike).

    Raises:
        ValueError: If a float is NaN or infinite.
    """
    plain = msgspec.to_builtins(value)
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def sha256_hex(data: bytes) -> str:
    """Return the lower-case hexadecimal SHA-256 of `data` (64 characters)."""
    return hashlib.sha256(data).hexdigest()
