"""What runtimes read, by version, and that a model beyond it does not fit."""

from __future__ import annotations

import pytest

from edgesdk.bundle.manifest import Requirements, RuntimeRequirement
from edgesdk.runtime.packages import installed
from edgesdk.targets.ceilings import ceiling
from edgesdk.targets.matching import Capabilities, InstalledRuntime, problems, version_key
from edgesdk.targets.profiles import load_profile, profile_names


@pytest.mark.parametrize(
    ("version", "expected"),
    [("1.15.1", None), ("1.16.0", (19, 9)), ("1.18", (21, 10)), ("1.25.1", (21, 10)), ("1.32.0", (28, 14))],
)
def test_a_version_reads_at_least_what_the_row_before_it_says(version: str, expected: tuple[int, int] | None) -> None:
    """Between two rows the lower one counts; before the first nothing is known."""
    assert ceiling("onnxruntime", version_key(version)) == expected
    assert ceiling("tflite", version_key(version)) is None


def test_profiles_promise_no_more_than_the_table() -> None:
    """The oldest onnxruntime of every target reads what its profile lets converters make."""
    for name in profile_names():
        for runtime in load_profile(name).runtimes:
            for version in runtime.packages.values():
                found = ceiling(runtime.name, version_key(version))
                if found is not None and runtime.max_opset is not None and runtime.max_ir is not None:
                    assert found >= (runtime.max_opset, runtime.max_ir)


def test_the_installed_runtime_reads_what_the_table_says() -> None:
    """A model with exactly the operator set and IR version of the table is loaded by the onnxruntime that is here."""
    onnx = pytest.importorskip("onnx")
    ort = pytest.importorskip("onnxruntime")
    here = next(found for found in installed() if found.name == "onnxruntime")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    other = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [value], [other])
    opsets = [onnx.helper.make_opsetid("", here.max_opset)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=here.max_ir)
    assert ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]) is not None


@pytest.mark.parametrize(
    ("opset", "ir", "codes"),
    [
        (21, 10, []),
        (22, 10, ["opset-ceiling"]),
        (21, 11, ["opset-ceiling"]),
        (None, None, []),
    ],
)
def test_a_model_beyond_the_ceiling_does_not_fit(opset: int | None, ir: int | None, codes: list[str]) -> None:
    """The refusal names both figures and what to do; a runtime whose ceiling is not known is not judged."""
    needs = Requirements(
        runtimes=(RuntimeRequirement(name="onnxruntime", min_version="1.18"),),
        architectures=(),
        opset=opset,
        ir_version=ir,
    )
    here = InstalledRuntime(name="onnxruntime", package="onnxruntime", version="1.18.0", max_opset=21, max_ir=10)
    found = problems(needs, Capabilities(architecture="x86_64", runtimes=(here,)))
    assert [problem.code for problem in found] == codes
    if found:
        assert "reads 21 and 10" in found[0].message
        assert "export with opset 21" in found[0].hint
    unknown = InstalledRuntime(name="onnxruntime", package="onnxruntime", version="1.18.0")
    assert problems(needs, Capabilities(architecture="x86_64", runtimes=(unknown,))) == []
