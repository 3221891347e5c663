"""TFLite files as objects and back.

Trap: the generated Python code forgets that the schema wants a buffer's data aligned to 16 bytes.
"""

from __future__ import annotations

from typing import Any

ALIGNMENT = 16


def parse(content: bytes) -> Any:
    """Return a TFLite file as a ``ModelT``, data that lies behind the tables included."""
    from ai_edge_litert.tools import flatbuffer_utils  # noqa: PLC0415 - only in the child

    return flatbuffer_utils.read_model_from_bytearray(content)


def pack(model: Any) -> bytes:
    """Return the bytes of a ``ModelT``."""
    import flatbuffers  # noqa: PLC0415 - only in the child

    class Builder(flatbuffers.Builder):  # type: ignore[misc]  # it has no types
        def CreateNumpyVector(self, x: Any) -> Any:  # noqa: N802 - its name there
            self.Prep(ALIGNMENT, x.nbytes)
            return super().CreateNumpyVector(x)

    builder = Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
