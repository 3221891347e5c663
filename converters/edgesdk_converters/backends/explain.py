"""What the lint says where a vendor's tool only says that it failed: the operators that it stumbles over, and the cure.

A tool's last words name an allocation that failed or a line of its own source; what to change in the model they do not.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import msgspec

from edgesdk.errors import EdgeError, ReleaseError
from edgesdk.targets.profiles import Profile
from edgesdk_converters.lint.check import check
from edgesdk_converters.lint.read import read_graph
from edgesdk_converters.lint.report import Finding
from edgesdk_converters.running.isolation import Call

EXPLAINED = frozenset({"tool-crashed", "tool-did-nothing"})
MOST_NAMED = 3
FLOAT = "Or try --recipe float16: the tool then quantizes nothing."
"""Where the tool itself was to quantize."""
Action = Callable[[Call], dict[str, Any]]


def explained(action: Action) -> Action:
    """Return a compile action whose failures have the lint's findings for a cure.

    Its call has the target's profile as ``params["profile"]``; without findings the error is the tool's.
    """

    @functools.wraps(action)
    def compile_model(call: Call) -> dict[str, Any]:
        try:
            return action(call)
        except ReleaseError as error:
            cures = [_cure(call), FLOAT if call.params.get("precision") == "int8" else ""]
            cure = " ".join(each for each in cures if each)
            if error.code not in EXPLAINED or not cure:
                raise
            raise ReleaseError(error.code, error.message, hint=cure) from error

    return compile_model


def _cure(call: Call) -> str:
    if "profile" not in call.params:
        return ""
    try:
        report = check(read_graph(call.inputs["artifact"]), msgspec.convert(call.params["profile"], Profile))
    except EdgeError:  # the tool's own words must do
        return ""
    serious = sorted((each for each in report.findings if each.effect != "slow"), key=lambda each: each.effect)
    worst = [each for each in serious if each.effect == "refused"] or serious
    named = {(each.op, each.rule): each for each in reversed(worst)}
    if not named:
        return ""
    words = [_words(each) for each in list(named.values())[-1 : -MOST_NAMED - 1 : -1]]
    more = f"; and {len(named) - MOST_NAMED} more" if len(named) > MOST_NAMED else ""
    return f"`edge lint` finds: {'; '.join(words)}{more}."


def _words(finding: Finding) -> str:
    where = " ".join(word for word in (finding.op, finding.node) if word)
    return f"{where}: {finding.found} (must: {finding.limit}). {finding.rewrite.rstrip('.')}".removeprefix(": ")
