"""Rules per accelerator: data and small pure functions."""

from __future__ import annotations

from edgesdk.targets.profiles import Profile
from edgesdk_converters.lint.graph import GraphFormat
from edgesdk_converters.lint.rules.rule import RuleSet


def find_rules(profile: Profile, graph_format: GraphFormat) -> RuleSet:
    """Return the rules of a target.

    Raises:
        TargetError: ``runtime-missing`` if none are known for the target and the format.
    """
    from edgesdk_converters.lint.rules import vela

    return vela.U85 if "u85" in profile.name else vela.U55
