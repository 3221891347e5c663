"""A first contract in TOML: what a model's file tells, what data tells, and guesses that are marked as such. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from edgesdk.contract import DType, Name, Task
from edgesdk_converters.drafting.marks import MARK
from edgesdk_converters.drafting.ports import Port, Ports

COLOURS = {1: "GRAY", 3: "RGB"}
MANY = 50
"""Classes above which nobody wants made-up names; without names they are called by their numbers."""
SYMBOL = 24
IMAGE_RANK, SERIES_RANK, ROWS_RANK = 4, 3, 2
_ANONYMOUS = re.compile(r"(?i)(output|identity|statefulpartitionedcall)[_:\d]*")


class Facts(NamedTuple):
    """What data adds.

    Attributes:
        labels: Names of the classes, in the model's order.
        ranges: Smallest and largest value by input.
        samples: How many were read.
        source: Where from, as the user called it.
    """

    labels: tuple[str, ...] = ()
    ranges: Mapping[str, tuple[float, float]] = {}
    samples: int = 0
    source: str = ""


class Guess(NamedTuple):
    """One line of TOML, and what is to be checked about it."""

    line: str
    check: str = ""


def draft(ports: Ports, name: str, facts: Facts | None = None, task: Task | None = None) -> str:
    """Return a contract as TOML that `edgesdk.contract.load_contract_toml` reads.

    Args:
        ports: What the model takes and gives.
        name: Of the model's file, for the first line.
        facts: What was read from data, if any was.
        task: None: a guess by the outputs.
    """
    facts = facts or Facts()
    lines = [
        Guess(f"# Drafted from {name}. The file knows sizes, not meanings: lines marked {MARK} want a person."),
        Guess('version = "1.0"'),
        *_task(ports, facts, task),
        *(guess for port in ports.inputs for guess in _input(port, ports, facts)),
        *(guess for port in ports.outputs for guess in _output(port, ports)),
    ]
    return "".join(_printed(guess) for guess in lines)


def tensor_names(ports: Ports) -> dict[str, str]:
    """Return the contract's name of every port: its own where the contract's rules allow it."""
    inputs = {port.name: _name(port.name, "input", place) for place, port in enumerate(ports.inputs)}
    return inputs | {port.name: _name(port.name, "output", place) for place, port in enumerate(ports.outputs)}


def guess_task(outputs: tuple[Port, ...]) -> Task:
    """Guess by the outputs: one row of several scores is a classification, one number a regression."""
    last = outputs[0].shape[-1] if outputs[0].shape else None
    if len(outputs) != 1 or len(outputs[0].shape) > ROWS_RANK or last is None:
        return "other"
    return "classification" if last > 1 else "regression"


def guess_layout(port: Port, *, channels_first: bool) -> str | None:
    """Guess what the axes are; None where rank and sizes tell nothing.

    Args:
        port: The input.
        channels_first: Whether models of this format mostly have channels first.
    """
    rank = len(port.shape)
    if rank == ROWS_RANK:
        return "NC"
    if rank == SERIES_RANK:
        early, late = port.shape[1:]
        if early is not None and late is not None and early != late:
            return "NCT" if early < late else "NTC"  # there are mostly fewer channels than moments
        return "NCT" if channels_first else "NTC"
    if rank != IMAGE_RANK:
        return None
    first, last = port.shape[1] in COLOURS, port.shape[-1] in COLOURS
    return "NCHW" if (channels_first and not (last and not first)) or (first and not last) else "NHWC"


def _task(ports: Ports, facts: Facts, asked: Task | None) -> Iterator[Guess]:
    task = asked or guess_task(ports.outputs)
    kinds = "classification, regression, detection, embedding or other"
    yield Guess(f'task = "{task}"', "" if asked else f"guessed by the outputs; {kinds}")
    last = ports.outputs[0].shape[-1] if ports.outputs[0].shape else None
    if task == "classification" and last:
        fit = len(facts.labels) == last
        labels = facts.labels if fit else tuple(f"class{index}" for index in range(last))
        check = f"in the model's order? from {facts.source}" if fit else "their names, in the model's order"
        if facts.labels and not fit:
            check += f" ({facts.source} has {len(facts.labels)} classes, the model {last})"
        off = "# " if not fit and last > MANY else ""
        shown = labels if fit or last <= MANY else (*labels[:2], "…")
        yield Guess(f"{off}labels = [{', '.join(_text(label) for label in shown)}]", check)


def _input(port: Port, ports: Ports, facts: Facts) -> Iterator[Guess]:
    name = tensor_names(ports)[port.name]
    yield from _head("inputs", port, name)
    layout = guess_layout(port, channels_first=ports.format in {"onnx", "pt2"})
    channels = None
    if layout is not None:
        yield Guess(f'layout = "{layout}"', "a letter per axis; C is where normalisation applies")
        channels = port.shape[layout.index("C")]
    if layout is not None and len(layout) == IMAGE_RANK and channels in COLOURS:
        yield Guess(f'colour = "{COLOURS[channels]}"', "RGB, BGR or GRAY")
    example = "0 to 255" if layout is not None and len(layout) == IMAGE_RANK else "metres, degrees a second"
    yield Guess(f'# unit = "{example}"', "what the numbers are, in the app's words")
    if name in facts.ranges:
        low, high = facts.ranges[name]
        check = f"seen in {facts.samples} samples of {facts.source}; is more plausible?"
        yield Guess(f"range = [{_number(low)}, {_number(high)}]", check)
    else:
        yield Guess("# range = [0.0, 255.0]", "what the app may pass; what lies outside is an error of the caller")
    if port.dtype == "float32" and port.shape:
        yield from _normalisation(channels, "255.0" if layout is not None and len(layout) == IMAGE_RANK else "1.0")


def _normalisation(channels: int | None, std: str) -> Iterator[Guess]:
    count = f"one number for all channels, or {channels}, one" if channels and channels > 1 else "one number"
    yield Guess("")
    yield Guess("# What training did to a sample before the model saw it, (x - mean) / std for each channel:")
    yield Guess("# [inputs.normalisation]", "leave it out only if training did nothing, or the model does it itself")
    yield Guess("# mean = [0.0]", f"{count} for each channel")
    yield Guess(f"# std = [{std}]")


def _output(port: Port, ports: Ports) -> Iterator[Guess]:
    yield from _head("outputs", port, tensor_names(ports)[port.name])
    if len(port.shape) == ROWS_RANK:
        yield Guess('layout = "NC"')


def _head(kind: str, port: Port, name: str) -> Iterator[Guess]:
    yield Guess("")
    yield Guess(f"[[{kind}]]")
    anonymous = "apps receive it by this name; give it a better one" if _ANONYMOUS.fullmatch(name) else ""
    renamed = f"the model calls it {port.name[:60]!r}, which apps could not" if name != port.name else anonymous
    yield Guess(f"name = {_text(name)}", renamed)
    still_open = [axis for axis, size in enumerate(port.shape) if axis and size is None]
    sizes = ", ".join(_size(name, axis, size) for axis, size in enumerate(port.shape))
    check = f"open in the model: fix size {', '.join(map(str, still_open))} here; only the batch may be open"
    yield Guess(f"shape = [{sizes}]", check if still_open else "")
    known = port.dtype in DType.__args__  # type: ignore[attr-defined] # a Literal has them
    if port.dtype != "float32" or not known:
        dtype = port.dtype if known else "float32"
        yield Guess(f'dtype = "{dtype}"', "" if known else f"the model says {port.dtype}")


def _size(name: str, axis: int, size: int | None) -> str:
    """Return a size; for an open one a symbol of its own, as one symbol has one value within a call."""
    if size is not None:
        return str(size)
    letters = re.sub("[^a-z0-9_]", "", name.lower()).lstrip("0123456789_")[:SYMBOL]
    return "1" if axis == 0 else f'"{letters or "size"}{axis}"'


def _name(name: str, kind: str, place: int) -> str:
    try:
        return msgspec.convert(name, Name)
    except msgspec.ValidationError:
        return kind if place == 0 else f"{kind}{place + 1}"


def _printed(guess: Guess) -> str:
    line = f"{guess.line}  # {MARK}: {guess.check}" if guess.check else guess.line
    return "".join(each if each.isprintable() else "?" for each in line) + "\n"


def _number(value: float) -> str:
    """Return a number with the digits that mean something, as TOML wants a float."""
    return repr(float(f"{value:.9g}"))


def _text(value: str) -> str:
    return msgspec.json.encode(value).decode()
