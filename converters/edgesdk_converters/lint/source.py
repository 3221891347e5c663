"""From what a user gives to a file that can be linted: exported first where it is a framework's model."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from edgesdk.errors import ConfigError, TargetError
from edgesdk.targets.profiles import Profile
from edgesdk_converters.lint.graph import Graph, GraphFormat
from edgesdk_converters.lint.read import read_graph

if TYPE_CHECKING:
    import onnx

    from edgesdk.contract import Contract
    from edgesdk_converters.running.steps import Runner, Step

ANY_OPSET = 1 << 16
"""Where a target says nothing of operator sets."""
READABLE = (".tflite", ".onnx")
BATCH_OF_ONE = "the open batch of the model is linted as 1, as `edge convert` fixes it"
SETTLED = (
    "the model is linted as `edge convert` settles it for compilers: computed sizes, softmaxes, roots, recurrent layers"
    " and the operator set"
)
BY_CONTRACT = (
    "the open sizes of the model are linted as the contract's, an open batch as 1, as `edge convert` fixes them"
)


def read_model(
    path: Path,
    profile: Profile,
    *,
    contract: Path | None = None,
    cache_dir: Path | None = None,
    told: Callable[[str], None] | None = None,
) -> Graph:
    """Read a model for a target; a Keras, TensorFlow or PyTorch model is exported by a child, once.

    Args:
        path: ``.tflite`` or ``.onnx``, or whatever `edge convert` takes.
        profile: The target; it decides what is exported.
        contract: TOML file of the contract, which an export needs for its fixed sizes; an ONNX file with open sizes
            gets its.
        cache_dir: Where exports are kept; None: the user's cache.
        told: Is told of an export, which takes long, before it is done.

    Raises:
        ConfigError: ``file-missing``, ``model-format``, or ``argument-invalid`` if an export has no contract.
        EdgeError: Of the export.
    """
    if path.suffix in READABLE or not path.exists():
        return _settled(path, _sized(path, read_graph(path), contract), profile, contract)
    from edgesdk_converters.sources import open_source  # noqa: PLC0415 - only where something is exported

    source = open_source(path)
    if source.format in {"tflite", "onnx"}:
        return _settled(path, _sized(path, read_graph(path), contract), profile, contract)
    if contract is None:
        raise ConfigError(
            "argument-invalid",
            f"{path} must be exported before it is linted, which needs its contract",
            hint=f"Give --contract (`edge contract draft {path}` writes a first one), or the .tflite or .onnx export.",
        )
    return read_graph(_exported({source.format: source}, wanted_format(profile), contract, cache_dir, told))


def _sized(path: Path, graph: Graph, contract: Path | None) -> Graph:
    """Return a float ONNX graph with the sizes that `edge convert` gives it; it takes no other, and TFLite as it is."""
    opened = [tensor.shape for tensor in graph.inputs if tensor.shape is not None and None in tensor.shape]
    if graph.format != "onnx" or graph.quantized or not opened:
        return graph
    from edgesdk_converters.lint.read_onnx import read_onnx  # noqa: PLC0415 - heavy
    from edgesdk_converters.request import read_contract  # noqa: PLC0415 - heavy
    from edgesdk_converters.sources.onnx import fix_batch, fix_sizes  # noqa: PLC0415 - heavy

    if contract is not None:
        fixed = functools.partial(fix_sizes, contract=read_contract(contract))
        return replace(read_onnx(path, change=fixed), assumed=(BY_CONTRACT,))
    if all(shape[0] is not None for shape in opened):
        return graph
    more = (
        "; --contract fixes the other sizes (`edge contract draft` writes a first one)"
        if any(None in shape[1:] for shape in opened)
        else ""
    )
    return replace(read_onnx(path, change=fix_batch), assumed=(BATCH_OF_ONE + more,))


def _settled(path: Path, graph: Graph, profile: Profile, contract: Path | None) -> Graph:
    """Return a float ONNX graph as `edge convert` settles it for compilers, where that would change it.

    A file that cannot be settled so is linted as it is.
    """
    if graph.format != "onnx" or graph.quantized or profile.compiler is None or not _unsettled(graph, profile):
        return graph
    from edgesdk_converters.lint.read_onnx import read_onnx  # noqa: PLC0415 - heavy
    from edgesdk_converters.request import read_contract  # noqa: PLC0415 - heavy

    promised = None if contract is None else read_contract(contract)
    change = functools.partial(_change, profile, promised, folds=_folds(profile) and _open(graph))
    try:
        made = read_onnx(path, change=change)
    except ConfigError:
        return graph
    same = made.opsets == graph.opsets and _kinds(made) == _kinds(graph)
    return graph if same else replace(made, assumed=(*graph.assumed, SETTLED))


def _change(profile: Profile, contract: Contract | None, model: onnx.ModelProto, *, folds: bool) -> None:
    """Settle a model for a target in place, in an operator set that it reads if there is a way."""
    from edgesdk_converters.sources.onnx import fix_batch, fix_sizes, in_opset, opset_of  # noqa: PLC0415 - heavy
    from edgesdk_converters.sources.settled import flatten, infer_sizes, settle  # noqa: PLC0415 - heavy

    fix_batch(model) if contract is None else fix_sizes(model, contract)
    with tempfile.TemporaryDirectory(prefix="edgesdk-lint-") as folder:
        made = settle(model, contract, Path(folder), whole=wanted_format(profile) == "tflite")
        if made is None and folds:
            made = flatten(model, Path(folder))
            if made is not None:
                infer_sizes(made, contract)
    made = made or model
    lowest, highest = _opsets(profile)
    wanted = max(min(opset_of(made), highest), lowest)
    if wanted != opset_of(made):
        with contextlib.suppress(TargetError):  # then the rule about operator sets has a finding
            made = in_opset(made, wanted, "", highest)
    if made is not model:
        model.CopyFrom(made)


def _unsettled(graph: Graph, profile: Profile) -> bool:
    from edgesdk_converters.sources.settled import UNTAKEN  # noqa: PLC0415 - only of an ONNX file

    lowest, highest = _opsets(profile)
    if not lowest <= graph.opsets.get("", lowest) <= highest:
        return True
    fixed = all(tensor.static for tensor in graph.inputs)
    return fixed and ((_folds(profile) and _open(graph)) or any(node.op in UNTAKEN for node in graph.nodes))


def _folds(profile: Profile) -> bool:
    """Say whether computed sizes are constants once a compiler gets them: onnx2tf gets them so, Rockchip folds them."""
    return profile.compiler is not None and profile.compiler.name in {"vela", "rknn"}


def _opsets(profile: Profile) -> tuple[int, int]:
    """Return the least and the highest operator set that `edge convert` writes for a target."""
    limits = [runtime for runtime in profile.runtimes if runtime.max_opset is not None]
    lowest = max((runtime.min_opset or 0 for runtime in limits), default=0)
    return lowest, min((runtime.max_opset or ANY_OPSET for runtime in limits), default=ANY_OPSET)


def _kinds(graph: Graph) -> Counter[str]:
    return Counter(node.op for node in graph.nodes)


def _open(graph: Graph) -> bool:
    return any(not tensor.static for tensor in graph.tensors() if not tensor.constant and tensor.dtype != "unknown")


def wanted_format(profile: Profile) -> GraphFormat:
    """Return the format that a target takes, or what its compiler takes."""
    if profile.compiler is not None:
        return "tflite" if profile.compiler.name == "vela" else "onnx"
    return "tflite" if any(runtime.name == "tflite" for runtime in profile.runtimes) else "onnx"


def _exported(
    sources: Mapping[str, object],
    wanted: GraphFormat,
    contract: Path,
    cache_dir: Path | None,
    told: Callable[[str], None] | None,
) -> Path:
    from edgesdk_converters.planning.routes import Ceiling, find_route  # noqa: PLC0415
    from edgesdk_converters.request import read_contract  # noqa: PLC0415
    from edgesdk_converters.sources.keras import check_tensorflow  # noqa: PLC0415

    if "pt2" not in sources:
        check_tensorflow()
    words = msgspec.to_builtins(read_contract(contract))
    route = find_route(wanted, sources, words, Ceiling())  # type: ignore[arg-type] # formats as `open_source` names them
    runner = run_steps(route.steps, f"exporting to {wanted}", cache_dir=cache_dir, told=told)
    return runner.path(route.float_file)


def run_steps(
    steps: Sequence[Step], doing: str, *, cache_dir: Path | None = None, told: Callable[[str], None] | None = None
) -> Runner:
    """Run steps of a conversion, each in a child, or take their results from the cache; return who knows the files.

    Args:
        steps: In their order.
        doing: What they do, for people.
        cache_dir: As for `read_model`.
        told: As for `read_model`.

    Raises:
        EdgeError: Of the first step that fails.
    """
    from edgesdk_converters.running.cache import StepCache, default_cache_dir  # noqa: PLC0415
    from edgesdk_converters.running.environments import first_uses  # noqa: PLC0415
    from edgesdk_converters.running.steps import Runner, Silent  # noqa: PLC0415

    runner = Runner(StepCache(cache_dir or default_cache_dir()), timeout_s=600.0)
    left = [step for step in steps if step.name not in runner.cached(steps)]
    if told is not None and left:
        for line in first_uses(step.environment for step in left):
            told(line)
        told(f"{doing} first, which takes some seconds; the result is kept")
    runner.run(steps, Silent())
    return runner
