"""Inputs and outputs as a vendor's tool describes them, as plain JSON."""

from __future__ import annotations

from typing import Any

from edgesdk.runtime import RawTensor


def raw_tensors(described: list[dict[str, Any]]) -> list[RawTensor]:
    """Return tensors as our runtimes describe them."""
    return [
        RawTensor(
            name=each["name"],
            index=each["index"],
            dtype=each["dtype"],
            shape=tuple(each["shape"]),
            scale=each.get("scale"),
            zero_point=each.get("zero_point"),
        )
        for each in described
    ]
