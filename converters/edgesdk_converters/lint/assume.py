from edgesdk_converters.lint.graph import Graph
from edgesdk_converters.lint.rules.rule import RuleSet


def as_target_sees(graph: Graph, rules: RuleSet) -> Graph:
    return graph
