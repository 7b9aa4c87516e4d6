"""What the gateway says of itself in the Open Inference Protocol, the same over both wires."""

from ergonaut_gateway.domain.models import ModelRecord

SERVER_NAME = "ergonaut"
EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "parameters", "statistics")
"""Extensions that this server understands."""

PLATFORM = "onnxruntime_onnx"
BACKEND = "onnxruntime"
"""What models are, in the protocol's words."""

PIPELINE_PLATFORM = "ergonaut_pipeline"
PIPELINE_BACKEND = "ergonaut"
"""What pipelines are, which have no file of their own."""


def platform_of(record: ModelRecord) -> tuple[str, str]:
    """Platform and backend of what answers."""
    return (PLATFORM, BACKEND) if record.file else (PIPELINE_PLATFORM, PIPELINE_BACKEND)
