"""The names of the model server types, which the operator's profiles and the agent's adapters share.

A name is what ``builtInAdapter.serverType`` of a runtime says, and the folder or file of the type on either side.
"""

from typing import Final

MLSERVER: Final = "mlserver"
TRITON: Final = "triton"
TORCHSERVE: Final = "torchserve"
MULTI_MODEL_SERVER: Final = "mms"
DJL_SERVING: Final = "djl"
OPENVINO_MODEL_SERVER: Final = "ovms"
SAGEMAKER: Final = "sagemaker"
"""Any container by SageMaker's contract for many models."""
KSERVE: Final = "kserve"
"""KServe's Python server."""
