"""Rules per accelerator: data and small pure functions."""

from __future__ import annotations

from dataclasses import replace

from edgesdk.errors import TargetError
from edgesdk.targets.profiles import Profile
from edgesdk_converters.lint.graph import GraphFormat
from edgesdk_converters.lint.rules import cpu, qnn, rknn, tensorrt, vela
from edgesdk_converters.lint.rules.onnx_common import ceilings
from edgesdk_converters.lint.rules.rule import RuleSet

RULE_SETS: tuple[RuleSet, ...] = (
    vela.U55,
    vela.U65,
    vela.U85,
    tensorrt.TENSORRT,
    qnn.QNN,
    rknn.RKNN,
    cpu.TFLITE,
    cpu.ONNX,
)


def find_rules(profile: Profile, graph_format: GraphFormat) -> RuleSet:
    """Return the rules of a target.

    Args:
        profile: The target.
        graph_format: Format of the model; Ethos-U's rules are those of TFLite whatever it is, since that is what an
            ONNX model becomes for them.

    Raises:
        TargetError: ``runtime-missing`` if the target takes no model of that format.
    """
    rules = _compiled(profile) if profile.compiler is not None else _interpreted(profile, graph_format)
    if rules.format == "onnx" and graph_format == "tflite":
        raise TargetError(
            "runtime-missing",
            f"{profile.name} takes ONNX, not TFLite",
            hint="Give the ONNX export, or the .keras source.",
        )
    if rules.format == "tflite":
        return rules
    runtime = next((each for each in profile.runtimes if each.max_opset is not None), None)
    limits = ceilings(runtime, runtime.name) if runtime is not None else ()
    return replace(rules, graph_rules=(*limits, *rules.graph_rules))


def _compiled(profile: Profile) -> RuleSet:
    compiler = profile.compiler
    assert compiler is not None
    if compiler.name == "vela":
        kind = str(compiler.options.get("accelerator_config", profile.name))
        return next((rules for mark, rules in _VELA.items() if mark in kind), vela.U55)
    return {"tensorrt": tensorrt.TENSORRT, "qnn": qnn.QNN, "rknn": rknn.RKNN}[compiler.name]


def _interpreted(profile: Profile, graph_format: GraphFormat) -> RuleSet:
    profile.runtime("tflite" if graph_format == "tflite" else "onnxruntime")
    return cpu.TFLITE if graph_format == "tflite" else cpu.ONNX


_VELA = {"u55": vela.U55, "u65": vela.U65, "u85": vela.U85}
