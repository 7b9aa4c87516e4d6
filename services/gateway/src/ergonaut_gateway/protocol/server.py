"""What the gateway says of itself in the Open Inference Protocol, the same over both wires."""

SERVER_NAME = "ergonaut"
EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository", "parameters", "statistics")
"""Extensions that this server understands."""

PLATFORM = "onnxruntime_onnx"
"""What all models are, in the protocol's words."""
