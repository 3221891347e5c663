"""`draft_contract` and `check_contract`: from files to files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast, get_args

from edgesdk.contract import Contract, Task
from edgesdk.durable import write_atomic
from edgesdk.errors import ConfigError
from edgesdk_converters.drafting.draft import Facts, draft
from edgesdk_converters.drafting.facts import read_facts
from edgesdk_converters.drafting.fit import fit
from edgesdk_converters.drafting.marks import unchecked
from edgesdk_converters.drafting.ports import Ports, Told, read_ports
from edgesdk_converters.request import read_contract


class Drafted(NamedTuple):
    """A first contract.

    Attributes:
        text: As TOML.
        notes: What is to be known of the model, as sentences.
    """

    text: str
    notes: list[str]


def draft_contract(
    model: Path,
    *,
    data: Sequence[Path] = (),
    task: str | None = None,
    out: Path | None = None,
    force: bool = False,
    told: Told | None = None,
) -> Drafted:
    """Return a first contract as TOML, and write it where `out` says.

    Args:
        model: Whatever `edge convert` takes.
        data: What tells ranges and names of classes: one set, or several (what calibrates and what judges).
        task: None: a guess.
        out: The file.
        force: Whether an existing file is replaced.
        told: Is told what takes long.

    Raises:
        ConfigError: ``argument-invalid``, ``file-exists``, ``file-missing``, ``model-format``, ``data-invalid`` or
            ``dependency-missing``.
    """
    if task is not None and task not in get_args(Task):
        raise ConfigError("argument-invalid", f"task expected one of {', '.join(get_args(Task))}, got {task!r}")
    if out is not None and out.exists() and not force:
        raise ConfigError("file-exists", f"{out} exists", hint="Choose another file, or give --force.")
    asked = cast("Task | None", task)
    ports = read_ports(model, told)
    if not ports.inputs or not ports.outputs:
        raise ConfigError("model-format", f"{model} has no inputs or no outputs")
    facts = Facts() if not data else read_facts(data, ports, asked)
    text = draft(ports, model.name, facts, asked)
    if out is not None:
        write_atomic(out, text.encode())
    return Drafted(text, list(_of_model(model, ports)))


def check_contract(contract: Path, model: Path, told: Told | None = None) -> dict[str, Any]:
    """Return which tensor of a contract is which of a model, and what in it was never checked by a person.

    Raises:
        ConfigError: ``contract-mismatch``, ``config-invalid``, ``file-missing`` or ``model-format``;
            ``argument-invalid`` if one was given for the other.
    """
    if model.suffix == ".toml" and contract.suffix != ".toml":
        message = f"{contract} was given as the contract, and {model} as the model"
        raise ConfigError("argument-invalid", message, hint=f"Exchange them: edge contract check {model} {contract}")
    read = read_contract(contract)
    ports = read_ports(model, told)
    return {"tensors": fit(read, ports), "notes": [*_of_model(model, ports), *_of_contract(read, contract.read_text())]}


def _of_model(model: Path, ports: Ports) -> Iterator[str]:
    if ports.quantized:
        yield f"{model.name} is quantized already; `edge convert` takes the float model that it was made from"


def _of_contract(contract: Contract, text: str) -> Iterator[str]:
    if marked := unchecked(text):
        yield marked
    floats = [spec for spec in contract.inputs if spec.dtype == "float32" and spec.shape]
    if floats and all(spec.normalisation is None for spec in floats):
        yield "no input is normalised: right only if training did nothing, or the model does it itself"
