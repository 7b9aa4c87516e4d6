"""What the peers' programs share: the model that they serve, on one thread. Each is run by its peer's own Python."""

import os
from typing import Any

import numpy as np
import onnxruntime

MODEL = os.environ["BENCH_MODEL"]
HOST = "127.0.0.1"
HTTP_PORT = int(os.environ["BENCH_HTTP_PORT"])
GRPC_PORT = int(os.environ["BENCH_GRPC_PORT"])
METRICS_PORT = int(os.environ["BENCH_METRICS_PORT"])
BATCH_MAX = 32
"""As many as there are callers at once."""

BATCH_WAIT_SECONDS = 0.001


class Served:
    """The model; it takes rows in any shape that holds their numbers."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(MODEL, options, providers=["CPUExecutionProvider"])
        self.row_shape = self.session.get_inputs()[0].shape[1:]
        self.outputs = [output.name for output in self.session.get_outputs()]

    def __call__(self, rows: Any) -> dict[str, Any]:
        """Every output by its name."""
        shaped = np.asarray(rows, np.float32).reshape(-1, *self.row_shape)
        return dict(zip(self.outputs, self.session.run(self.outputs, {"X": shaped}), strict=True))
