"""What the rules of Ethos-U measure: windows, paddings, reduced axes."""

from __future__ import annotations

from edgesdk_converters.lint.graph import Node, listed
from edgesdk_converters.lint.rules.vela_roles import padded, role
from edgesdk_converters.lint.tensor import Tensor


def bits(tensor: Tensor) -> int:
    """Return the width of a number."""
    return {"bool": 8, "string": 0, "resource": 0}.get(
        tensor.dtype, int("".join(filter(str.isdigit, tensor.dtype)) or 0)
    )


def needed_padding(size: int, stride: int, kernel: int) -> int:
    """Return what SAME adds along one axis."""
    return max((-(-size // stride) - 1) * stride + kernel - size, 0)


def window(node: Node) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    """Return (height, width) of the kernel, the strides and the dilations of a convolution or pool."""
    option = node.attributes.get
    weights = role(node, "weights")
    if weights is not None:
        shape = padded(weights.dims)
        kernel = (shape[-3], shape[-2])
    else:
        kernel = (option("filter_height", 1), option("filter_width", 1))
    return (
        kernel,
        (option("stride_h", 1), option("stride_w", 1)),
        (option("dilation_h_factor", 1), option("dilation_w_factor", 1)),
    )


def pads(node: Node) -> bool:
    """Say whether SAME padding really adds rows or columns."""
    given = role(node, "feature")
    if node.attributes.get("padding") != "same" or given is None:
        return False
    (height, width), strides, dilations = window(node)
    shape = padded(given.dims)
    reach = ((height - 1) * dilations[0] + 1, (width - 1) * dilations[1] + 1)
    return any(needed_padding(shape[at - 3], strides[at], reach[at]) for at in (0, 1))


def reduced(node: Node) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Return the input's shape, four dimensions at least, and which of them are reduced."""
    given, axes = role(node, "feature"), role(node, "parameter")
    if given is None or axes is None or axes.values is None:
        return (), ()
    rank = len(given.dims)
    hit = {axis % rank for axis in listed(axes.values)} if rank else set()
    return padded(given.dims), (False,) * max(0, 4 - rank) + tuple(at in hit for at in range(rank))


def shown(tensor: Tensor) -> str:
    """Return a shape as people write it."""
    return "x".join("?" if size is None else str(size) for size in tensor.shape or ()) or "scalar"
