"""Other tools on small real files: what they leave out, and where they stop. Why ours do it another way."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import numpy as np
import onnx
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter
from edgesdk_converters.recipes import RECIPES

NBITS = """
import sys
import numpy as np
import onnx
from onnx import numpy_helper
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
random = np.random.default_rng(0)
sizes = {"w": (64, 32), "b": (32,), "v": (32, 32)}
stored = [numpy_helper.from_array(random.normal(size=size).astype(np.float32), key) for key, size in sizes.items()]
value = onnx.helper.make_tensor_value_info
ends = [value(key, onnx.TensorProto.FLOAT, [1, size]) for key, size in (("x", 64), ("y", 32))]
nodes = [onnx.helper.make_node("Gemm", ["x", "w", "b"], ["h"]), onnx.helper.make_node("MatMul", ["h", "v"], ["y"])]
graph = onnx.helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
quantizer = MatMulNBitsQuantizer(model, bits=4, block_size=32)
quantizer.process()
onnx.save(quantizer.model.model, sys.argv[1])
"""
TO_ONNX = """
import json
import sys
import numpy as np
import tensorflow as tf
import tf2onnx
folder, other = sys.argv[1:]
random = np.random.default_rng(0)
kernel, bias, dense = (tf.constant(random.normal(size=size), tf.float32) for size in ((3, 3, 3, 8), (8,), (8, 4)))
@tf.function(input_signature=[tf.TensorSpec((1, 8, 8, 3), name="x")])
def network(x):
    hidden = tf.nn.relu(tf.nn.conv2d(x, kernel, 1, "SAME") + bias)
    return tf.matmul(tf.reduce_mean(hidden, [1, 2]), dense)
converter = tf.lite.TFLiteConverter.from_concrete_functions([network.get_concrete_function()])
converter.optimizations = [tf.lite.Optimize.DEFAULT]
converter.representative_dataset = lambda: ([random.normal(size=(1, 8, 8, 3)).astype(np.float32)] for _ in range(20))
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
converter.inference_input_type = converter.inference_output_type = tf.int8
open(folder + "/tensorflow.tflite", "wb").write(converter.convert())
said = {}
for name, path in (("tensorflow", folder + "/tensorflow.tflite"), ("litert-quantizer", other)):
    try:
        tf2onnx.convert.from_tflite(path, opset=17, output_path=folder + "/" + name + ".onnx")
    except Exception as error:
        said[name] = f"{type(error).__name__}: {error}"
json.dump(said, open(folder + "/said.json", "w"))
"""


def python(code, *arguments):
    """Run code in a child: these tools set up logging, threads and TensorFlow for the whole process."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def test_matmul_nbits_leaves_gemm_in_float(tmp_path):
    """The 4-bit quantizer of onnxruntime succeeds: the MatMul is quantized, the Gemm and its weights stay float."""
    python(NBITS, tmp_path / "model.onnx")
    model = onnx.load(tmp_path / "model.onnx")
    assert [node.op_type for node in model.graph.node] == ["Gemm", "MatMulNBits"]
    types = {entry.name: entry.data_type for entry in model.graph.initializer}
    assert types["w"] == onnx.TensorProto.FLOAT
    assert "v" not in types


@pytest.mark.slow
def test_tf2onnx_turns_tensorflows_int8_into_equal_qdq_and_stops_at_litert_quantizers(make, tmp_path):
    """One int8 file becomes ONNX with the same answers to the bit, the other "Graph has cycles"."""
    python(TO_ONNX, tmp_path, make(RECIPES["int8"], "tflite"))
    assert "Graph has cycles" in json.loads((tmp_path / "said.json").read_text()).pop("litert-quantizer")
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    session = onnxruntime.InferenceSession(tmp_path / "tensorflow.onnx", options)
    interpreter = Interpreter(str(tmp_path / "tensorflow.tflite"), num_threads=1)
    interpreter.allocate_tensors()
    place = [each()[0]["index"] for each in (interpreter.get_input_details, interpreter.get_output_details)]
    random = np.random.default_rng(1)
    for _ in range(50):
        x = random.integers(-128, 128, (1, 8, 8, 3), dtype=np.int8)
        interpreter.set_tensor(place[0], x)
        interpreter.invoke()
        (found,) = session.run(None, {session.get_inputs()[0].name: x})
        assert found.dtype == np.int8
        assert (found == interpreter.get_tensor(place[1])).all()
