"""Measure an artifact in a vendor's own runtime or simulator: the same samples, codecs and figures as in ours."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from edgesdk.contract import Binding, Bindings, Contract, TensorSpec
from edgesdk.errors import ReleaseError
from edgesdk.runtime import RawTensor, Timings
from edgesdk.runtime.codec import check_input, decoder, encoder
from edgesdk_converters.backends import Backend
from edgesdk_converters.backends.conversation import Conversation, converse
from edgesdk_converters.backends.described import raw_tensors
from edgesdk_converters.data.binding import bind
from edgesdk_converters.data.npz import open_data
from edgesdk_converters.evaluate.measure import answer
from edgesdk_converters.running.environments import ensure, run_tool
from edgesdk_converters.running.isolation import Call

TOOLS = Path(__file__).parent / "tools"
REQUEST, ANSWER = "request.json", "answer.json"
NOT_DATA = frozenset({"artifact", "source", "calibration"})


@dataclass(frozen=True, kw_only=True)
class Served:
    """A model that a tool runs.

    Attributes:
        request: What the tool's script is asked.
        inputs: As a runtime describes them; None: the tool says it.
        outputs: The same.
    """

    request: dict[str, Any]
    inputs: list[RawTensor] | None = None
    outputs: list[RawTensor] | None = None


def compile_with(backend: Backend, request: dict[str, Any], *, work: Path, call: Call) -> tuple[dict[str, Any], str]:
    """Let a tool's script compile; return its answer and everything that the tool printed.

    Raises:
        ReleaseError: ``tool-crashed``, ``tool-timeout`` or ``tool-did-nothing``.
    """
    python = ensure(backend.environment)
    made = call.out / backend.file
    (work / REQUEST).write_text(json.dumps({**request, "compiled": str(made)}))
    arguments = [str(TOOLS / f"{backend.name}_tool.py"), "compile", REQUEST, ANSWER]
    expected = [work / ANSWER, made]
    ran = run_tool(
        python,
        arguments,
        cwd=work,
        timeout_s=call.tool_timeout_s,
        environment=dict(backend.variables),
        expect=expected,
    )
    return json.loads((work / ANSWER).read_bytes()), ran.stdout + ran.stderr


def measure_with(backend: Backend, served: Callable[[Path], Served], call: Call) -> dict[str, Any]:
    """Run all samples in a tool's script and write the outputs; see `measure.measure`.

    Args:
        backend: Whose environment and script.
        served: What to ask the script, given its working folder.
        call: The child action's call; its inputs but `NOT_DATA` are data sets.

    Raises:
        ReleaseError: ``tool-crashed`` or ``tool-timeout``.
        ConfigError: ``contract-mismatch``.
    """
    python = ensure(backend.environment)
    contract = msgspec.convert(call.params["contract"], Contract)
    sets = {name: path for name, path in call.inputs.items() if name not in NOT_DATA}
    data = {name: open_data(path, contract, labelled=False) for name, path in sets.items()}
    with tempfile.TemporaryDirectory(dir=call.out.parent) as folder:
        work = Path(folder)
        asked = served(work)
        (work / REQUEST).write_text(json.dumps(asked.request))
        arguments = [str(TOOLS / f"{backend.name}_tool.py"), "serve", REQUEST, ANSWER]
        talk = converse(python, arguments, cwd=work, timeout_s=call.tool_timeout_s, extra=dict(backend.variables))
        with talk as conversation:
            conversation.ready()
            said = json.loads((work / ANSWER).read_bytes())
            inputs, outputs = (getattr(asked, name) or raw_tensors(said[name]) for name in ("inputs", "outputs"))
            bindings = bind(contract, inputs, outputs)
            answered = answer(Caller(contract, bindings, conversation), data, call)
    head = {"bindings": msgspec.to_builtins(bindings), "runtime": said["title"], "provider": backend.name}
    return {**head, **answered}


class Caller:
    """Calls a tool as a `Session` calls its backend: checked, normalised, quantized, and back."""

    def __init__(self, contract: Contract, bindings: Bindings, conversation: Conversation) -> None:
        self._specs = {spec.name: spec for spec in contract.inputs}
        self._inputs = [(each, encoder(self._specs[each.tensor], each)) for each in _ordered(bindings.inputs)]
        outputs = {spec.name: spec for spec in contract.outputs}
        self._outputs = [(each, decoder(outputs[each.tensor], each)) for each in _ordered(bindings.outputs)]
        self._conversation = conversation

    def __call__(self, sample: dict[str, NDArray[Any]]) -> tuple[dict[str, NDArray[Any]], Timings]:
        """Return the contract's outputs of one sample."""
        symbols: dict[str, int] = {}
        begin = perf_counter()
        raw = [code(self._checked(each.tensor, sample, symbols)) for each, code in self._inputs]
        ready = perf_counter()
        answers = self._conversation.ask(raw)
        done = perf_counter()
        if len(answers) != len(self._outputs):
            message = f"the tool answered {len(answers)} arrays, expected {len(self._outputs)}"
            raise ReleaseError("artifact-mismatch", message)
        outputs = {
            each.tensor: code(np.asarray(array).reshape(_shape(each, array)))
            for (each, code), array in zip(self._outputs, answers, strict=True)
        }
        end = perf_counter()
        return outputs, Timings((ready - begin) * 1e3, (done - ready) * 1e3, (end - done) * 1e3)

    def _checked(self, name: str, sample: dict[str, NDArray[Any]], symbols: dict[str, int]) -> NDArray[Any]:
        spec: TensorSpec = self._specs[name]
        return check_input(spec, sample[name], symbols)


def _ordered(bindings: tuple[Binding, ...]) -> list[Binding]:
    return sorted(bindings, key=lambda each: each.index)


def _shape(binding: Binding, array: NDArray[Any]) -> tuple[int, ...]:
    """Return the shape that the artifact promised: simulators drop or add dimensions of 1."""
    fixed = [size for size in binding.shape if isinstance(size, int)]
    whole = len(fixed) == len(binding.shape) and int(np.prod(fixed)) == np.asarray(array).size
    return tuple(fixed) if whole else tuple(np.asarray(array).shape)
