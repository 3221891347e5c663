"""What a caller asks for: the same words in Python and on the command line; and what it comes to once it is read."""

from __future__ import annotations

import contextlib
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from edgesdk.bundle.manifest import ModelName, ReleaseVersion
from edgesdk.contract import Contract, load_contract_toml
from edgesdk.errors import ConfigError
from edgesdk.runtime import installed
from edgesdk.targets.matching import architecture_name
from edgesdk.targets.profiles import Profile, load_profile
from edgesdk_converters import MAX_DROP
from edgesdk_converters.backends.placement import Share
from edgesdk_converters.data.inputs import as_npz
from edgesdk_converters.data.npz import DataSet, check_overlap, check_values, file_sha256, open_data
from edgesdk_converters.data.tables import check_columns, place
from edgesdk_converters.drafting.marks import unchecked
from edgesdk_converters.evaluate.catalogue import AGREEMENT, check_metric, default_metric, truth_kind
from edgesdk_converters.places import check_writable
from edgesdk_converters.planning.joining import joined_plan
from edgesdk_converters.planning.plan import Plan, VariantPlan, Wanted
from edgesdk_converters.planning.routes import TENSORFLOW_TOOLS, direct_formats
from edgesdk_converters.recipes import Format, find_recipes
from edgesdk_converters.running.cache import default_cache_dir
from edgesdk_converters.sources import Source, SourceFormat, open_source
from edgesdk_converters.sources.keras import check_tensorflow


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One call of `convert`.

    Attributes:
        models: Source files, at most one of each format (`edgesdk_converters.sources`); Keras, SavedModel and PyTorch
            are exported, and a format that no source gives directly is converted to where `formats` asks for it.
        name: The model's name.
        release: Its version, for example ``"1.0.0"``.
        targets: Names of hardware profiles.
        contract: TOML file of the contract.
        out: Folder of the release; it must not exist unless `force`.
        evaluation: Data that judges; with labels for accuracy, without for agreement with the float source.
        calibration: Data whose ranges int8 recipes use; none of it may be in `evaluation` or `truth`.
        truth: Labelled data that travels in the bundle and judges this release and its successors on devices. Each
            of the three is what `inputs.as_npz` takes.
        recipes: Names of recipes, or TOML files that hold some (`edgesdk_converters.recipes.read_recipe`).
        formats: Artifact formats, preferred first; empty: all that the sources give without conversion between formats.
        max_drop: Largest loss against the float source that the gate allows, as a fraction (0.01 is one point);
            the less, the more samples it takes to show. For errors of numbers, a fraction of the labels' standard
            deviation.
        metric: What the gate judges by (`edgesdk_converters.evaluate.catalogue`), or a ``module:function`` of one's
            own; None: what suits the contract's task and the labels.
        stop_early: Whether artifacts are run in instalments and evaluation ends when the gate is decided.
        min_speedup: How many times as fast as its float source an artifact must be shown to be, where this machine is
            of the target's architecture; None: the ratio is only reported.
        repair: Whether an artifact that the gate does not pass is made again by gentler recipes (`repair`).
        gate: Whether a loss refuses the release; without it a `reason` is recorded in every bundle.
        doctor: Whether calibration data is examined first; without it a `reason` is recorded too.
        reason: Why the gate or the doctor is off.
        fail_on_fallback: Largest share, 0 … 1, that may run beside a target's accelerator; None: it is only reported.
            Nothing at all on the accelerator is refused always.
        by: What it is a share of: multiply-accumulate operations, or operators.
        parent: The release that this one replaces.
        step_timeout_s: Wall time for one step, in seconds.
        cache_dir: Where results of steps are kept; None: the user's cache.
        built_at: RFC 3339 build time; None: ``SOURCE_DATE_EPOCH``, else now.
        force: Whether an existing `out` is replaced.
    """

    models: tuple[Path, ...]
    name: ModelName
    release: ReleaseVersion
    targets: tuple[str, ...]
    contract: Path
    out: Path
    evaluation: Path | None = None
    calibration: Path | None = None
    truth: Path | None = None
    recipes: tuple[str, ...] = ("int8",)
    formats: tuple[Format, ...] = ()
    max_drop: float = MAX_DROP
    metric: str | None = None
    stop_early: bool = False
    min_speedup: float | None = None
    repair: bool = False
    gate: bool = True
    doctor: bool = True
    reason: str | None = None
    fail_on_fallback: float | None = None
    by: Share = "macs"
    parent: str | None = None
    step_timeout_s: float = 600.0
    cache_dir: Path | None = None
    built_at: str | None = None
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A request whose files were read and checked.

    Attributes:
        data: Data sets by what they are for.
        data_sha256: Hashes of their files.
        wanted: What the plan was made for.
        plan: What will be done.
        notes: What a person should know before it is done, as sentences.
    """

    request: Request
    contract: Contract
    data: dict[str, DataSet]
    data_sha256: dict[str, str]
    wanted: Wanted
    plan: Plan
    notes: tuple[str, ...] = ()


def prepare(request: Request) -> Prepared:
    """Read and check everything that a conversion needs; nothing is converted or written.

    Raises:
        ConfigError: ``argument-invalid``, ``file-missing``, ``file-exists``, ``folder-unwritable``, ``config-invalid``,
            ``model-format``, ``data-invalid``, ``data-overlap`` or ``dependency-missing``.
        TargetError: ``target-unknown`` or ``recipe-unfit``.
    """
    _check_words(request)
    contract = read_contract(request.contract)
    sources = _sources(request.models)
    recipes = find_recipes(request.recipes)
    targets = [load_profile(name) for name in dict.fromkeys(request.targets)]
    _check_fallback(request, targets)
    data = _data(request, contract)
    wanted = Wanted(
        sources=sources,
        contract=contract,
        targets=targets,
        formats=request.formats or direct_formats(sources),
        recipes=recipes,
        data={name: opened.path for name, opened in data.items()},
        packages=[runtime.package for runtime in installed()],
        max_drop=request.max_drop,
        metric=_metric(request, contract, data.get("evaluation")),
        stop_early=request.stop_early,
        doctor=request.doctor,
        fail_on_fallback=request.fail_on_fallback,
        by=request.by,
    )
    plan = joined_plan(wanted)
    if any(step.tools == TENSORFLOW_TOOLS for step in plan.steps):
        check_tensorflow()
    hashes = {name: file_sha256(opened.path) for name, opened in data.items()}
    marked = unchecked(request.contract.read_text())
    return Prepared(
        request=request,
        contract=contract,
        data=data,
        data_sha256=hashes,
        wanted=wanted,
        plan=plan,
        notes=(
            *((f"{request.contract.name}: {marked}; what was guessed there may be wrong",) if marked else ()),
            *_untimed(request, plan),
        ),
    )


def runs_here(variant: VariantPlan) -> bool:
    """Say whether this machine is of the target's architecture; never where an accelerator runs the variant."""
    return variant.backend is None and architecture_name(platform.machine()) in variant.target.architectures


def _untimed(request: Request, plan: Plan) -> tuple[str, ...]:
    """Return a note about the targets of which no speed is asked though one is wanted."""
    names = dict.fromkeys(variant.target.name for variant in plan.variants if not runs_here(variant))
    if request.min_speedup is None or not names:
        return ()
    return (f"the speed of {', '.join(names)} is not judged: what is timed on this machine says nothing of it",)


def read_contract(path: Path) -> Contract:
    """Read a contract.

    Raises:
        ConfigError: ``file-missing`` or ``config-invalid``.
    """
    try:
        contract = load_contract_toml(path.read_text())
    except FileNotFoundError:
        raise ConfigError("file-missing", f"no contract file {path}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError("config-invalid", f"{path} is no contract: {error}") from error
    if not contract.inputs or not contract.outputs:
        raise ConfigError("config-invalid", f"{path} names no inputs or no outputs")
    last = contract.outputs[0].shape[-1:]
    if contract.task == "classification" and contract.labels and last != (len(contract.labels),):
        found = f"{len(contract.labels)} labels, but {contract.outputs[0].name!r} ends with {last}"
        raise ConfigError("config-invalid", f"{path} has {found}")
    return contract


def _check_fallback(request: Request, targets: Sequence[Profile]) -> None:
    """Refuse a limit that would hold of nothing: where there is no accelerator, nothing runs beside one."""
    if request.fail_on_fallback is None or any(target.accelerator is not None for target in targets):
        return
    names = " and ".join(target.name for target in targets)
    has = "have" if len(targets) > 1 else "has"
    message = f"fail_on_fallback limits what runs beside an accelerator, and {names} {has} none"
    raise ConfigError("argument-invalid", message, hint="Leave it out, or add a target with an accelerator.")


def _check_there(request: Request) -> None:
    missing = [path for path in (*request.models, request.contract) if not path.exists()]
    if missing:
        what = "contract" if missing[0] == request.contract else "model"
        raise ConfigError("file-missing", f"no {what} file {missing[0]}")


def explained(error: Exception) -> str:
    """Return what is wrong with a word of the request, without the schema's own language where that says little."""
    text = str(error)
    found = (f"{field} expected {expected}" for field, expected in _EXPECTED.items() if f"`$.{field}" in text)
    return next(found, text)


_EXPECTED = {
    "release": "a version of three numbers, such as 1.2.0",
    "name": "small letters, digits and dashes, such as wearable",
    "formats": "tflite or onnx",
    "by": "macs or ops",
}


def _check_words(request: Request) -> None:
    try:
        msgspec.convert(msgspec.to_builtins(request, enc_hook=str), Request, dec_hook=lambda kind, value: kind(value))
    except msgspec.ValidationError as error:
        raise ConfigError("argument-invalid", explained(error)) from error
    _check_there(request)
    if not request.targets:
        raise ConfigError("argument-invalid", "no target is named", hint="Give --target; see `edge targets list`.")
    if not 0 <= request.max_drop < 1:
        raise ConfigError("argument-invalid", f"max_drop expected a fraction in [0, 1), got {request.max_drop}")
    if request.min_speedup is not None and request.min_speedup <= 0:
        raise ConfigError("argument-invalid", f"min_speedup expected a ratio above 0, got {request.min_speedup}")
    if request.fail_on_fallback is not None and not 0 <= request.fail_on_fallback <= 1:
        message = f"fail_on_fallback expected a share from 0 to 1, got {request.fail_on_fallback}"
        raise ConfigError("argument-invalid", message)
    if request.repair and not request.gate:
        raise ConfigError("argument-invalid", "repair needs the gate, which is off")
    off = " and ".join(word for word in ("gate", "doctor") if not getattr(request, word))
    if off and not request.reason:
        message = f"the {off} {'are' if ' ' in off else 'is'} off without a reason"
        raise ConfigError("argument-invalid", message, hint="Give --reason; it is recorded.")
    if request.gate and request.evaluation is None:
        raise ConfigError("argument-invalid", "the gate has no data to judge by", hint="Give --evaluation.")
    if request.out.exists() and not (request.force and request.out.is_dir()):
        hint = "Choose another folder, or give --force." if request.out.is_dir() else "Give --out a folder of its own."
        raise ConfigError("file-exists", f"{request.out} exists", hint=hint)
    check_writable(request.out)


def _sources(models: tuple[Path, ...]) -> dict[SourceFormat, Source]:
    sources: dict[SourceFormat, Source] = {}
    for path in models:
        source = open_source(path)
        if source.format in sources:
            both = f"{sources[source.format].path.name} and {path.name}"
            raise ConfigError("argument-invalid", f"two {source.format} models are given: {both}")
        sources[source.format] = source
    if not sources:
        raise ConfigError("argument-invalid", "no model is given")
    return sources


def _metric(request: Request, contract: Contract, evaluation: DataSet | None) -> str:
    if evaluation is None:
        return request.metric or AGREEMENT
    kind = truth_kind(evaluation)
    return check_metric(request.metric or default_metric(contract, kind), contract, kind)


def _data(request: Request, contract: Contract) -> dict[str, DataSet]:
    given = {"calibration": request.calibration, "evaluation": request.evaluation, "truth": request.truth}
    check_columns((request.evaluation, request.calibration, request.truth))
    made = (request.cache_dir or default_cache_dir()) / "data"
    files = {name: as_npz(path, contract, made) for name, path in given.items() if path is not None}
    with _said_of({files[name]: path for name, path in given.items() if path is not None}):
        return _checked(request, contract, files)


def _checked(request: Request, contract: Contract, files: Mapping[str, Path]) -> dict[str, DataSet]:
    data = {name: open_data(path, contract, labelled=name == "truth") for name, path in files.items()}
    doctored = {"calibration"} if request.doctor else set[str]()
    rows = {name: check_values(opened, values=name not in doctored) for name, opened in data.items()}
    for judge in [name for name in ("evaluation", "truth") if name in data]:
        if "calibration" in data:
            check_overlap(data["calibration"], rows["calibration"], data[judge], rows[judge])
    return data


@contextlib.contextmanager
def _said_of(names: Mapping[Path, Path]) -> Iterator[None]:
    """Speak of what the user gave, where an error speaks of the file that was made of it."""
    try:
        yield
    except ConfigError as error:
        message = error.message
        for made, given in names.items():
            for row in set(re.findall(re.escape(str(made)) + r": row (\d+) ", message)):
                message = message.replace(f"{made}: row {row} ", f"{given}: {place(given, int(row))} ")
            message = message.replace(str(made), str(given))
        raise ConfigError(error.code, message, hint=error.hint) from error
