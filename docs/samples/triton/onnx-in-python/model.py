"""Runs model.onnx, for servers that have the Python backend alone.

With Triton's ONNX Runtime backend the file is a model by itself (framework: onnx).
"""

import json
from pathlib import Path

import onnxruntime
import triton_python_backend_utils as backend


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.set_max_batch_size(0)
        config.add_input({"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 3]})
        config.add_output({"name": "y", "data_type": "TYPE_FP32", "dims": [-1, 1]})
        return config

    def initialize(self, args):
        # What spec.serving.threads says comes as a parameter of the model's configuration.
        parameters = json.loads(args["model_config"]).get("parameters", {})
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = int(parameters.get("intra_op_thread_count", {}).get("string_value", "1"))
        graph = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        self.session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])

    def execute(self, requests):
        answers = []
        for request in requests:
            values = backend.get_input_tensor_by_name(request, "x").as_numpy()
            (result,) = self.session.run(["y"], {"x": values})
            answers.append(backend.InferenceResponse([backend.Tensor("y", result)]))
        return answers
