"""`edgesdk.Model`: a model by name, always the generation that this device is to serve.

    with edgesdk.Model("wearable", contract=1) as model:
        answer = model.classify(window)
        print(answer.label, answer.confidence, "from release", answer.release)

The device's agent puts generations in place and decides; apps follow its slots files and need it for nothing else.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import ArrayLike

from edgesdk.app.follower import Follower
from edgesdk.app.reporter import Reporter, app_name
from edgesdk.app.view import Answer, View
from edgesdk.contract import Contract
from edgesdk.errors import ContractError
from edgesdk.generation import store_path
from edgesdk.runtime.codec import Array


class Prediction(NamedTuple):
    """The answer of a classification.

    Attributes:
        label: The top class.
        confidence: Its score.
        scores: The score of every class, by label.
        release: The release that answered.
        generation: The generation that answered.
        slot: ``good`` or ``trial``; ``good`` also when it answered for a trial that could not.
    """

    label: str
    confidence: float
    scores: dict[str, float]
    release: str
    generation: str
    slot: Literal["good", "trial"]


class Model:
    """A model that follows what the device serves. Safe to call from several threads; calls never wait for a swap.

    Args:
        name: The model's name.
        contract: The major version of the contract that the app was written for; None: any.
        store: The store's folder; else ``EDGESDK_STORE``, else the agent's default.
        app: The app's name in evidence; else ``EDGESDK_APP``, else the script's name.
        wait_s: How long to wait, in seconds, until something serves.

    Raises:
        ContractError: ``model-none-served`` or ``contract-major``.
        DeploymentError: ``generation-missing``, ``store-corrupt`` or ``runtime-conflict``.
        ReleaseError: ``artifact-unloadable`` or ``artifact-mismatch``.
        TargetError: ``runtime-missing`` or ``runtime-too-old``.
    """

    def __init__(
        self,
        name: str,
        *,
        contract: int | None = None,
        store: str | os.PathLike[str] | None = None,
        app: str | None = None,
        wait_s: float = 0.0,
    ) -> None:
        self.name = name
        folder = store_path(store)
        self._follower = Follower(folder, name, contract, Reporter(folder, name, app_name(app)))
        self._follower.start(wait_s)
        # Also runs at the interpreter's exit, so that the last counters are sent.
        self._finalizer = weakref.finalize(self, self._follower.stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __call__(self, value: ArrayLike) -> Any:
        """Return the only output for the only input; a dict when the contract has several outputs.

        Raises:
            ContractError: Also ``input-missing`` when the contract has several inputs.
        """
        outputs = self._answer(value).outputs
        return next(iter(outputs.values())) if len(outputs) == 1 else outputs

    def predict(self, inputs: Mapping[str, ArrayLike]) -> dict[str, Array]:
        """Return the contract's outputs by name for inputs by name, in the app's units.

        Raises:
            ContractError: ``input-*`` when the inputs do not fit the contract; ``model-none-served``.
            ReleaseError: ``output-nan`` or ``inference-failed``, when no generation can answer.
        """
        return self._answer(inputs).outputs

    def classify(self, value: ArrayLike | Mapping[str, ArrayLike]) -> Prediction:
        """Return the top class for one example: an array for the only input, or arrays by name.

        Raises:
            ContractError: ``task-mismatch`` when the model is no classifier or the answer is not for one example;
                else as `predict`.
            ReleaseError: As `predict`.
        """
        answer = self._answer(value)
        contract = answer.by.manifest.contract
        scores = answer.outputs[contract.outputs[0].name]
        flat = scores.ravel()
        labels = contract.labels or tuple(str(index) for index in range(flat.size))
        if contract.task != "classification" or scores.shape[-1:] != (flat.size,) or len(labels) != flat.size:
            message = f"{self.name!r} does {contract.task} and answered an array of shape {list(scores.shape)}"
            raise ContractError("task-mismatch", f"{message}; expected a classification of one example")
        top = int(np.argmax(flat))
        record = answer.by.record
        return Prediction(
            label=labels[top],
            confidence=float(flat[top]),
            scores=dict(zip(labels, flat.tolist(), strict=True)),
            release=record.release,
            generation=record.generation,
            slot=answer.slot,
        )

    @property
    def contract(self) -> Contract:
        """The contract of what serves now."""
        return self._view().serving.manifest.contract

    @property
    def release(self) -> str:
        """The release that serves now."""
        return self._view().serving.record.release

    @property
    def generation(self) -> str:
        """The generation that serves now."""
        return self._view().serving.generation

    @property
    def slot(self) -> Literal["good", "trial"]:
        """Whether what serves now is good or on trial."""
        return self._view().slot

    def close(self) -> None:
        """Stop following, send the last counters, free the model; a second call does nothing."""
        self._finalizer()

    def _answer(self, value: ArrayLike | Mapping[str, ArrayLike]) -> Answer:
        view = self._follower.enter()
        try:
            return view.answer(value if isinstance(value, Mapping) else {_only_input(view): value})
        finally:
            view.calls.pop()

    def _view(self) -> View:
        view = self._follower.view
        if view is None:
            raise self._follower.error()
        return view


def _only_input(view: View) -> str:
    contract = view.serving.manifest.contract
    states = {state.input for state in contract.states}
    names = [spec.name for spec in contract.inputs if spec.name not in states]
    if len(names) != 1:
        raise ContractError("input-missing", f"the contract has the inputs {names}; pass them by name to predict")
    return names[0]
