"""Other tools' artifacts on a target with a compiler of its own: compiled, placed and run by the steps that ours take.

The profile of a Jetson is asked with its parser here; what its users get does without.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from edgesdk_converters.backends import Backend, find_backend
from edgesdk_converters.backends.steps import compile_step, measure_step
from edgesdk_converters.judge import read_outputs
from edgesdk_converters.recipes import find_recipe
from edgesdk_converters.request import read_contract
from edgesdk_converters.running.cache import StepCache
from edgesdk_converters.running.steps import Ref, Runner, Silent

from edgesdk.targets.profiles import load_profile

OWN = {"jetson-orin-gpu": "jetson-parsed.toml"}
"""Profiles that this benchmark uses in place of those of the name."""
_SLOW_CASES = ("magika", "basic-pitch", "ocr-angle", "ocr-reading", "efficientnet-lite0")
SLOW = {("qualcomm-htp", case): "htp-source.toml" for case in _SLOW_CASES}
"""Where the simulator, at up to five seconds a call, takes a ladder more than a row's time (the last two: not tried).

It compiles and places there, and the portable file answers.
"""
TIMEOUT_S = 600.0


@dataclass(frozen=True, kw_only=True)
class OnChip:
    """What a target's tool made of an artifact.

    Attributes:
        size: Bytes of the compiled file.
        placement: Where its operators run, as plain JSON.
        outputs: What the target's runtime or simulator answered to the evaluation data; None: it has none.
    """

    size: int
    placement: dict[str, Any]
    outputs: dict[str, Any] | None


def profile_of(target: str, case: str) -> str:
    """Return what `edge convert` is given for a target: its name, or a profile of this benchmark's."""
    own = SLOW.get((target, case), OWN.get(target))
    return target if own is None else str(Path(__file__).with_name(own))


def backend_of(target: str, case: str) -> Backend | None:
    """Return the compiler of a target; None where the portable file is run."""
    return find_backend(load_profile(profile_of(target, case)))


def run(artifact: Path, target: str, case: str, folder: Path, cache: Path) -> OnChip:
    """Compile an artifact as it is, and run the case's evaluation data where the target's tool can.

    Raises:
        EdgeError: The tool does not take it.
    """
    backend, profile = backend_of(target, case), load_profile(profile_of(target, case))
    assert backend is not None
    # A tool that quantizes by itself is told not to: the file is quantized.
    job = (backend, profile, find_recipe("float16" if backend.quantizes else "int8"))
    contract = msgspec.to_builtins(read_contract(folder / "contract.toml"))
    compiling = compile_step(job, artifact, {}, contract)
    steps = [compiling]
    if backend.measure is not None:
        asked = artifact if backend.judged == "simulator" else Ref(step=compiling.name, file=backend.file)
        steps.append(measure_step(job, asked, {"evaluation": folder / "evaluation.npz"}, contract, None))
    entries = Runner(StepCache(cache), timeout_s=TIMEOUT_S).run(steps, Silent())
    made = entries[compiling.name]
    outputs = None if backend.measure is None else read_outputs(entries[steps[-1].name])["evaluation"]
    size = (made.folder / backend.file).stat().st_size
    return OnChip(size=size, placement=placement(made.result), outputs=outputs)


def placement(result: dict[str, Any]) -> dict[str, Any]:
    """Return the placement of a compile step; a file that a Jetson's parser does not take whole is refused there."""
    told = {name: result["placement"][name] for name in ("accelerator", "cpu", "macs_share")}
    beside = [
        f"{each['op']} ({each['why']})" if each["why"] else each["op"] for each in result["placement"]["fallback"]
    ]
    refused = result.get("tool", "").startswith("the parser") and not result["whole"]
    return {**told, "beside": sorted(set(beside)), "refused": refused}
