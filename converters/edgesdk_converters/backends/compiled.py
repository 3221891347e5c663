"""What compiling came to: the file that is shipped, where its operators run, and the words for how it was judged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edgesdk.bundle.golden import Origin
from edgesdk_converters.backends import Backend
from edgesdk_converters.backends.placement import Placement
from edgesdk_converters.planning.plan import VariantPlan
from edgesdk_converters.running.cache import Entry


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """A compiled variant.

    Attributes:
        backend: What compiled it.
        path: The file.
        result: What the compile step answered.
    """

    backend: Backend
    path: Path
    result: dict[str, Any]

    @property
    def placement(self) -> Placement:
        """Where the operators run."""
        return msgspec.convert(self.result["placement"], Placement)

    @property
    def origin(self) -> Origin:
        """What computed the expected outputs of the parity set."""
        origins: dict[str, Origin] = {"source": "precompiled-source", "simulator": "simulator", "artifact": "artifact"}
        return origins[self.backend.judged]


def read_compiled(variant: VariantPlan, entries: Mapping[str, Entry]) -> Compiled | None:
    """Return what compiling a variant came to; None where the portable file is shipped."""
    if variant.compiled is None or variant.backend is None:
        return None
    entry = entries[variant.compiled.step]
    return Compiled(backend=variant.backend, path=entry.folder / variant.compiled.file, result=entry.result)


def judged_in(variant: VariantPlan, runtime: str) -> str:
    """Return where a variant was judged, in words that do not take the portable file for the compiled one."""
    if variant.backend is None or variant.backend.judged != "source":
        return runtime
    return f"{runtime}, before compilation by {variant.backend.title}"
