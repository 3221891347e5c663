"""What calls see: one immutable view of who serves, replaced as a whole by the watcher."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from numpy.typing import ArrayLike

from edgesdk.app.ledger import Note
from edgesdk.app.loaded import Loaded
from edgesdk.errors import ContractError, EdgeError, ReleaseError
from edgesdk.runtime.codec import Array, not_finite
from edgesdk.runtime.session import Timings

FOREIGN_ERROR = "inference-failed"


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call gave, and who gave it."""

    outputs: dict[str, Array]
    by: Loaded
    slot: Literal["good", "trial"]


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """Who serves now.

    Attributes:
        serving: The generation that is called.
        slot: ``good`` or ``trial``.
        fallback: During a trial the good generation, which answers when the trial cannot.
        calls: One token per call under way. Appending and popping are atomic, so no lock is needed.
    """

    serving: Loaded
    slot: Literal["good", "trial"]
    fallback: Loaded | None = None
    calls: deque[None] = field(default_factory=deque)

    @property
    def members(self) -> tuple[Loaded, ...]:
        """The generations that this view needs."""
        return (self.serving,) if self.fallback is None else (self.serving, self.fallback)

    def answer(self, inputs: Mapping[str, ArrayLike]) -> Answer:
        """Answer one call, by the fallback if the serving generation raises or gives NaN or infinity.

        Raises:
            ContractError: ``input-*``: the inputs do not fit the contract.
            ReleaseError: ``output-nan`` or ``inference-failed``, when nobody can answer.
        """
        timings: Timings | None = None
        try:
            outputs, timings = self.serving.session.run_timed(inputs)
            bad = not_finite(outputs)
            if not bad:
                self.serving.ledger.note(_note(self.serving, outputs, timings))
                return Answer(outputs, self.serving, self.slot)
            names = ", ".join(map(repr, bad))
            raise ReleaseError("output-nan", f"output {names} of {_title(self.serving)} holds NaN or infinity")  # noqa: TRY301 - treated as the errors below
        except Exception as error:
            instead = self._by_fallback(inputs)
            self.serving.ledger.note(_failure(error, timings, by_good=instead is not None))
            if instead is None:
                raise
            return instead

    def _by_fallback(self, inputs: Mapping[str, ArrayLike]) -> Answer | None:
        if self.fallback is None:
            return None
        try:
            outputs, timings = self.fallback.session.run_timed(inputs)
        except Exception:  # noqa: BLE001 - the first error is the one to report
            return None
        if not_finite(outputs):
            return None
        self.fallback.ledger.note(_note(self.fallback, outputs, timings))
        return Answer(outputs, self.fallback, "good")


def _failure(error: Exception, timings: Timings | None, *, by_good: bool) -> Note:
    if isinstance(error, ContractError) and not by_good:
        return Note(reject=True)  # nobody could take these inputs: they are the caller's mistake
    code = error.code if isinstance(error, EdgeError) else FOREIGN_ERROR
    if code == "output-nan":
        return Note(timings=timings, nan=True, by_good=by_good)
    return Note(error=code, by_good=by_good)


def _note(loaded: Loaded, outputs: dict[str, Array], timings: Timings) -> Note:
    contract = loaded.manifest.contract
    if contract.task != "classification" or not contract.labels:
        return Note(timings=timings)
    scores = outputs[contract.outputs[0].name]
    if scores.shape[-1:] != (len(contract.labels),):  # a symbolic size may turn out otherwise
        return Note(timings=timings)
    scores = scores.reshape(-1, scores.shape[-1])
    tops = scores.argmax(-1).tolist()
    return Note(
        timings=timings,
        labels=tuple(contract.labels[top] for top in tops),
        confidences=tuple(scores.max(-1).tolist()),
    )


def _title(loaded: Loaded) -> str:
    return f"{loaded.record.model} {loaded.record.release}"
